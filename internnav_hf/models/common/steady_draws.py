"""Diffusion noise in evaluation: seeded for each row by its targets, so that a loss depends on
neither chance nor the rest of the batch.

Legend: R rows.
"""

import zlib
from collections.abc import Sequence

import torch
from torch import Tensor


class SteadyDraws:
    """Random numbers for each row, seeded by its targets."""

    def __init__(self, targets: Tensor):
        """`targets` (R, ...) are the training targets of the rows."""
        self.device = targets.device
        rows = targets.detach().float().cpu().flatten(1).numpy()
        seeds = [zlib.crc32(row.tobytes()) for row in rows]
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def normal(self, *shape: int) -> Tensor:
        """(R, *shape) from a standard normal distribution."""
        return self._all([torch.randn(shape, generator=g) for g in self.generators], shape)

    def uniform(self, *shape: int) -> Tensor:
        """(R, *shape) from a uniform distribution on 0 .. 1."""
        return self._all([torch.rand(shape, generator=g) for g in self.generators], shape)

    def below(self, high: int, *shape: int) -> Tensor:
        """(R, *shape) random integers from 0 to `high` - 1."""
        drawn = [torch.randint(high, shape, generator=g) for g in self.generators]
        return self._all(drawn, shape)

    def _all(self, drawn: list[Tensor], shape: Sequence[int]) -> Tensor:
        return (torch.stack(drawn) if drawn else torch.zeros(0, *shape)).to(self.device)
