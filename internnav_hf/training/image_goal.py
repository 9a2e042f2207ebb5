"""Training of GNM, ViNT and NoMaD: learning rates by epoch, and averaged weights.

documented    warm-up over the first epochs, then a cosine to 0
executed      as the published code does: epoch 0 at rate 0, the cosine from the epoch after the
              warm-up, by a recursion that begins a little above the rate; NoMaD takes two steps
              of it an epoch, so that the rate falls to 0 in the middle and rises again
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from transformers import TrainerCallback
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

from internnav_hf.data import ImageGoalDataset, ImageGoalDatasets
from internnav_hf.data.formats.vln_n1.reader import groups_by_root
from internnav_hf.data.tasks.image_goal_targets import SampleRules
from internnav_hf.field_files import read_fields
from internnav_hf.models.gnm.model import GNMModel
from internnav_hf.models.gnm.nomad import NoMaDModel
from internnav_hf.models.gnm.vint import ViNTModel
from internnav_hf.training.trainer import NavTrainer
from internnav_hf.weights.loading import check_is_checkpoint
from internnav_hf.weights.weight_files import share_weights

MODELS = {"gnm": GNMModel, "vint": ViNTModel, "nomad": NoMaDModel}
RAW_WEIGHTS = "raw_model.safetensors"
_LARGEST_DECAY = 0.9999


def documented_shares(num_epochs: int, warmup: int) -> list[float]:
    """Shares of the learning rate by epoch: linear warm-up, then a cosine to 0."""
    falling = max(num_epochs - warmup, 1)
    return [
        (epoch + 1) / warmup
        if epoch < warmup
        else (1 + math.cos(math.pi * (epoch - warmup) / falling)) / 2
        for epoch in range(num_epochs)
    ]


def executed_shares(num_epochs: int, warmup: int, steps_per_epoch: int = 1) -> list[float]:
    """Shares of the learning rate by epoch, as the published schedulers give them;
    `steps_per_epoch` is 2 for NoMaD.
    """

    def share(step: int) -> float:
        if step <= warmup:
            return step / warmup if warmup else 1.0
        turn, epoch = math.pi / num_epochs, step - warmup - 1
        # torch's recursion starts anew where the rate is 0
        highest = 1 + math.cos(turn) if epoch <= num_epochs else 2
        return (1 + math.cos(turn * epoch)) / highest

    return [share(epoch * steps_per_epoch) for epoch in range(num_epochs)]


def average_decay(step: int, power: float) -> float:
    """Weight of the average when the weights of optimisation step `step`, from 0, are added."""
    return 0.0 if step < 2 else min(1 - step**-power, _LARGEST_DECAY)


class WeightAverage(TrainerCallback):
    """Average of a model's weights over the steps of a training; buffers are the last ones."""

    def __init__(self, model: nn.Module, power: float):
        self.model, self.power = model, power
        self.weights = {name: value.detach().clone() for name, value in _state(model)}

    @torch.no_grad()
    def on_step_end(self, args, state, control, **kwargs):
        """Add the weights of this step."""
        decay = average_decay(state.global_step - 1, self.power)
        for name, value in _state(self.model):
            average = self.weights[name]
            is_parameter = isinstance(value, nn.Parameter)
            average.lerp_(value, 1 - decay) if is_parameter else average.copy_(value)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The model has the average, and then its own weights again."""
        own = {name: value.detach().clone() for name, value in _state(self.model)}
        self._fill(self.weights)
        try:
            yield
        finally:
            self._fill(own)

    @torch.no_grad()
    def _fill(self, weights: dict[str, Tensor]) -> None:
        for name, value in _state(self.model):
            value.copy_(weights[name])


class ImageGoalTrainer(NavTrainer):
    """NavTrainer with learning rates by epoch and averaged weights, both optional.

    Evaluations, checkpoints and the final model have the average; the weights themselves are in the
    checkpoint beside it, for a run that goes on.
    """

    def __init__(
        self,
        *args: Any,
        epoch_shares: Any = None,
        average_power: float | None = None,
        **kwargs: Any,
    ):
        """`epoch_shares(num_epochs)` are shares of the learning rate by epoch. `average_power`
        makes the average forget: 0.75 as published for NoMaD, None or 0 for no average.
        """
        super().__init__(*args, **kwargs)
        if epoch_shares is not None and self.args.warmup_steps:
            raise ValueError(
                f"--warmup_steps: found {self.args.warmup_steps:g}, expected 0: published rates "
                "are by epoch, see --warmup_epochs; --lr_scheduler_type asks for others."
            )
        self.epoch_shares = epoch_shares
        self.average: WeightAverage | None = None
        if average_power:
            if is_deepspeed_zero3_enabled() or self.is_fsdp_enabled:
                raise ValueError(
                    "average_power: found weights that processes share out (ZeRO-3, FSDP), "
                    "expected whole ones: pass --average_power 0, or launch with ddp.yaml."
                )
            self.average = WeightAverage(self.model.to(self.args.device), average_power)
            self.add_callback(self.average)

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None):
        """Create a scheduler of `epoch_shares`, or Trainer's."""
        if self.epoch_shares is None:
            return super().create_scheduler(num_training_steps, optimizer)
        if self.lr_scheduler is None:
            batch = self.args.train_batch_size * self.args.world_size
            whole = math.floor if self.args.dataloader_drop_last else math.ceil
            batches = whole(len(self.train_dataset) / batch)
            steps = max(math.ceil(batches / self.args.gradient_accumulation_steps), 1)
            shares = self.epoch_shares(max(math.ceil(num_training_steps / steps), 1))
            self.lr_scheduler = LambdaLR(
                self.optimizer if optimizer is None else optimizer,
                lambda step: shares[min(step // steps, len(shares) - 1)],
            )
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def evaluation_loop(self, *args: Any, **kwargs: Any):
        """Evaluate the average."""
        with self._averaged():
            return super().evaluation_loop(*args, **kwargs)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        if self.average is None:
            super()._save(output_dir, state_dict)
            return
        folder = Path(output_dir or self.args.output_dir)
        with self.average.applied():
            super()._save(output_dir, None)
        if self._staging is not None:  # a checkpoint
            own = {name: value.detach().cpu() for name, value in _state(self.model)}
            save_file(own, folder / RAW_WEIGHTS)
            share_weights(folder)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        if self.average is None:
            return
        file = Path(resume_from_checkpoint, RAW_WEIGHTS)
        if not file.is_file():
            raise ValueError(f"{file}: there is no such file; the run that saved it averaged none.")
        self.average.weights = {name: value.detach().clone() for name, value in _state(self.model)}
        self.average._fill(load_file(file))

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        if self.average is None:
            yield
            return
        with self.average.applied():
            yield


def image_goal_model(
    name: str, init_from: str | None, model_config: str | None, published: str = "documented"
) -> Any:
    """A new GNM, ViNT or NoMaD with the fields in the file `model_config`, or the one of a
    checkpoint, ours or released. `published` says which of NoMaD's losses of distances it has,
    whatever the checkpoint was trained with.

    Raises ValueError for weights that do not exist or do not fit.
    """
    model_class: Any = MODELS[name]
    fields: dict[str, Any] = read_fields(model_config) if model_config else {}
    if name == "nomad" and (init_from is not None or published == "executed"):
        fields["distance_mask"] = "batch" if published == "executed" else "sample"
    if init_from is None:
        return model_class(model_class.config_class(**fields))
    if not Path(init_from).is_file():
        check_is_checkpoint("--init_from", init_from)
    return model_class.from_pretrained(init_from, **fields)


def open_image_goals(
    model: Any, args: Any, actions: tuple[int, int], seed: int
) -> tuple[ImageGoalDatasets, ImageGoalDatasets | None]:
    """Training samples for `model`, and held-out ones if `args`, the recipe's, name any; `actions`
    are the nearest and the farthest goal, exclusive, whose waypoints count.
    """
    config, roots = model.config, args.data_root
    size = config.image_width, config.image_height
    shared = {
        "image_size": size,
        "crop": args.crop,
        "keep_images": args.keep_images,
        "goal_drop_share": args.goal_drop_share if isinstance(model, NoMaDModel) else None,
        "seed": seed,
        "max_broken_fraction": args.max_broken_fraction,
        "cache_dir": args.cache_dir,
    }
    slacks = _each("end_slack", args.end_slack, roots)
    spacings = _each("waypoint_spacing", args.waypoint_spacing, roots)
    rules = [
        SampleRules(
            num_memory_frames=config.num_memory_frames,
            action_horizon=config.action_horizon,
            stride=args.stride,
            end_slack=slack,
            longest_goal=args.longest_goal,
            nearest_action=actions[0],
            farthest_action=actions[1],
            predicts_heading=config.predicts_heading,
        )
        for slack in slacks
    ]

    def opened(part: int, **chosen: Any) -> ImageGoalDataset:
        spacing = chosen.pop("spacing", spacings[part])
        return ImageGoalDataset(
            roots[part], rules[part], waypoint_spacing_m=spacing, **shared, **chosen
        )

    groups = groups_by_root(roots, args.groups, args.eval_groups)
    splits = _each("splits", args.splits, roots)
    eval_splits = _each("eval_splits", args.eval_splits, roots)
    if args.eval_splits and not (args.splits or args.groups):
        raise ValueError(
            f"--eval_splits: found {args.eval_splits} without --splits, expected both: all "
            "trajectories would be trained on, those held out among them."
        )
    mirrored = {"mirrored_share": args.mirrored_share}
    parts = [
        opened(part, groups=chosen, split=splits[part], **mirrored)
        for part, (chosen, _) in enumerate(groups)
    ]
    kept = [
        opened(part, groups=held_out, split=split, training=False, spacing=spacing)
        for part, (split, (_, held_out)) in enumerate(zip(eval_splits, groups, strict=True))
        if split or held_out
        for spacing in [parts[part].waypoint_spacing_m]
    ]
    return ImageGoalDatasets(parts), ImageGoalDatasets(kept) if kept else None


def stored_spacing(spacings: dict[str, float]) -> float | dict[str, float]:
    """The field `waypoint_spacing_m` of a model trained with `spacings` by name of the data set."""
    return spacings if len(spacings) > 1 else next(iter(spacings.values()))


def _each(option: str, values: list[Any] | None, roots: list[str]) -> list[Any]:
    """One of `values` for each of `roots`."""
    if values is None or (len(values) == 1 and option == "end_slack"):
        return [None if values is None else values[0]] * len(roots)
    if len(values) != len(roots):
        raise ValueError(f"--{option}: found {len(values)}, expected {len(roots)}, as --data_root.")
    return values


def _state(model: nn.Module) -> list[tuple[str, Tensor]]:
    """Parameters and buffers by name."""
    return [*model.named_parameters(), *model.named_buffers()]
