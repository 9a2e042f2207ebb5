"""What policies that follow robots share: the frames of an episode, its random numbers, checks of
settings.
"""

import numbers

import numpy as np
import torch
from PIL import Image


class FrameHistory:
    """The past frames of an episode, prepared, oldest first in `frames`.

    There are never more than `limit`: then every second one is forgotten, and from there on only
    every second one (the fourth, ...) is kept. Up to `limit` frames nothing is lost.
    """

    def __init__(self, limit: int = 512):
        self.limit = limit
        self.frames: list[Image.Image] = []
        self._stride, self._num_seen = 1, 0

    def append(self, frame: Image.Image) -> None:
        """The next frame, in the size in which System2 is shown it."""
        if self._num_seen % self._stride == 0:
            self.frames.append(frame)
        self._num_seen += 1
        if len(self.frames) > self.limit:
            self.frames = self.frames[::2]
            self._stride *= 2


def check_count(name: str, count: int, most: int | None = None) -> None:
    """Raise ValueError for a setting that is no whole number from 1 to `most`."""
    is_whole = isinstance(count, numbers.Integral) and not isinstance(count, bool)
    if not is_whole or count < 1 or (most is not None and count > most):
        expected = "1 or more" if most is None else f"1 to {most}"
        raise ValueError(f"{name}: found {count!r}, expected {expected}.")


def episode_generator(seed: int, name: str) -> torch.Generator:
    """Random numbers of the episode `name`, whatever runs beside it."""
    words = np.random.SeedSequence([seed, *name.encode()]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(words[0] >> np.uint64(1)))
