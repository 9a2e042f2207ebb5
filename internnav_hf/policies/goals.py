"""Goals of a visual-navigation policy: NavDP's four tasks, two goals at once, a map, a position.

A goal belongs to its observation: a point is given in the robot's frame at that time, so that the
caller must transform it as the robot moves; a position, a pixel and an image do not change.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from internnav_hf.policies.observations import Frame, checked_picture, checked_place, described

Picture = Frame


@dataclass(frozen=True)
class PointGoal:
    """Go to `xy`, in metres in the robot's frame now (x forward, y left)."""

    kind: ClassVar[str] = "point"
    xy: tuple[float, float]


@dataclass(frozen=True)
class PositionGoal:
    """Go to `xy`, in metres in the world of the observations' `pose`."""

    kind: ClassVar[str] = "position"
    xy: tuple[float, float]


@dataclass(frozen=True, eq=False)
class ImageGoal:
    """Go to the place where `image` was taken."""

    kind: ClassVar[str] = "image"
    image: Picture


@dataclass(frozen=True, eq=False)
class PixelGoal:
    """Go to the place at `pixel` (u, v) of `view`, the current view unless another is given.

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
    """Go to `xy` as in `PointGoal`, the place where `image` was taken."""

    kind: ClassVar[str] = "point+image"
    xy: tuple[float, float]
    image: Picture


@dataclass(frozen=True, eq=False)
class MapGoal:
    """Drive along `images`, the views of a topological map, to the place of the last.

    The policy remembers where it is on this very list of images, so pass the same one again.
    """

    kind: ClassVar[str] = "map"
    images: Sequence[Picture]


Goal = PointGoal | PositionGoal | ImageGoal | PixelGoal | NoGoal | PointImageGoal | MapGoal


def checked_goal(goal: Any, kinds: Collection[str], where: str) -> Goal:
    """The goal with checked pictures and numbers, if it is one of the model's `kinds`; ValueError
    otherwise.
    """
    if not isinstance(goal, Goal):
        shown = repr(goal) if isinstance(goal, type | tuple | str | None) else described(goal)
        raise ValueError(
            f"{where}: found {shown[:60]}, expected a PointGoal, ImageGoal, PixelGoal, "
            "PointImageGoal, PositionGoal, MapGoal or NoGoal()."
        )
    for kind in goal.kind.split("+"):
        if kind not in kinds:
            raise ValueError(f"{where}: found {kind!r}, expected one of {tuple(kinds)}.")
    places = {name: getattr(goal, name) for name in ("xy", "pixel") if hasattr(goal, name)}
    pictures = {name: getattr(goal, name) for name in ("image", "view") if hasattr(goal, name)}
    checked: dict[str, Any] = {n: checked_place(v, where) for n, v in places.items()}
    if isinstance(goal, MapGoal):
        checked["images"] = _checked_images(goal.images, where)
    for name, picture in pictures.items():
        if picture is not None or name == "image":
            checked[name] = checked_picture(picture, f"{where}: {name}")
    return replace(goal, **checked)


def _checked_images(images: Any, where: str) -> list[Picture]:
    is_several = isinstance(images, Sequence | np.ndarray) and not isinstance(images, str | bytes)
    if not is_several or len(images) < 2:
        found = f"{len(images)}" if is_several else described(images)
        raise ValueError(
            f"{where}: images: found {found}, expected two or more views along a way; a single one "
            "is an ImageGoal."
        )
    return [checked_picture(one, f"{where}: images[{i}]") for i, one in enumerate(images)]
