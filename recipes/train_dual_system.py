"""Train the dual system: System2's plan and the robot's views in, trajectories out.

    accelerate launch --config_file recipes/accelerate/zero2.yaml recipes/train_dual_system.py \\
        --system1 nextdit_async --data_root DATA        # DualVLN: RGB, flow matching
    ... --system1 navdp_async ...                       # with NavDP*: RGB-D, DDPM
    ... --system1 nextdit ...                           # the older variant: the plan, no images
    python recipes/train_dual_system.py recipes/demo_dual.yaml --max_steps 2   # file, then options

DATA holds `r2r/`, `rxr/`, ... of InternData-N1's `vln_ce/traj_data`. --system2 is a System2, ours
or the released one; --model goes on from a dual system instead.

Defaults are the publication's (DualVLN: arXiv 2512.08186): System2 frozen, action expert and latent
queries at 1e-4 with cosine decay to 1e-5, 64 GPUs x 2 samples. NavDP*'s colour encoder is frozen
too, its depth encoder learns, as does NextDiT's DINOv2. --published documented (default) takes the
steps that gave the best result, 15,000 of nextdit_async or 30,000 of navdp_async; executed takes
three epochs, as the published script does. With fewer GPUs keep 128 samples a step by accumulation.
If System2 learns too (--lora_rank, ...), `latent_drift` is logged; --distillation_weight holds it.
Not taken over: subsets and orders that differed by rank, checkpoints that no run could go on from.
"""

from dataclasses import dataclass
from typing import Any, Literal

from transformers import set_seed

from internnav_hf import DualSystemPolicy, System2Processor
from internnav_hf.arguments.data import DATASET_NAMES, DialogueArguments
from internnav_hf.arguments.training import NavTrainingArguments, option, run_recipe
from internnav_hf.camera import stored_cameras
from internnav_hf.data import DualSystemCollator, DualSystemDataset
from internnav_hf.data.tasks.common import DUAL_SYSTEM, check_datasets
from internnav_hf.evaluation.open_loop.common import check_cameras
from internnav_hf.evaluation.open_loop.dual_system import evaluate_dual_open_loop
from internnav_hf.models.dual_system import start
from internnav_hf.training.latent_drift import drift_of
from internnav_hf.training.trainer import NavTrainer, checkpoint_to_resume
from internnav_hf.training.tuning import DualTuningArguments, add_lora, set_trainable

CAMERAS = {"r2r": "60cm_15_15", "rxr": "60cm_15_15", "scalevln": "60cm_30_30"}
DATASETS = ",".join(f"{n}_125cm_0_30%30,{n}_{camera}%30" for n, camera in CAMERAS.items())
EPOCHS = 3.0
BEST_STEPS = {"nextdit_async": 15_000, "navdp_async": 30_000}


@dataclass
class ModelArguments(DualTuningArguments):
    """System2, the action expert, and (inherited) which of their parts learn."""

    system1: str = option(
        "nextdit_async", "Name of the action expert.", choices=[*start.action_experts()]
    )
    system2: str = option("InternRobotics/InternVLA-N1-System2", "A System2: folder or Hub name.")
    model: str | None = option(None, "Dual system to continue from, instead of --system2.")
    action_expert_config: str | None = option(None, "YAML or JSON file with other sizes for it.")
    vision_encoder: str = option("published", "Initial DINOv2 weights: random, path or name.")
    published: Literal["documented", "executed"] = option(
        "documented", "documented: the steps that gave the best result; executed: three epochs."
    )
    num_queries: int = option(4, "Number of tokens in a plan.", low=1)
    num_probes: int = option(8, "Number of samples for measuring latent drift.", low=1)
    distillation_weight: float = option(0.0, "Loss weight that keeps plans near the first.", low=0)


@dataclass
class DataArguments(DialogueArguments):
    """Training samples."""

    datasets: str = option(str(DATASETS), f"{DATASET_NAMES} From {DUAL_SYSTEM.words()}.")
    num_trajectories: int = option(32, "Trajectories drawn per evaluated sample.", low=1)
    num_frames: int = option(12, "Maximum views per sample, each with its path.", low=1)


@dataclass
class DualTrainingArguments(NavTrainingArguments):
    """The published hyper-parameters."""

    output_dir: str = option("outputs/train_dual_system", "Checkpoints, logs and the final model.")
    learning_rate: float = option(1e-4, "Default learning rate.")
    lr_scheduler_type: str = option("cosine_with_min_lr", "Schedule of all learning rates.")
    lr_scheduler_kwargs: dict | str | None = option(
        None, 'Arguments of the schedule; default of cosine_with_min_lr: {"min_lr_rate": 0.1}.'
    )
    warmup_steps: float = option(0.003, "Warm-up steps; below 1, the share of all steps.")
    num_train_epochs: float | None = option(None, "Default: as --published.")  # pyright: ignore[reportIncompatibleVariableOverride]
    per_device_train_batch_size: int = option(2, "Samples per GPU and forward pass.")
    gradient_checkpointing: bool | None = option(True, "Recompute activations to save memory.")

    def __post_init__(self):
        if self.lr_scheduler_type == "cosine_with_min_lr" and self.lr_scheduler_kwargs is None:
            self.lr_scheduler_kwargs = {"min_lr_rate": 0.1}
        super().__post_init__()


def main(model_args: ModelArguments, data_args: DataArguments, args: DualTrainingArguments):
    """Train, evaluate and save into `args.output_dir`."""
    args.check_evaluation(data_args.eval_datasets)
    check_datasets(DUAL_SYSTEM, data_args.data_root, data_args.datasets, data_args.eval_datasets)
    checkpoint = checkpoint_to_resume(args)
    set_seed(args.seed)
    if model_args.published == "documented" and args.max_steps < 0 and not args.num_train_epochs:
        args.max_steps = BEST_STEPS.get(model_args.system1, -1)
    args.num_train_epochs = args.num_train_epochs or EPOCHS
    sources = (model_args.system2, model_args.model)
    config = start.starting_config(
        model_args.system1,
        *sources,
        expert_file=model_args.action_expert_config,
        num_queries=model_args.num_queries,
    )

    # ---------------------------------- data ----------------------------------
    processor = System2Processor.from_pretrained(model_args.model or model_args.system2)
    shared = {
        "data_root": data_args.data_root,
        "processor": processor,
        "seed": args.seed,
        "image_size": config.action_expert_config.image_size,
        "action_horizon": config.action_expert_config.action_horizon,
        "depth": config.action_expert_config.uses_depth,
        "num_frames": data_args.num_frames,
        "sample_step": data_args.sample_step,
        "max_broken_fraction": data_args.max_broken_fraction,
        "cache_dir": data_args.cache_dir,
    }
    augment, held_out = data_args.augment, None
    train_dataset = DualSystemDataset(datasets=data_args.datasets, augment=augment, **shared)
    processor.camera = stored_cameras(train_dataset.cameras)
    if data_args.eval_datasets:
        held_out = DualSystemDataset(datasets=data_args.eval_datasets, augment=False, **shared)
        check_cameras(processor.camera, held_out.cameras)
    collator = DualSystemCollator(processor.pad_token_id)

    # ---------------------------------- model ---------------------------------
    model = start.start_dual_system(
        config,
        *sources,
        vision_encoder=model_args.vision_encoder,
        image_size=train_dataset.image_size,
        dtype=args.weights_dtype,
    )
    set_trainable(model, model_args, args)
    trained = add_lora(model, model_args.lora_rank) if model_args.lora_rank else model

    # -------------------------------- training --------------------------------
    def open_loop(dataset: DualSystemDataset, **drawn: Any) -> dict[str, float]:
        policy = DualSystemPolicy(model, processor, data_args.num_trajectories)
        return evaluate_dual_open_loop(policy, dataset, **drawn)

    drift = drift_of(
        model, train_dataset, collator, args, model_args.num_probes, model_args.distillation_weight
    )
    NavTrainer(
        model=trained,
        args=args,
        parents=start.parents_of(config, *sources, model_args.vision_encoder),
        train_dataset=train_dataset,
        eval_dataset=held_out,
        num_eval_samples=data_args.num_eval_samples,
        data_collator=collator,
        processing_class=processor,
        open_loop=open_loop,
        packing_length=data_args.packing_length,
        drift=drift,
    ).run(resume_from_checkpoint=checkpoint)


if __name__ == "__main__":
    run_recipe(main, (ModelArguments, DataArguments, DualTrainingArguments), __doc__)
