"""Train iPlanner or ViPlanner: a depth image (and classes) and a point in, a path out. No labels.

    accelerate launch --config_file recipes/accelerate/ddp.yaml recipes/train_planner.py \\
        --planner iplanner --data_root DATA
    ... --groups simulated_train --eval_groups simulated_val_unseen    # held-out environments
    ... --pairs graph                                   # goals all around, not on the robot's path
    ... --model CHECKPOINT                              # go on from one, ours or released

The network learns what its paths cost on maps, made once and cached. DATA is one of iPlanner's or
ViPlanner's folders, or walks of any format. Defaults are the publications' (arXiv 2302.11434,
2310.00982; one GPU):

                  iplanner                            viplanner
    optimiser     AdamW 1e-4, decay 1e-3              SGD 2e-3, momentum 0.1, decay 1e-4
    batch         128, at most 50 epochs              64, at most 100 epochs
    rate          x 0.1 after 4 epochs without gain   x 0.5 after 3, down to 1e-5
                  down to 1e-6; ends there            ends there
    goals         1, 6, ... 21 frames ahead           a graph of free steps, most of them in view

--published documented (default) trains batch norm; executed freezes its statistics from the second
epoch on, as iPlanner's code does, and lets norms and biases decay, too, as both do.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from transformers import set_seed

from internnav_hf.arguments.training import NavTrainingArguments, option, run_recipe
from internnav_hf.camera import stored_cameras
from internnav_hf.data import PlannerCollator, PlannerDataset
from internnav_hf.data.tasks.planner import training_groups
from internnav_hf.evaluation.open_loop.planners import evaluate_planner_open_loop
from internnav_hf.training.planners import (
    PairArguments,
    PlannerTrainer,
    map_settings,
    seen_fields,
    start_planner,
)
from internnav_hf.training.trainer import checkpoint_to_resume

PUBLISHED = {
    "iplanner": {
        "optim": "adamw_torch",
        "learning_rate": 1e-4,
        "weight_decay": 1e-3,
        "per_device_train_batch_size": 128,
        "num_train_epochs": 50.0,
        "lr_scheduler_kwargs": {"factor": 0.1, "patience": 4, "min_lr": 1e-6},
    },
    "viplanner": {
        "optim": "sgd",
        "learning_rate": 2e-3,
        "weight_decay": 1e-4,
        "per_device_train_batch_size": 64,
        "num_train_epochs": 100.0,
        "lr_scheduler_kwargs": {"factor": 0.5, "patience": 3, "min_lr": 1e-5},
    },
}


@dataclass
class ModelArguments:
    """The model and its initial weights."""

    model: str | None = option(None, "Planner to continue from: folder, file or Hub name.")
    model_config: str | None = option(None, "YAML or JSON file with other sizes, for a new model.")
    second_image: Literal["semantics", "rgb", "none"] | None = option(
        None, "Seen by a new viplanner; default: semantics, or as --model_config."
    )


@dataclass
class DataArguments(PairArguments):
    """Training samples."""

    data_root: str = field(metadata={"help": "Folder of environments, or of groups of scenes."})
    groups: list[str] | None = option(None, "Environments or groups to train on; default: all.")
    eval_groups: list[str] | None = option(None, "Held-out ones, for metrics while training.")
    held_out_fraction: float = option(0.1, "Pairs held out, if no --eval_groups.", low=0, high=0.9)
    map_reach: float = option(12.0, "Metres of the map around a robot.", above=0)


@dataclass
class PlannerTrainingArguments(NavTrainingArguments):
    """The published hyper-parameters."""

    planner: Literal["iplanner", "viplanner"] = option("iplanner", "Which of the two.")
    published: Literal["documented", "executed"] = option(
        "documented",
        "Batch norm that learns, no decay of vectors; or frozen after an epoch, decay.",
    )
    momentum: float = option(0.1, "Of SGD.", low=0, high=1)
    optim: str | None = option(None, "Default: as the planner's.")  # pyright: ignore[reportIncompatibleVariableOverride]
    learning_rate: float | None = option(None, "Default: as the planner's.")  # pyright: ignore[reportIncompatibleVariableOverride]
    weight_decay: float | None = option(None, "Default: as the planner's.")  # pyright: ignore[reportIncompatibleVariableOverride]
    per_device_train_batch_size: int | None = option(None, "Default: as the planner's.")  # pyright: ignore[reportIncompatibleVariableOverride]
    num_train_epochs: float | None = option(None, "Default: as the planner's.")  # pyright: ignore[reportIncompatibleVariableOverride]
    lr_scheduler_type: str = option("reduce_lr_on_plateau", "By the loss on what is held out.")
    load_best_model_at_end: bool = option(True, "Keep the best model, not the last.")
    output_dir: str = option("outputs/train_planner", "Checkpoints, logs and the final model.")
    save_strategy: str = option("epoch", "When to write a checkpoint.")
    eval_strategy: str = option("epoch", "When to evaluate.")
    bf16: bool = option(False, "Compute in bfloat16.")

    def __post_init__(self):
        is_plateau = self.lr_scheduler_type == "reduce_lr_on_plateau"
        for name, value in PUBLISHED[self.planner].items():
            if getattr(self, name) is None and (is_plateau or not name.startswith("lr_scheduler")):
                setattr(self, name, value)
        self.decays_vectors = self.published == "executed"
        super().__post_init__()


def main(model_args: ModelArguments, data_args: DataArguments, args: PlannerTrainingArguments):
    """Train, evaluate and save into `args.output_dir`."""
    checkpoint = checkpoint_to_resume(args)
    set_seed(args.seed)

    # ---------------------------------- model ---------------------------------
    own = seen_fields(args.planner, model_args.second_image, model_args.model)
    model = start_planner(args.planner, own, model_args.model, model_args.model_config)
    config = model.config

    # ---------------------------------- data ----------------------------------
    shared: dict[str, Any] = {
        "data_root": data_args.data_root,
        "image_height": config.image_height,
        "image_width": config.image_width,
        "max_depth_m": config.max_depth_m,
        "second_image": model.second_image,
        "map_settings": map_settings(model, data_args.follows_ground, data_args.map_rule),
        "pairs": data_args.pairs_for(args.planner),
        "frame_stride": data_args.frame_stride,
        "pair_rules": data_args.rules,
        "map_reach_m": data_args.map_reach,
        "noise": data_args.noise,
        "held_out_fraction": 0.0 if data_args.eval_groups else data_args.held_out_fraction,
        "seed": args.seed,
        "max_broken_fraction": data_args.max_broken_fraction,
        "cache_dir": data_args.cache_dir,
    }
    groups = training_groups(data_args.data_root, data_args.groups, data_args.eval_groups)
    train_dataset = PlannerDataset(groups=groups, **shared)
    held_out = None
    if data_args.eval_groups or data_args.held_out_fraction:
        shared |= {"groups": data_args.eval_groups or groups, "training": False}
        held_out = PlannerDataset(**shared)
    config.camera = stored_cameras(train_dataset.cameras)

    # -------------------------------- training --------------------------------
    PlannerTrainer(
        model=model,
        args=args,
        parents=[model_args.model],
        train_dataset=train_dataset,
        eval_dataset=held_out,
        num_eval_samples=data_args.num_eval_samples,
        data_collator=PlannerCollator(),
        open_loop=partial(evaluate_planner_open_loop, model),
        momentum=args.momentum,
        freeze=args.published == "executed",
    ).run(resume_from_checkpoint=checkpoint)


if __name__ == "__main__":
    run_recipe(main, (ModelArguments, DataArguments, PlannerTrainingArguments), __doc__)
