"""Shared by policies: the frames of an episode, its random numbers, checks of settings."""

import copy
import math
import numbers
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from PIL import Image


class FrameHistory:
    """The past frames of an episode, prepared, oldest first in `frames`.

    There are never more than `limit`: beyond it every second frame is dropped, and from then on
    only every second one (the fourth, ...) is kept. Up to `limit` frames all are kept.
    """

    def __init__(self, limit: int = 512):
        self.limit = limit
        self.frames: list[Image.Image] = []
        self._stride, self._num_seen = 1, 0

    def append(self, frame: Image.Image) -> None:
        """Add the next frame, in the size of System2's input."""
        if self._num_seen % self._stride == 0:
            self.frames = [*self.frames, frame]
        self._num_seen += 1
        if len(self.frames) > self.limit:
            self.frames = self.frames[::2]
            self._stride *= 2


def check_count(name: str, count: int, most: int | None = None) -> None:
    """Raise ValueError for a setting that is not a whole number from 1 to `most`."""
    is_whole = isinstance(count, numbers.Integral) and not isinstance(count, bool)
    if not is_whole or count < 1 or (most is not None and count > most):
        expected = "1 or more" if most is None else f"1 to {most}"
        raise ValueError(f"{name}: found {count!r}, expected {expected}.")


def check_numbers(seed: int, **settings: float | None) -> None:
    """Raise ValueError for an invalid seed, and for a setting that is neither a finite number nor
    None.
    """
    if not isinstance(seed, numbers.Integral) or isinstance(seed, bool) or seed < 0:
        raise ValueError(f"seed: found {seed!r}, expected a whole number, 0 or more.")
    for name, value in settings.items():
        is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
        if value is not None and not (is_number and math.isfinite(value)):
            raise ValueError(f"{name}: found {value!r}, expected a number.")


@contextmanager
def undone_on_error(episodes: Sequence[Any]) -> Iterator[None]:
    """Context manager: if the block raises, as when memory runs out, `episodes` are restored, so
    that the same call may be repeated.
    """
    before = [{name: _kept(value) for name, value in vars(episode).items()} for episode in episodes]
    try:
        yield
    except BaseException:
        for episode, fields in zip(episodes, before, strict=True):
            for name, value in fields.items():
                now = getattr(episode, name)
                if isinstance(now, torch.Generator):
                    now.set_state(value)
                else:
                    setattr(episode, name, value)
        raise


def _kept(value: Any) -> Any:
    """A copy of `value` if a step may change it in place."""
    if isinstance(value, torch.Generator):
        return value.get_state()
    return copy.copy(value) if isinstance(value, list | deque | FrameHistory) else value


def episode_generator(seed: int, name: str) -> torch.Generator:
    """Generator for the episode `name`, independent of other episodes."""
    if not isinstance(name, str):
        raise ValueError(f"name of an episode: found {name!r}, expected text, as str(number).")
    letters = name.encode(errors="surrogatepass")
    words = np.random.SeedSequence([seed, *letters]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(words[0] >> np.uint64(1)))
