"""One row of a table of episodes, as tasks read it: values, poses, images.

T frames. A column that a format does not have is None.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from internnav_hf.data.readers.errors import broken
from internnav_hf.data.readers.images import open_depth, open_image
from internnav_hf.data.tables import array_of


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
        """The image of a frame; `kind` is "rgb", "ordinary", "depth" or "landmark"."""
        numbers = self._episodes["frames"][self._row] if self._has("frames") else None
        number = frame if numbers is None else numbers.values[frame].as_py()
        return self.folder / frame_file(self[f"{kind}_file"], number)

    def _has(self, name: str) -> bool:
        is_there = name in self._episodes.column_names
        return is_there and self._episodes[name][self._row].is_valid

    def image(self, frame: int) -> Image.Image:
        """RGB; ValueError where it is not of the episode's size."""
        path = self.file("rgb", frame)
        image = open_image(path)
        if image.size != self.size:
            raise broken(path, "size", image.size, f"{self.size} as in the episode's first frame")
        return image

    def depth(self, frame: int, dtype: type = np.float32) -> np.ndarray:
        """(rows, columns) metres; 0 is unknown."""
        return open_depth(self.file("depth", frame), scale=self["depth_scale"], dtype=dtype)


def frame_file(pattern: str, number: int) -> str:
    """`frame_#.jpg` is frame_7.jpg for 7, `frame_####.jpg` is frame_0007.jpg."""
    width = pattern.count("#")
    return pattern.replace("#" * width, f"{number:0{width}d}") if width else pattern
