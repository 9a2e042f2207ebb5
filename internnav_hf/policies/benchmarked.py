"""What the servers of NavDP's benchmark and their protocol did to inputs, for `as_benchmarked`.

Each policy says what of it concerns it. NavDP has no such setting: its protocol's far walls lie
beyond the 5 m that it sees. Not taken over: NoMaD's samples that were mixed up among robots that
shared a call.
"""

import numpy as np
import torch
from torch import Tensor

DEPTH_UNITS_PER_M = 10_000
STEP_M = 0.8 / 3  # largest speed over rate, of the image-goal models
STOP_DISTANCE = 7.0  # from there on they stay, in frames
NOISE_MEAN, NOISE_DEVIATION = 0.449, 0.226  # of colours in 0..1, as the models scale them


def sent_depth(depth: np.ndarray) -> np.ndarray:
    """`depth` (H, W) in metres as it arrived: 16 bits of tenths of millimetres, so that everything
    beyond 6.55 m, infinity too, is a wall there; unknown stays 0.
    """
    units = np.nan_to_num(np.asarray(depth, np.float64) * DEPTH_UNITS_PER_M, posinf=np.inf)
    return (units.clip(0, 2**16 - 1).astype(np.uint16) / DEPTH_UNITS_PER_M).astype(np.float32)


def noise_image(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """uint8 `shape`: normal noise once it is scaled, the goal that models without a task to explore
    were shown.
    """
    colours = NOISE_MEAN + NOISE_DEVIATION * torch.randn(shape, generator=generator)
    return (255 * colours).clamp(0, 255).to(torch.uint8)
