"""Sums of losses and of their counts, kept on the device until they are logged."""

import torch
from accelerate.utils import gather_object
from torch import Tensor


class Sums:
    """Weighted sums by name, on their device and unread until `pop`, which every process calls."""

    def __init__(self):
        self.by_name: dict[str, Tensor] = {}

    def add(self, name: str, value: Tensor, weight: Tensor | None = None) -> None:
        """Add `value` with `weight`, by default 1."""
        value = value.float()
        weights = torch.ones_like(value) if weight is None else weight
        pair = torch.stack([torch.where(weights > 0, value * weights, 0), weights]).float()
        known = self.by_name.get(name)
        self.by_name[name] = pair if known is None else known.to(pair.device) + pair

    def pop(self) -> dict[str, tuple[float, float]]:
        """Return name -> (sum of value * weight, sum of weights) of all processes, and reset."""
        parts = gather_object([{name: pair.tolist() for name, pair in self.by_name.items()}])
        self.by_name = {}
        together: dict[str, tuple[float, float]] = {}
        for part in parts:
            for name, (value, weight) in part.items():
                value_so_far, weight_so_far = together.get(name, (0.0, 0.0))
                together[name] = (value_so_far + value, weight_so_far + weight)
        return together


def mean_losses(sums: dict[str, tuple[float, float]]) -> dict[str, float]:
    """Return the mean of each loss among `sums`; one with a count of 0 is left out."""
    losses = {name: pair for name, pair in sums.items() if name.endswith("_loss")}
    return {name: value / weight for name, (value, weight) in losses.items() if weight > 0}
