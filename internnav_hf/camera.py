"""The camera that the simulator renders with, a dataset was recorded with, or a policy expects.

Pixels are continuous: (0, 0) is the top left corner of the image and pixel (column i, row j) covers
[i, i+1) x [j, j+1), so the principal point is (width / 2, height / 2) and rays go through pixel
centres at +0.5, as Habitat's pinhole camera does.
"""

import difflib
import math
import numbers
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
from PIL import Image

MAX_STORED_CAMERAS = 64
"""A model stores at most this many; of more, an evenly spread subset that keeps the extremes."""
MAX_COMPARED_ONE_BY_ONE = 16
"""If a model has more cameras than this, every camera between them counts as trained with."""
# Differences that are within the accuracy of a robot's own measurements of its camera.
TOLERANCES = {"height_m": 0.02, "pitch_deg": 1.0, "look_down_pitch_deg": 1.0, "hfov_deg": 1.0}


@dataclass(frozen=True)
class CameraSpec:
    """A camera; the defaults are the published `125cm_0_30` setting of InternData-N1."""

    width: int = 640
    height: int = 480
    hfov_deg: float = 79.0
    height_m: float = 1.25
    """of the optical centre above the floor"""
    pitch_deg: float = 0.0
    """of the ordinary view; positive looks down"""
    look_down_pitch_deg: float = 30.0
    depth_scale: float = 1000.0
    """units of a depth PNG per metre"""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
            if not is_number or not math.isfinite(value):
                raise ValueError(f"Camera field {name} must be a number; found {value!r}.")
        if self.width < 1 or self.height < 1:
            raise ValueError(
                f"A camera needs at least one pixel; found {self.width}x{self.height}."
            )
        if not 0 < self.hfov_deg < 180:
            raise ValueError(
                f"Camera field hfov_deg must lie between 0 and 180; found {self.hfov_deg}."
            )
        if self.height_m <= 0 or self.depth_scale <= 0:
            raise ValueError(
                f"Camera fields height_m and depth_scale must be positive; found {self.height_m}, "
                f"{self.depth_scale}."
            )
        for name in ("pitch_deg", "look_down_pitch_deg"):
            if not -90 <= getattr(self, name) <= 90:
                raise ValueError(
                    f"Camera field {name} must lie between -90 and 90; found {getattr(self, name)}."
                )

    @property
    def intrinsics(self) -> np.ndarray:
        """(3, 3) matrix from camera coordinates to pixels; square pixels."""
        focal_px = self.width / 2 / math.tan(math.radians(self.hfov_deg) / 2)
        return np.array([[focal_px, 0, self.width / 2], [0, focal_px, self.height / 2], [0, 0, 1]])

    @property
    def height_cm(self) -> int:
        """The height in whole centimetres, as in setting names."""
        return round(self.height_m * 100)

    @property
    def setting(self) -> str:
        """The setting as in dataset names: `125cm_0_30`."""
        return f"{self.height_cm}cm_{round(self.pitch_deg)}_{round(self.look_down_pitch_deg)}"

    def pitch_setting(self, look_down: bool) -> str:
        """The setting of one view as in column and folder names: `125cm_30deg`."""
        pitch_deg = self.look_down_pitch_deg if look_down else self.pitch_deg
        return f"{self.height_cm}cm_{round(pitch_deg)}deg"

    def to_dict(self) -> dict[str, Any]:
        """All fields, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "CameraSpec":
        """The camera of `to_dict`; missing fields have defaults, an unknown one is a ValueError."""
        known = [field.name for field in fields(cls)]
        for name in values:
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                hint = (
                    f"did you mean {close[0]!r}?" if close else f"known fields: {', '.join(known)}."
                )
                raise ValueError(f"CameraSpec has no field {name!r}; {hint}")
        return cls(**values)

    def difference(self, other: "CameraSpec", ignored: Collection[str] = ()) -> str | None:
        """One sentence on how `other` differs from this camera, the one trained with; None if it
        does not. Fields in `ignored` are not compared.
        """
        mine = self._words()
        theirs = replace(other, **{name: getattr(self, name) for name in ignored})._words()
        if mine == theirs:
            return None
        changed = [(a, b) for a, b in zip(mine, theirs, strict=True) if a != b]
        was, now = (", ".join(words) for words in zip(*changed, strict=True))
        return f"trained at {was}; this camera is {now}"

    def _words(self) -> list[str]:
        return [
            f"{self.height_m * 100:g} cm",
            f"{self.pitch_deg:g}°/{self.look_down_pitch_deg:g}°",
            f"{self.width}x{self.height} px",
            f"{self.hfov_deg:g}° wide",
            f"{self.depth_scale:g} depth units/m",
        ]


def cameras_of(stored: dict | Sequence[dict] | None) -> tuple[CameraSpec, ...]:
    """The cameras in the field `camera` of a processor or configuration; none if not known."""
    if stored is None:
        return ()
    several = [stored] if isinstance(stored, dict) else stored
    return tuple(CameraSpec.from_dict(values) for values in several)


def stored_cameras(cameras: Iterable[CameraSpec]) -> dict | list[dict] | None:
    """The field `camera` of a model trained with `cameras`: one as a dict, different ones as a
    list, none as None. See `MAX_STORED_CAMERAS`.
    """
    chosen = list(dict.fromkeys(cameras))
    if len(chosen) > MAX_STORED_CAMERAS:
        chosen.sort(key=lambda camera: tuple(camera.to_dict().values()))
        places = range(len(chosen))
        ends = {
            pick(places, key=lambda i: getattr(chosen[i], field.name))
            for field in fields(CameraSpec)
            for pick in (min, max)
        }
        between = np.linspace(0, len(chosen) - 1, MAX_STORED_CAMERAS - len(ends)).round()
        chosen = [chosen[i] for i in sorted(ends | {int(place) for place in between})]
    if len(chosen) < 2:
        return chosen[0].to_dict() if chosen else None
    return [camera.to_dict() for camera in chosen]


def difference_from_all(
    trained: Sequence[CameraSpec], other: CameraSpec, ignored: Collection[str] = ()
) -> str | None:
    """Like `CameraSpec.difference`, from the nearest of `trained`; None if one of them equals
    `other`, within a robot's accuracy of measurement, or if `trained` is empty.
    """
    is_many, found = len(trained) > MAX_COMPARED_ONE_BY_ONE, []
    for camera in trained:
        known = {}
        for name, tolerance in TOLERANCES.items():
            value, values = getattr(other, name), [getattr(c, name) for c in trained]
            is_between = is_many and min(values) <= value <= max(values)
            if is_between or abs(getattr(camera, name) - value) <= tolerance:
                known[name] = value
        like = replace(camera, **known)
        distance = sum(abs(getattr(like, name) - getattr(other, name)) for name in TOLERANCES)
        found.append((like.difference(other, ignored), distance))
    differences = [(text.count(","), distance, text) for text, distance in found if text]
    if len(differences) < len(found) or not found:
        return None
    several = f" (the nearest of {len(trained)} cameras)" if len(trained) > 1 else ""
    return min(differences)[2].replace("; this", f"{several}; this", 1)


def resize_view(
    image: Image.Image,
    size: tuple[int, int],
    resample: Image.Resampling = Image.Resampling.BILINEAR,
) -> Image.Image:
    """Resize to (width, height), not keeping the aspect ratio; used by training and inference."""
    return image if image.size == size else image.resize(size, resample)
