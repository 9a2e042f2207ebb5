"""One row of a table of episodes, as tasks read it: values, poses, images.

T frames. A column that a format does not have is None.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from internnav_hf.camera import CameraSpec
from internnav_hf.data.readers.errors import broken
from internnav_hf.data.readers.folders import state_of
from internnav_hf.data.readers.images import open_depth, open_image
from internnav_hf.data.tables import array_of

ARRAY_SUFFIX = ".npy"


@dataclass(frozen=True)
class View:
    """The camera of an episode: pixels, metres, radians; positive pitch looks down."""

    focal: tuple[float, float]
    center: tuple[float, float]
    height_m: float
    pitch: float


class EpisodeRow:
    """Row `row` of `episodes`, whose `unit` lies below `data_root`. Columns are read when they are
    asked for: `row["length"]`, `row.array("poses", 3)`.
    """

    def __init__(self, episodes: pa.Table, row: int, data_root: Path):
        self._episodes = episodes
        self._row = row
        self.folder = data_root / self["unit"]

    def __getitem__(self, name: str) -> Any:
        if name not in self._episodes.column_names:
            return None
        return self._episodes[name][self._row].as_py()

    def array(self, name: str, *shape: int) -> np.ndarray:
        """(T, *shape) of a column of lists of numbers."""
        return array_of(self._episodes, self._row, name, *shape)

    @property
    def poses(self) -> np.ndarray:
        """(T, 3) x, y, yaw of the robot in the world."""
        return self.array("poses", 3)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the colour images."""
        return self["width"], self["height"]

    @property
    def view(self) -> View:
        """The camera of `rgb_file` and `depth_file`."""
        return View(tuple(self["focal"]), tuple(self["center"]), self["height_m"], self["pitch"])

    def file(self, kind: str, frame: int) -> Path:
        """Return the image of a frame; `kind` is "rgb", "ordinary", "depth" or "landmark"."""
        has_numbers = self.has("frames")
        number = self._episodes["frames"][self._row].values[frame].as_py() if has_numbers else frame
        pattern = self[f"{kind}_file"]
        if pattern is None and kind == "ordinary":
            pattern = self["rgb_file"]
        return self.folder / frame_file(pattern, number)

    def has(self, name: str) -> bool:
        """Return whether the episode has a value in a column."""
        is_there = name in self._episodes.column_names
        return is_there and self._episodes[name][self._row].is_valid

    def image(self, frame: int) -> Image.Image:
        """Read RGB; ValueError if it does not have the episode's size."""
        path = self.file("rgb", frame)
        if path.suffix == ARRAY_SUFFIX:
            pixels = _frame_of(path, frame)
            image = Image.fromarray(pixels[..., ::-1] if self["is_bgr"] else pixels)
        else:
            image = open_image(path)
        if image.size != self.size:
            raise broken(path, "size", image.size, f"{self.size} as in the episode's first frame")
        return image

    def depth(self, frame: int, dtype: type = np.float32) -> np.ndarray:
        """Read (rows, columns) metres; 0 is unknown."""
        path, scale = self.file("depth", frame), self["depth_scale"]
        if path.suffix != ARRAY_SUFFIX:
            return open_depth(path, scale=scale, dtype=dtype)
        pixels = _frame_of(path, frame).astype(dtype) / dtype(scale)
        pixels = pixels.reshape(pixels.shape[:2])
        return np.where(np.isfinite(pixels), pixels, dtype(0))


def camera_of(row: Mapping[str, Any] | EpisodeRow) -> CameraSpec:
    """Return the camera, rounded so that float32 columns give the original values."""
    hfov = 2 * np.arctan2(row["width"] / 2, row["focal"][0])
    pitch_deg = round(float(np.degrees(row["pitch"])), 2) + 0.0
    return CameraSpec(
        width=row["width"],
        height=row["height"],
        hfov_deg=round(float(np.degrees(hfov)), 2),
        height_m=round(row["height_m"], 4),
        pitch_deg=pitch_deg,
        look_down_pitch_deg=pitch_deg,
        depth_scale=row["depth_scale"],
    )


def _frame_of(path: Path, frame: int) -> np.ndarray:
    """Read one frame of an array of all frames."""
    try:
        return np.array(np.lib.format.open_memmap(path, mode="r")[frame])
    except (OSError, ValueError, IndexError) as error:
        raise broken(path, "file", f"{state_of(path)} ({error})", "an array of numbers") from error


def frame_file(pattern: str, number: int) -> str:
    """Return frame_7.jpg for `frame_#.jpg` and 7, frame_0007.jpg for `frame_####.jpg`."""
    width = pattern.count("#")
    return pattern.replace("#" * width, f"{number:0{width}d}") if width else pattern
