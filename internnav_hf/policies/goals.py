"""What a visual-navigation policy is asked to do: the four tasks of NavDP, and two goals at once.

A goal belongs to the observation that it comes with: a point stands in the robot's frame of this
moment, so that a caller who drives on moves it along; a pixel and an image stay what they are.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from PIL import Image

Picture = Image.Image | np.ndarray
"""RGB, (H, W, 3) uint8 when an array"""


@dataclass(frozen=True)
class PointGoal:
    """Go to `xy`, in metres in the robot's frame now (x forward, y left)."""

    kind: ClassVar[str] = "point"
    xy: tuple[float, float]


@dataclass(frozen=True, eq=False)
class ImageGoal:
    """Go where `image` was taken."""

    kind: ClassVar[str] = "image"
    image: Picture


@dataclass(frozen=True, eq=False)
class PixelGoal:
    """Go to what is seen at `pixel` (u, v) of `view`, the current view unless another is given.

    The pixel may lie outside the view: then the goal is beyond the nearest edge.
    """

    kind: ClassVar[str] = "pixel"
    pixel: tuple[float, float]
    view: Picture | None = None


@dataclass(frozen=True)
class NoGoal:
    """Explore."""

    kind: ClassVar[str] = "none"


@dataclass(frozen=True, eq=False)
class PointImageGoal:
    """Go to `xy` as in `PointGoal`, where `image` was taken."""

    kind: ClassVar[str] = "point+image"
    xy: tuple[float, float]
    image: Picture


Goal = PointGoal | ImageGoal | PixelGoal | NoGoal | PointImageGoal
