"""Train NavDP: colour memory, depth and a goal in; trajectories and what they are worth out.

    accelerate launch --config_file recipes/accelerate/ddp.yaml recipes/train_navdp.py \\
        --data_root DATA/vln_n1
    ... --eval_groups replica_d435i replica_zed      # held out, for metrics while training
    ... --model CHECKPOINT                           # go on from one, ours or released
    python recipes/train_navdp.py recipes/demo_navdp.yaml --max_steps 2   # file, then options

DATA/vln_n1 holds groups of scenes of InternData-N1's `vln_n1`: hssd_d435i/, ... Defaults are the
publication's (arXiv 2505.08712; 8 GPUs): 1,000 epochs of 50 draws an episode, Adam at 1e-4 in
float32, no decay or warm-up, 8 checkpoints kept. --published takes its tutorial or its code:

                           documented (default)      executed
    samples on a GPU       16                        32
    colour encoder         learns (finetune: True)   frozen
    optimiser, schedule    AdamW, cosine to 0        Adam, 5e-5 after 10,000 steps

Not taken over: one order for all epochs, goals that go by the row in a batch, and how pixels are
marked (as published: --pixel_goal_frame start --pixel_goal_height 0.2 --invisible_pixel none).
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from transformers import set_seed

from internnav_hf.arguments import data
from internnav_hf.arguments.training import NavTrainingArguments, option, read_fields, run_recipe
from internnav_hf.camera import stored_cameras
from internnav_hf.data import NavDPCollator, NavDPDataset
from internnav_hf.data.formats.vln_n1.reader import training_groups
from internnav_hf.data.tasks.common import NAVDP, check_groups
from internnav_hf.evaluation.open_loop.navdp import check_comparable, evaluate_navdp_open_loop
from internnav_hf.models.navdp.start import COLOUR_ENCODER, start_navdp
from internnav_hf.training.trainer import NavTrainer, checkpoint_to_resume

BATCH_SIZE = {"documented": 16, "executed": 32}
DATASET_OPTIONS = (
    *("data_root", "cache_dir", "memory_stride", "action_stride", "samples_per_episode"),
    *("single_goal_fraction", "goal_at_end_fraction", "blocked_goal_fraction"),
    *("pixel_goal_frame", "pixel_goal_height", "invisible_pixel", "collision_distance"),
    *("depth_scale", "max_broken_fraction"),
)


@dataclass
class ModelArguments:
    """The model and its initial weights."""

    model: str | None = option(None, "NavDP to continue from: folder, file or Hub name.")
    model_config: str | None = option(None, "YAML or JSON file with other sizes, for a new model.")
    rgb_encoder: str = option(COLOUR_ENCODER, "Initial DINOv2 weights: name, path or random.")
    train_rgb_encoder: bool | None = option(None, "Default: as --model_config or --published.")
    spread_attention: bool = option(False, "A new model's attention begins at places of depth.")


@dataclass
class DataArguments(data.DataArguments):
    """Training samples."""

    data_root: str = field(metadata={"help": f"Folder of groups of scenes: {NAVDP.words()}."})
    groups: list[str] | None = option(None, "Groups to train on; default: all but --eval_groups.")
    eval_groups: list[str] | None = option(None, "Held-out groups, for metrics while training.")
    num_trajectories: int = option(16, "Trajectories per evaluated sample and goal kind.", low=1)
    samples_per_episode: int = option(50, "Samples drawn from an episode in an epoch.", low=1)
    memory_stride: int = option(4, "Frames between two images of the memory.", low=1)
    action_stride: int = option(4, "Frames between two points of a path.", low=1)
    single_goal_fraction: float = option(
        0.0, "Share of samples with a single kind of goal.", low=0, high=1
    )
    goal_at_end_fraction: float = option(
        0.0, "Share of samples whose goal is the end of the episode.", low=0, high=1
    )
    blocked_goal_fraction: float = option(
        0.0, "Share of samples drawn until no straight line leads to the goal.", low=0, high=1
    )
    collision_distance: float = option(
        0.1, "Metres to an obstacle, |dx| + |dy|, that the critic counts as a collision.", above=0
    )
    pixel_goal_frame: str | None = option(
        None, "Frame of the marker.", choices=("start", "current")
    )
    pixel_goal_height: float = option(0.0, "Marker's height above the floor, in camera heights.")
    invisible_pixel: str = option("edge", "Mask of a goal out of view.", choices=("edge", "none"))
    depth_scale: float = option(10_000.0, "Units of a depth image per metre.", above=0)


@dataclass
class NavDPTrainingArguments(NavTrainingArguments):
    """The published hyper-parameters."""

    published: Literal["documented", "executed"] = option(
        "documented", "Batch size, colour encoder and schedule of the tutorial, or of its code."
    )
    per_device_train_batch_size: int | None = option(None, "Default: as --published.")  # pyright: ignore[reportIncompatibleVariableOverride]
    lr_scheduler_type: str | None = option(None, "Default: as --published.")  # pyright: ignore[reportIncompatibleVariableOverride]
    output_dir: str = option("outputs/train_navdp", "Checkpoints, logs and the final model.")
    learning_rate: float = option(1e-4, "Default learning rate.")
    num_train_epochs: float = option(1000.0, "Passes over the data.")
    save_strategy: str = option("epoch", "When to write a checkpoint.")
    save_total_limit: int | None = option(8, "How many checkpoints to keep.")
    eval_strategy: str = option("epoch", "When to evaluate, if there is held-out data.")
    dataloader_num_workers: int = option(8, "Data-loading processes per GPU.")
    bf16: bool = option(False, "Compute in bfloat16.")

    def __post_init__(self):
        batch_size = self.per_device_train_batch_size
        self.per_device_train_batch_size = (
            BATCH_SIZE[self.published] if batch_size is None else batch_size
        )
        if self.lr_scheduler_type is None and self.published == "executed":
            self.lr_scheduler_type = "polynomial"
            half = {"lr_end": self.learning_rate / 2}
            self.lr_scheduler_kwargs = self.lr_scheduler_kwargs or half
            self.lr_scheduler_steps = self.lr_scheduler_steps or 10_000
        self.lr_scheduler_type = self.lr_scheduler_type or "cosine"
        super().__post_init__()


def main(model_args: ModelArguments, data_args: DataArguments, args: NavDPTrainingArguments):
    """Train, evaluate and save into `args.output_dir`."""
    args.check_evaluation(data_args.eval_groups)
    groups = training_groups(data_args.data_root, data_args.groups, data_args.eval_groups)
    check_groups(NAVDP, data_args.data_root, groups, data_args.eval_groups)
    checkpoint = checkpoint_to_resume(args)
    set_seed(args.seed)

    # ---------------------------------- model ---------------------------------
    fields: dict[str, Any] = {"train_rgb_encoder": args.published == "documented"}
    fields |= read_fields(model_args.model_config) if model_args.model_config else {}
    if model_args.train_rgb_encoder is not None:
        fields["train_rgb_encoder"] = model_args.train_rgb_encoder
    source = (model_args.model, model_args.rgb_encoder, model_args.spread_attention)
    model = start_navdp(fields, *source)
    config = model.config

    # ---------------------------------- data ----------------------------------
    shared = {name: getattr(data_args, name) for name in DATASET_OPTIONS} | {
        "seed": args.seed,
        "image_size": config.image_size,
        "num_memory_frames": config.num_memory_frames,
        "action_horizon": config.action_horizon,
        "num_pixel_goal_channels": config.num_pixel_goal_channels,
        "slot_kinds": [kind for kind in config.goal_kinds if kind != "none"] or None,
    }
    train_dataset = NavDPDataset(groups=groups, **shared)
    config.camera = stored_cameras(train_dataset.cameras)
    held_out = None
    if data_args.eval_groups:
        held_out = NavDPDataset(groups=data_args.eval_groups, training=False, **shared)
        check_comparable(model, held_out)

    # -------------------------------- training --------------------------------
    NavTrainer(
        model=model,
        args=args,
        parents=[model_args.model or model_args.rgb_encoder],
        train_dataset=train_dataset,
        eval_dataset=held_out,
        num_eval_samples=data_args.num_eval_samples,
        data_collator=NavDPCollator(config.channel_order, config.action_scale),
        open_loop=partial(
            evaluate_navdp_open_loop, model, num_trajectories=data_args.num_trajectories
        ),
    ).run(resume_from_checkpoint=checkpoint)


if __name__ == "__main__":
    run_recipe(main, (ModelArguments, DataArguments, NavDPTrainingArguments), __doc__)
