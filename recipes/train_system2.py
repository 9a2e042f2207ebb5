"""Train System2: instruction and frames in; turns, stop, or the pixel to walk to out.

    python recipes/train_system2.py --data_root DATA                      # one GPU, or --use_cpu
    accelerate launch --config_file recipes/accelerate/ddp.yaml recipes/train_system2.py ...
    accelerate launch --config_file recipes/accelerate/zero2.yaml recipes/train_system2.py ...
    python recipes/train_system2.py recipes/demo_system2.yaml --max_steps 2   # file, then options

DATA holds `r2r/`, `rxr/`, ... of InternData-N1's `vln_ce/traj_data`, with a folder for each scene.

Defaults are the publication's (InternVLA-N1, DualVLN: arXiv 2512.08186): all of Qwen2.5-VL-7B, two
epochs of R2R and RxR from four cameras, AdamW at 2e-5 with cosine decay, 64 GPUs x 2 samples. With
fewer keep 128 a step by --gradient_accumulation_steps: the result is the same. This and the joint
stage took 1,500 GPU hours, as reported. --pixel_goal_loss_weight 1 adds our pixel-goal head.

--published documented (default) lets the vision tower learn at 5e-6, as was meant; executed at
learning_rate, as the code did. Not taken over from it: ignored image bounds, a limit of 8,192
tokens (a sample has 2,300), `%N` subsets and orders that differed by rank and run, checkpoints
without image processor.
"""

from dataclasses import dataclass
from typing import Any, Literal

from transformers import set_seed

from internnav_hf import System2Model, System2Policy, System2Processor
from internnav_hf.arguments.data import DATASET_NAMES, DialogueArguments
from internnav_hf.arguments.training import NavTrainingArguments, option, run_recipe
from internnav_hf.camera import stored_cameras
from internnav_hf.data import System2Collator, System2Dataset
from internnav_hf.data.tasks.common import SYSTEM2, check_datasets
from internnav_hf.evaluation.open_loop.system2 import evaluate_open_loop, scalars
from internnav_hf.training.trainer import NavTrainer, checkpoint_to_resume
from internnav_hf.training.tuning import TuningArguments, add_lora, set_trainable
from internnav_hf.weights.loading import check_is_checkpoint

CAMERAS = ("125cm_0_30", "125cm_0_45", "60cm_15_15", "60cm_30_30")
DATASETS = ",".join(f"{name}_{camera}" for name in ("r2r", "rxr") for camera in CAMERAS)


@dataclass
class ModelArguments(TuningArguments):
    """The base model, what is added to it, and (inherited) which of its parts learn."""

    vlm: str = option("Qwen/Qwen2.5-VL-7B-Instruct", "A Qwen-VL or System2: folder or Hub name.")
    published: Literal["documented", "executed"] = option(
        "documented", "The vision tower learns at 5e-6 (documented) or learning_rate (executed)."
    )
    pixel_goal_loss_weight: float = option(0.0, "Above 0, also train a pixel-goal head.", low=0)
    landmark_loss_weight: float = option(0.0, "Above 0, also learn to locate the object.", low=0)
    head_hidden_size: int = option(512, "Width of a new pixel-goal head.", low=1)
    attn_implementation: str | None = option(None, "Attention: sdpa or flash_attention_2.")


@dataclass
class DataArguments(DialogueArguments):
    """Training samples."""

    datasets: str = option(str(DATASETS), f"{DATASET_NAMES} From {SYSTEM2.words()}.")
    num_history: int | None = option(None, "Number of past frames; default: as --vlm, or 8.", low=0)
    history_size: list[int] | None = option(
        None, "Width and height of past frames; default: as --vlm, or 384.", low=1
    )
    stop_repeat: int = option(5, "How many times each stop is sampled.", low=1)
    pixel_goal_only: bool = option(False, "Leave out turns and stops.")


@dataclass
class System2TrainingArguments(NavTrainingArguments):
    """The published hyper-parameters."""

    output_dir: str = option("outputs/train_system2", "Checkpoints, logs and the final model.")
    learning_rate: float = option(2e-5, "Default learning rate.")
    lr_scheduler_type: str = option("cosine", "Schedule of all learning rates.")
    warmup_steps: float = option(0.003, "Warm-up steps; below 1, the share of all steps.")
    num_train_epochs: float = option(2.0, "Passes over the data.")
    per_device_train_batch_size: int = option(2, "Samples per GPU and forward pass.")
    gradient_checkpointing: bool | None = option(True, "Recompute activations to save memory.")


def main(model_args: ModelArguments, data_args: DataArguments, args: System2TrainingArguments):
    """Train, evaluate and save into `args.output_dir`."""
    args.check_evaluation(data_args.eval_datasets)
    check_datasets(SYSTEM2, data_args.data_root, data_args.datasets, data_args.eval_datasets)
    check_is_checkpoint("--vlm", model_args.vlm)
    checkpoint = checkpoint_to_resume(args)
    set_seed(args.seed)

    # ---------------------------------- data ----------------------------------
    history: dict[str, Any] = {}
    if data_args.num_history is not None:
        history["num_history"] = data_args.num_history
    if data_args.history_size is not None:
        history["history_size"] = data_args.history_size
    processor = System2Processor.from_pretrained(model_args.vlm, **history)
    shared = {
        "data_root": data_args.data_root,
        "processor": processor,
        "seed": args.seed,
        "sample_step": data_args.sample_step,
        "pixel_goal_only": data_args.pixel_goal_only,
        "landmarks": model_args.landmark_loss_weight > 0,
        "max_broken_fraction": data_args.max_broken_fraction,
        "cache_dir": data_args.cache_dir,
    }
    train_dataset = System2Dataset(
        datasets=data_args.datasets,
        stop_repeat=data_args.stop_repeat,
        augment=data_args.augment,
        **shared,
    )
    held_out = None
    if data_args.eval_datasets:
        held_out = System2Dataset(datasets=data_args.eval_datasets, stop_repeat=1, **shared)
    processor.camera = stored_cameras(train_dataset.cameras)

    # ---------------------------------- model ---------------------------------
    head = {"use_pixel_goal_head": True, "head_hidden_size": model_args.head_hidden_size}
    model: Any = System2Model.from_pretrained(
        model_args.vlm,
        image_width=train_dataset.image_size[0],
        image_height=train_dataset.image_size[1],
        attn_implementation=model_args.attn_implementation,
        dtype=args.weights_dtype,
        pixel_goal_loss_weight=model_args.pixel_goal_loss_weight,
        landmark_loss_weight=model_args.landmark_loss_weight,
        **(head if model_args.pixel_goal_loss_weight > 0 else {}),
    )
    if model_args.published == "documented" and model_args.vision_tower_learning_rate is None:
        model_args.vision_tower_learning_rate = 5e-6
    set_trainable(model, model_args, args)

    trained = add_lora(model, model_args.lora_rank) if model_args.lora_rank else model

    # -------------------------------- training --------------------------------
    def open_loop(dataset: System2Dataset, **drawn: Any) -> dict[str, float]:
        return scalars(evaluate_open_loop(System2Policy(model, processor), dataset, **drawn))

    NavTrainer(
        model=trained,
        args=args,
        parents=[model_args.vlm],
        train_dataset=train_dataset,
        eval_dataset=held_out,
        num_eval_samples=data_args.num_eval_samples,
        data_collator=System2Collator(processor.pad_token_id),
        processing_class=processor,
        open_loop=open_loop,
        packing_length=data_args.packing_length,
    ).run(resume_from_checkpoint=checkpoint)


if __name__ == "__main__":
    run_recipe(main, (ModelArguments, DataArguments, System2TrainingArguments), __doc__)
