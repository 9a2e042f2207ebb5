"""Packs of samples: as many in a forward pass as a number of tokens allows, instead of a fixed
number of samples.

The plan is made once, from the lengths that a data set knows without reading its samples, and is
the same in every process and epoch: an epoch and a resumed run differ in the order of the packs
alone, which is Trainer's. A loss is a mean over the tokens of a whole optimisation step, so it does
not matter how samples are shared out among packs.
"""

from bisect import bisect_left, insort
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from internnav_hf.training.samples import Numbered, NumberedCollator, name_of


def plan_packs(lengths: Sequence[int] | np.ndarray, packing_length: int, seed: int) -> list[list]:
    """Indices of samples in packs of at most `packing_length` tokens, every sample once.

    Best fit, longest samples first; those of one length in an order by the seed.
    """
    lengths = np.asarray(lengths)
    order = np.random.default_rng(seed).permutation(len(lengths))
    order = order[np.argsort(-lengths[order], kind="stable")]
    packs: list[list[int]] = []
    by_room: dict[int, list[list[int]]] = {}
    rooms: list[int] = []  # the keys, ascending
    for index, length in zip(order.tolist(), lengths[order].tolist(), strict=True):
        place = bisect_left(rooms, length)
        if place == len(rooms):
            room, pack = packing_length, []
            packs.append(pack)
        else:
            room = rooms[place]
            pack = by_room[room].pop()
            if not by_room[room]:
                del by_room[room], rooms[place]
        pack.append(index)
        if room - length not in by_room:
            insort(rooms, room - length)
        by_room.setdefault(room - length, []).append(pack)
    return packs


def check_lengths(dataset: Any, packing_length: int) -> np.ndarray:
    """Return the `lengths` of `dataset`; ValueError if it has none, or one that fits in no pack."""
    if not hasattr(dataset, "lengths"):
        raise ValueError(
            "packing_length: the training set does not say how long its samples are (`lengths`)."
        )
    lengths = np.asarray(dataset.lengths)
    longest = int(lengths.argmax())
    if lengths[longest] > packing_length:
        raise ValueError(
            f"packing_length: found {packing_length}, but {(lengths > packing_length).sum()} of "
            f"{len(lengths)} samples are longer, {name_of(dataset, longest)} most; expected at "
            f"least its {lengths[longest]} tokens."
        )
    return lengths


class Packed(Numbered):
    """The samples of a `Numbered` in packs, for `PackedCollator`."""

    def __init__(self, dataset: Any, packs: list[list]):
        super().__init__(dataset)
        self.packs = packs

    def __len__(self) -> int:
        return len(self.packs)

    def __getitem__(self, index: int) -> Any:
        return [Numbered.__getitem__(self, sample) for sample in self.packs[index]]


class PackedCollator(NumberedCollator):
    """The samples of all packs as one batch."""

    def __call__(self, packs: Sequence[Any]) -> Any:
        """See the class."""
        return super().__call__([*chain.from_iterable(packs)])
