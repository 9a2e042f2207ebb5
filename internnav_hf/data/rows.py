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

from internnav_hf.camera import CameraSpec, resize_view
from internnav_hf.data.readers.errors import broken
from internnav_hf.data.readers.images import open_array, open_depth, open_image
from internnav_hf.data.tables import array_of

ARRAY_SUFFIX = ".npy"


@dataclass(frozen=True)
class View:
    """The camera of an episode: pixels, metres, radians; positive pitch looks down."""

    focal: tuple[float, float]
    center: tuple[float, float]
    height_m: float
    pitch: float

    @property
    def intrinsics(self) -> np.ndarray:
        """(3, 3) from camera coordinates to pixels."""
        (fx, fy), (cx, cy) = self.focal, self.center
        return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])


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

    def array(self, name: str, *shape: int, otherwise: np.ndarray | None = None) -> np.ndarray:
        """(T, *shape) of a column of lists of numbers; `otherwise` if the episode has none."""
        if otherwise is not None and not self.has(name):
            return otherwise
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

    def __str__(self) -> str:
        return f"{self.folder}, episode {self['episode_index']}"

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

    def image(self, frame: int, kind: str = "rgb") -> Image.Image:
        """Read RGB; ValueError if it does not have the episode's size."""
        path = self.file(kind, frame)
        if path.suffix == ARRAY_SUFFIX:
            pixels = _frames_of(path, frame)
            image = Image.fromarray(pixels[..., ::-1] if self["is_bgr"] else pixels)
        else:
            image = open_image(path)
        if image.size != self.size:
            raise broken(path, "size", image.size, f"{self.size} as when the index was built")
        return image

    def depth(
        self, frame: int, dtype: type = np.float32, size: tuple[int, int] | None = None
    ) -> np.ndarray:
        """Read (rows, columns) metres, the nearest pixels if another `size`; 0 is unknown."""
        path, scale = self.file("depth", frame), self["depth_scale"]
        if path.suffix != ARRAY_SUFFIX:
            return open_depth(path, size, scale, dtype)
        pixels = _frames_of(path, frame).astype(dtype) / dtype(scale)
        pixels = pixels.reshape(pixels.shape[:2])
        pixels = np.where(np.isfinite(pixels), pixels, dtype(0))
        if size is None:
            return pixels
        rows, columns = map(_nearest, pixels.shape, size[::-1])
        return pixels[np.ix_(rows, columns)]

    def images(self, stop: int) -> np.ndarray:
        """Read (T, rows, columns, 3) uint8, the frames before `stop`."""
        if (path := self.file("rgb", 0)).suffix != ARRAY_SUFFIX:
            return np.stack([np.asarray(self.image(frame)) for frame in range(stop)])
        pixels = _frames_of(path, slice(stop))
        return pixels[..., ::-1] if self["is_bgr"] else pixels

    def depths(self, stop: int) -> np.ndarray:
        """Read (T, rows, columns) float32 metres, the frames before `stop`; 0 is unknown."""
        if (path := self.file("depth", 0)).suffix != ARRAY_SUFFIX:
            metres = [self.depth(frame) for frame in range(stop)]
            for frame, image in enumerate(metres):
                if image.shape != metres[0].shape:
                    expected = f"{metres[0].shape} as in the first frame"
                    raise broken(self.file("depth", frame), "size", image.shape, expected)
            return np.stack(metres)
        pixels = np.asarray(_frames_of(path, slice(stop)), np.float32)
        metres = pixels.reshape(pixels.shape[:3]) * np.float32(1 / self["depth_scale"])
        return np.where(np.isfinite(metres), metres, np.float32(0))


def camera_columns(camera: CameraSpec, pitch_deg: float | None = None) -> dict[str, Any]:
    """Return the columns of a camera whose view has another pitch than its own, or the same."""
    pitch_deg = camera.pitch_deg if pitch_deg is None else pitch_deg
    return {
        "focal": camera.intrinsics[[0, 1], [0, 1]],
        "center": camera.intrinsics[:2, 2],
        "height_m": camera.height_m,
        "pitch": float(np.radians(pitch_deg)),
    }


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


def _frames_of(path: Path, frames: int | slice) -> np.ndarray:
    """Read some frames of an array of all."""
    array = open_array(path)
    last = frames.stop - 1 if isinstance(frames, slice) else frames
    if array.shape[:1] <= (last,):
        raise broken(path, "shape", array.shape, f"more than {last} frames")
    return np.array(array[frames])


def _nearest(length: int, num_wanted: int) -> np.ndarray:
    """Indices of the pixels that resizing an image file would pick."""
    indices = Image.fromarray(np.arange(length, dtype=np.uint16)[None])
    return np.asarray(resize_view(indices, (num_wanted, 1), Image.Resampling.NEAREST))[0]


def frame_file(pattern: str, number: int) -> str:
    """Return frame_7.jpg for `frame_#.jpg` and 7, frame_0007.jpg for `frame_####.jpg`."""
    width = pattern.count("#")
    return pattern.replace("#" * width, f"{number:0{width}d}") if width else pattern
