"""Views and goals as DD-PPO's agent takes them, in training as on a robot."""

import math
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


class Sizes(Protocol):
    """The part of `DDPPOConfig` that views need."""

    @property
    def image_height(self) -> int:
        """Rows."""
        ...

    @property
    def image_width(self) -> int:
        """Columns."""
        ...

    @property
    def min_depth_m(self) -> float:
        """What becomes 0."""
        ...

    @property
    def max_depth_m(self) -> float:
        """What becomes 1."""
        ...


def scaled_depth(depth: np.ndarray, config: Sizes, metres: bool = False) -> Tensor:
    """(..., h, w, 1) in 0..1 of the model's size, from `depth` (..., H, W) in metres, 0, NaN or
    infinite where unknown; `metres` leaves it in metres, unclipped.

    Pixels are means of what is known in their area, and 0 where nothing is.
    """
    *before, rows, columns = depth.shape
    seen = torch.from_numpy(np.array(depth, np.float32)).view(-1, 1, rows, columns)
    is_known = seen.isfinite() & (seen > 0)
    size = (config.image_height, config.image_width)
    known = F.interpolate(is_known.float(), size, mode="area")
    total = F.interpolate(seen.where(is_known, 0), size, mode="area")
    mean = total / known.clamp(min=torch.finfo(torch.float32).tiny)
    mean = mean.view(*before, *size, 1)
    if metres:
        return mean
    low, high = config.min_depth_m, config.max_depth_m
    return (mean.clamp(low, high) - low) / (high - low)


def sized_rgb(rgb: np.ndarray, config: Sizes) -> Tensor:
    """(h, w, 3) uint8 of the model's size, from `rgb` (H, W, 3) uint8; means over areas."""
    seen = torch.from_numpy(np.array(rgb)).permute(2, 0, 1)[None].float()
    sized = F.interpolate(seen, (config.image_height, config.image_width), mode="area")
    return sized[0].permute(1, 2, 0).round().to(torch.uint8)


def polar(xy: tuple[float, float]) -> tuple[float, float]:
    """Distance in m and angle in rad, left positive, of a point in the robot's frame."""
    return math.hypot(*xy), math.atan2(xy[1], xy[0])
