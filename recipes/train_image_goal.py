"""Train GNM, ViNT or NoMaD: views and the view at a goal in; waypoints and the distance there out.

    accelerate launch --config_file recipes/accelerate/ddp.yaml recipes/train_image_goal.py \\
        --model vint --data_root DATA/recon DATA/sacson --splits SPLITS/recon/train \\
        SPLITS/sacson/train --eval_splits SPLITS/recon/test SPLITS/sacson/test
    ... --model nomad --data_root DATA/vln_n1        # any data with poses; --eval_groups hold out
    ... --model vint --init_from vint.pth            # go on from weights, ours or released
    python recipes/train_image_goal.py recipes/demo_image_goal.yaml --max_steps 2

DATA/recon holds trajectories as the publications have them: TRAJECTORY/0.jpg, ..., traj_data.pkl.
Every data set has its own waypoint spacing, which is measured. Defaults are the publications'
(arXiv 2210.03370, 2306.14846, 2310.07896), in float32:

                      gnm             vint              nomad
    optimiser         Adam .9, .98    AdamW             AdamW
    learning rate     7e-4            5e-4              1e-4
    samples a step    400             256               256
    epochs            30              100               100
    schedule          constant        4 of warm-up, cosine, by epoch
    weights           last            last              averaged (--average_power .75)

--published documented (default) warms up from a quarter of the rate, falls to 0 once and, for
NoMaD, learns distances of samples with a goal alone. executed begins with an epoch at rate 0, takes
NoMaD's schedule two steps an epoch, so that its rate rises again, takes the mean over all samples,
and lets norms and biases decay, too.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from transformers import set_seed

from internnav_hf.arguments import data
from internnav_hf.arguments.training import NavTrainingArguments, option, run_recipe
from internnav_hf.camera import stored_cameras
from internnav_hf.data import ImageGoalCollator, ImageGoalDatasets
from internnav_hf.evaluation.open_loop.image_goal import evaluate_image_goal_open_loop
from internnav_hf.training.image_goal import (
    ImageGoalTrainer,
    documented_shares,
    executed_shares,
    image_goal_model,
    open_image_goals,
    stored_spacing,
)
from internnav_hf.training.trainer import checkpoint_to_resume

# learning rate, epochs, samples a step, Adam's second beta, weight decay; range of goals whose
# waypoints count
PUBLISHED = {
    "gnm": (7e-4, 30, 400, 0.98, 0.0, (2, 10)),
    "vint": (5e-4, 100, 256, 0.999, 0.01, (0, 10)),
    "nomad": (1e-4, 100, 256, 0.999, 0.01, (3, 20)),
}


@dataclass
class ModelArguments:
    """Initial weights and sizes."""

    init_from: str | None = option(None, "Weights to continue from: ours or released ones.")
    model_config: str | None = option(None, "YAML or JSON file with other sizes, for a new model.")


@dataclass
class DataArguments(data.DataArguments):
    """Training samples."""

    data_root: list[str] = field(metadata={"help": "Data sets; all are trained on."})  # pyright: ignore[reportIncompatibleVariableOverride]
    groups: list[str] | None = option(None, "Groups to train on; default: all but --eval_groups.")
    eval_groups: list[str] | None = option(None, "Held-out groups, of whichever data set has them.")
    splits: list[str] | None = option(None, "Folders or files of names, one for each data set.")
    eval_splits: list[str] | None = option(None, "The same of held-out trajectories.")
    waypoint_spacing: list[float] | None = option(None, "Metres a frame; default: measured.")
    end_slack: list[int] = field(
        default_factory=lambda: [3],
        metadata={"help": "Frames at the end without samples, for all data sets or each."},
    )
    stride: int = option(1, "Frames between two waypoints, and between two views.", low=1)
    longest_goal: int = option(20, "Strides to the farthest goal.", low=1)
    crop: bool = option(True, "Crop images to 4 to 3, as published.")
    goal_drop_share: float = option(0.5, "NoMaD: share of hidden goals.", low=0, high=1)
    mirrored_share: float = option(0.0, "Samples seen in a mirror; published: 0.", low=0, high=1)
    keep_images: bool = option(False, "Keep images that were read, at their size here, in memory.")


@dataclass
class ImageGoalTrainingArguments(NavTrainingArguments):
    """The published hyper-parameters."""

    model: Literal["gnm", "vint", "nomad"] = option("vint", "Model to train.")
    published: Literal["documented", "executed"] = option(
        "documented", "Learning rates, decay and NoMaD's loss of distances, as meant or executed."
    )
    learning_rate: float | None = option(None, "Default: as published.")  # pyright: ignore[reportIncompatibleVariableOverride]
    num_train_epochs: float | None = option(None, "Default: as published.")  # pyright: ignore[reportIncompatibleVariableOverride]
    per_device_train_batch_size: int | None = option(None, "Default: as published.")  # pyright: ignore[reportIncompatibleVariableOverride]
    adam_beta2: float | None = option(None, "Default: as published.")  # pyright: ignore[reportIncompatibleVariableOverride]
    weight_decay: float | None = option(None, "Default: as published.")  # pyright: ignore[reportIncompatibleVariableOverride]
    lr_scheduler_type: str | None = option(None, "Instead of the published rates by epoch.")  # pyright: ignore[reportIncompatibleVariableOverride]
    warmup_epochs: int = option(4, "ViNT, NoMaD: epochs of rising rates.", low=0)
    average_power: float | None = option(None, "Average weights; default: 0.75 for NoMaD.")
    max_grad_norm: float = option(1e6, "Clip the gradient's norm; published: no clipping.")
    output_dir: str = option("outputs/train_image_goal", "Checkpoints, logs and the final model.")
    save_strategy: str = option("epoch", "When to write a checkpoint.")
    eval_strategy: str = option("epoch", "When to evaluate, if there is held-out data.")
    bf16: bool = option(False, "Compute in bfloat16.")

    def __post_init__(self):
        self.keeps_published_rates = self.lr_scheduler_type is None and self.model != "gnm"
        self.lr_scheduler_type = self.lr_scheduler_type or "constant"
        self.decays_vectors = self.published == "executed"
        names = ("learning_rate", "num_train_epochs", "per_device_train_batch_size")
        names = (*names, "adam_beta2", "weight_decay")
        for name, value in zip(names, PUBLISHED[self.model], strict=False):
            setattr(self, name, value if getattr(self, name) is None else getattr(self, name))
        if self.average_power is None and self.model == "nomad":
            self.average_power = 0.75
        super().__post_init__()

    @property
    def epoch_shares(self) -> Any:
        """Shares of the learning rate by epoch; None if it is not by epoch."""
        if not self.keeps_published_rates:
            return None
        if self.published == "documented":
            return partial(documented_shares, warmup=self.warmup_epochs)
        steps = 2 if self.model == "nomad" else 1
        return partial(executed_shares, warmup=self.warmup_epochs, steps_per_epoch=steps)


def main(model_args: ModelArguments, data_args: DataArguments, args: ImageGoalTrainingArguments):
    """Train, evaluate and save into `args.output_dir`."""
    args.check_evaluation(data_args.eval_groups or data_args.eval_splits)
    checkpoint = checkpoint_to_resume(args)
    set_seed(args.seed)

    # ------------------------------ model and data ----------------------------
    model = image_goal_model(
        args.model, model_args.init_from, model_args.model_config, args.published
    )
    actions = PUBLISHED[args.model][-1]
    train_dataset, held_out = open_image_goals(model, data_args, actions, args.seed)
    model.config.waypoint_spacing_m = stored_spacing(train_dataset.spacings)
    model.config.camera = stored_cameras(train_dataset.cameras)
    model.config.crop_images = data_args.crop

    # -------------------------------- training --------------------------------
    def open_loop(dataset: ImageGoalDatasets, **drawn: Any) -> dict[str, float]:
        return evaluate_image_goal_open_loop(model, dataset, **drawn)

    ImageGoalTrainer(
        model=model,
        args=args,
        parents=[model_args.init_from],
        train_dataset=train_dataset,
        eval_dataset=held_out,
        num_eval_samples=data_args.num_eval_samples,
        data_collator=ImageGoalCollator(),
        open_loop=open_loop,
        epoch_shares=args.epoch_shares,
        average_power=args.average_power,
    ).run(resume_from_checkpoint=checkpoint)


if __name__ == "__main__":
    run_recipe(main, (ModelArguments, DataArguments, ImageGoalTrainingArguments), __doc__)
