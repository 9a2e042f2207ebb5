"""Length-grouped sampling, and a callback that sets the epoch."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import Sampler
from transformers import TrainerCallback, TrainingArguments
from transformers.trainer_pt_utils import get_length_grouped_indices


class LengthGroups(Sampler[int]):
    """Random order of samples in which those of a batch are about equally long.

    The order depends on seed and epoch alone: every process and every resumed run has the same.
    `batch_size` is that of an optimisation step, so that the order does not depend on how a step is
    split. transformers' own uses a state that neither checkpoints nor processes share.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int):
        self.lengths, self.batch_size, self.seed = list(map(int, lengths)), batch_size, seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, which has its own order."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator: Any = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = get_length_grouped_indices(self.lengths, self.batch_size, generator=generator)
        starts = range(0, len(order) - self.batch_size + 1, self.batch_size)
        # transformers puts the longest first; what does not fill a batch stays last
        for batch in torch.randperm(len(starts), generator=generator).tolist():
            yield from order[starts[batch] : starts[batch] + self.batch_size]
        yield from order[len(starts) * self.batch_size :]


def length_groups(args: TrainingArguments, dataset: Any) -> LengthGroups | None:
    """Return the sampler if `args` ask for groups and the dataset has `lengths`, else None."""
    if args.train_sampling_strategy != "group_by_length":
        return None
    lengths = getattr(dataset, "lengths", None)
    if lengths is None:
        return None
    step_size = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
    return LengthGroups(lengths, step_size, args.seed if args.data_seed is None else args.data_seed)


class SetEpochCallback(TrainerCallback):
    """Calls `set_epoch` of the training set, and of the `sampler` if there is one. accelerate's
    loaders do so in a single process only, and not for the rest of an epoch in which a run was
    interrupted.
    """

    sampler: LengthGroups | None = None

    def on_epoch_begin(self, args, state, control, train_dataloader=None, **kwargs):
        """Set the epoch before any of its samples is read."""
        epoch = int(state.epoch)
        if self.sampler is not None:
            self.sampler.set_epoch(epoch)
        set_epoch = getattr(train_dataloader.dataset, "set_epoch", None)
        if set_epoch is not None:
            set_epoch(epoch)
