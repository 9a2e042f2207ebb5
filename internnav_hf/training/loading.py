"""The samples of training batches: their order, and how many are in each."""

from typing import Any

from torch.utils.data import IterableDataset
from transformers import Trainer

from internnav_hf.training.packing import Packed, PackedCollator, check_lengths, plan_packs
from internnav_hf.training.sampler import SetEpochCallback, length_groups
from internnav_hf.training.samples import Numbered, NumberedCollator


class TrainingSamples(Trainer):
    """Trainer with samples in groups of about equal length, or in packs, and with their indices."""

    model: Any
    packs: list[list] | None = None
    _set_epoch: SetEpochCallback

    def pack(self, packing_length: int) -> None:
        """Train on packs of at most so many tokens, computed without padding. The batch size then
        counts packs.

        Raises ValueError if a sample is longer.
        """
        args = self.args
        if args.train_sampling_strategy == "group_by_length":
            raise ValueError(
                "packing_length: packs have no padding; group_by_length: leave it out."
            )
        seed = args.seed if args.data_seed is None else args.data_seed
        lengths = check_lengths(self.train_dataset, packing_length)
        self.packs = plan_packs(lengths, packing_length, seed)
        self.model.drop_padding()

    def _get_train_sampler(self, train_dataset: Any = None):
        """Return Trainer's sampler; `group_by_length` uses the `lengths` of a training set."""
        self._set_epoch.sampler = length_groups(self.args, self.train_dataset)
        return self._set_epoch.sampler or super()._get_train_sampler(train_dataset)

    def _get_dataloader(self, dataset, description, *args, is_training: bool = False, **kwargs):
        """Return Trainer's loader; training batches record the indices of their samples."""
        given = self.data_collator
        if is_training and self.packs is not None:
            dataset, self.data_collator = Packed(dataset, self.packs), PackedCollator(given)
        elif is_training and not isinstance(dataset, IterableDataset):
            dataset, self.data_collator = Numbered(dataset), NumberedCollator(given)
        try:
            return super()._get_dataloader(
                dataset, description, *args, is_training=is_training, **kwargs
            )
        finally:
            self.data_collator = given
