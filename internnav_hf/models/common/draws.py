"""Random numbers of training losses, from torch's own generator. In evaluation each row's are
seeded by its targets, so that a loss depends on neither chance nor the rest of the batch.

Legend: R rows.
"""

import zlib
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor


class Draws:
    """Random numbers for each row of `targets` (R, ...), its training targets."""

    def __init__(self, targets: Tensor, training: bool):
        self.num_rows, self.device = len(targets), targets.device
        self.generators: list[torch.Generator] | None = None
        if not training:
            rows = targets.detach().float().cpu().flatten(1).numpy()
            seeds = [zlib.crc32(row.tobytes()) for row in rows]
            self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def normal(self, *shape: int) -> Tensor:
        """(R, *shape) from a standard normal distribution."""
        return self._drawn(torch.randn, shape)

    def uniform(self, *shape: int) -> Tensor:
        """(R, *shape) from a uniform distribution on 0 .. 1."""
        return self._drawn(torch.rand, shape)

    def below(self, high: int, *shape: int) -> Tensor:
        """(R, *shape) random integers from 0 to `high` - 1."""
        return self._drawn(partial(torch.randint, high), shape)

    def _drawn(self, draw: Callable[..., Tensor], shape: tuple[int, ...]) -> Tensor:
        if self.generators is None:
            return draw((self.num_rows, *shape), device=self.device)
        rows = [draw(shape, generator=generator) for generator in self.generators]
        return (torch.stack(rows) if rows else torch.zeros(0, *shape)).to(self.device)
