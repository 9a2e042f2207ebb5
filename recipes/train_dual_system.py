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
too, its depth encoder learns, as does NextDiT's DINOv2. --published documented takes the steps that
gave the best result, 15,000 of nextdit_async or 30,000 of navdp_async; executed takes three epochs,
as the published script does. With fewer GPUs keep 128 samples a step by accumulation. Where System2
learns too (--lora_rank, ...), `latent_drift` is logged, and --distillation_weight holds it.

Not taken over: subsets and orders that differed by rank, checkpoints that no run could go on from.
"""

from dataclasses import asdict, dataclass, field
from typing import Literal

from torch.utils.data import Subset
from transformers import set_seed

from internnav_hf import DualSystemPolicy
from internnav_hf.arguments.training import NavTrainingArguments, option, run_recipe
from internnav_hf.camera import stored_cameras
from internnav_hf.data import DualSystemCollator, DualSystemDataset
from internnav_hf.data.formats.vln_ce.names import check_datasets
from internnav_hf.evaluation.open_loop.common import choose_samples
from internnav_hf.evaluation.open_loop.dual_system import evaluate_dual_open_loop
from internnav_hf.models.dual_system.start import (
    load_processor,
    parents_of,
    start_dual_system,
    starting_config,
)
from internnav_hf.training.latent_drift import drift_of
from internnav_hf.training.trainer import NavTrainer, checkpoint_to_resume
from internnav_hf.training.tuning import DualTuningArguments, add_lora, choose_what_learns

CAMERAS = {"r2r": "60cm_15_15", "rxr": "60cm_15_15", "scalevln": "60cm_30_30"}
DATASETS = ",".join(f"{n}_125cm_0_30%30,{n}_{camera}%30" for n, camera in CAMERAS.items())
EPOCHS = 3.0
BEST_STEPS = {"nextdit_async": 15_000, "navdp_async": 30_000, "nextdit": -1}


@dataclass
class ModelArguments(DualTuningArguments):
    """System2, the action expert, and (inherited) what of them learns."""

    system1: Literal["nextdit_async", "navdp_async", "nextdit"] = option(
        "nextdit_async", "The action expert: RGB, RGB-D, or the plan alone."
    )
    system2: str = option("InternRobotics/InternVLA-N1-System2", "A System2: folder or Hub name.")
    model: str | None = option(None, "A dual system to go on from, instead of --system2.")
    action_expert_config: str | None = option(None, "YAML or JSON file with other sizes.")
    vision_encoder: str = option("published", "What DINOv2 starts from: random, a path, a name.")
    published: Literal["documented", "executed"] = option("documented", "See the docstring.")
    num_queries: int = option(4, "Tokens of a plan.", low=1)
    num_probes: int = option(8, "Samples on which latent drift is measured.", low=1)
    distillation_weight: float = option(0.0, "Above 0, plans are held to the first.", low=0)


@dataclass
class DataArguments:
    """The samples."""

    data_root: str = field(metadata={"help": "Folder that holds r2r/, rxr/, ..."})
    datasets: str = option(str(DATASETS), "Names with their camera; %%30 keeps 30 percent.")
    eval_datasets: str | None = option(None, "Held-out scenes, for metrics while training.")
    num_eval_samples: int = option(500, "At most so many are evaluated.", low=1)
    num_trajectories: int = option(32, "Paths that the expert then samples for each.", low=1)
    sample_step: int = option(4, "Frames between two samples of an episode.", low=1)
    num_frames: int = option(12, "Most views of a sample, each with its path.", low=1)
    augment: bool = option(True, "Vary colour, contrast and sharpness of what System2 sees.")
    max_broken_fraction: float = option(
        0.01, "Refuse to start if more episodes are broken.", low=0, high=1
    )
    cache_dir: str | None = option(None, "Where the index is kept.")


@dataclass
class DualTrainingArguments(NavTrainingArguments):
    """The published hyper-parameters."""

    output_dir: str = option("outputs/train_dual_system", "Checkpoints, logs and the final model.")
    learning_rate: float = option(1e-4, "Of every module without its own.")
    lr_scheduler_type: str = option("cosine_with_min_lr", "Schedule of all learning rates.")
    lr_scheduler_kwargs: dict | str | None = option(  # noqa: RUF009
        None, 'Of it; default of cosine_with_min_lr: {"min_lr_rate": 0.1}.'
    )
    warmup_steps: float = option(0.003, "Steps; below 1 the share of all steps.")
    num_train_epochs: float | None = option(None, "Default: as --published.")  # pyright: ignore[reportIncompatibleVariableOverride]
    per_device_train_batch_size: int = option(2, "Samples on a GPU at a time.")
    gradient_checkpointing: bool | None = option(True, "Less memory for more time.")

    def __post_init__(self):
        if self.lr_scheduler_type == "cosine_with_min_lr" and self.lr_scheduler_kwargs is None:
            self.lr_scheduler_kwargs = {"min_lr_rate": 0.1}
        super().__post_init__()


def main(model_args: ModelArguments, data_args: DataArguments, args: DualTrainingArguments):
    """Train, evaluate and save into `args.output_dir`."""
    args.check_evaluation(data_args.eval_datasets)
    check_datasets(data_args.data_root, data_args.datasets, data_args.eval_datasets)
    checkpoint = checkpoint_to_resume(args)
    set_seed(args.seed)
    if model_args.published == "documented" and args.max_steps < 0 and not args.num_train_epochs:
        args.max_steps = BEST_STEPS[model_args.system1]
    args.num_train_epochs = args.num_train_epochs or EPOCHS
    start = (model_args.system2, model_args.model)
    sizes = (model_args.action_expert_config, model_args.num_queries)
    config = starting_config(model_args.system1, *start, *sizes)

    # ---------------------------------- data ----------------------------------
    base = model_args.model or model_args.system2
    processor = load_processor(base)
    expert = config.action_expert_config
    data = asdict(data_args) | {
        "processor": processor,
        "seed": args.seed,
        "image_size": expert.image_size,
        "action_horizon": expert.action_horizon,
        "depth": expert.uses_depth,
    }
    names, num_eval_samples = data.pop("eval_datasets"), data.pop("num_eval_samples")
    del data["num_trajectories"]
    train_dataset = DualSystemDataset(**data)
    held_out = DualSystemDataset(**data | {"datasets": names, "augment": False}) if names else None
    processor.camera = stored_cameras(train_dataset.cameras)
    collator = DualSystemCollator(processor.pad_token_id)

    # ---------------------------------- model ---------------------------------
    encoder, size = model_args.vision_encoder, train_dataset.image_size
    model = start_dual_system(config, *start, encoder, size, dtype=args.weights_dtype)
    choose_what_learns(model, model_args, args)
    trained = add_lora(model, model_args.lora_rank) if model_args.lora_rank else model

    # -------------------------------- training --------------------------------
    def open_loop(_) -> dict[str, float]:
        policy = DualSystemPolicy(model, processor, data_args.num_trajectories)
        return evaluate_dual_open_loop(policy, held_out, *how_many, args.seed)

    how_many = (num_eval_samples, args.eval_batch_size)
    chosen = choose_samples(len(held_out or ()), num_eval_samples, args.seed).tolist()
    probes = (model_args.num_probes, args.train_batch_size, args.seed)
    trainer = NavTrainer(
        model=trained,
        args=args,
        parents=parents_of(config, *start, encoder),
        train_dataset=train_dataset,
        eval_dataset=Subset(held_out, chosen) if held_out else None,
        data_collator=collator,
        processing_class=processor,
        open_loop=open_loop if held_out else None,
        drift=drift_of(model, train_dataset, collator, *probes, model_args.distillation_weight),
    )
    trainer.run(resume_from_checkpoint=checkpoint)


if __name__ == "__main__":
    run_recipe(main, (ModelArguments, DataArguments, DualTrainingArguments), __doc__)
