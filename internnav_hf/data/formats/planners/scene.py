"""What a planner learns from, whatever the layout: views, poses, and a map of the place.

Legend: T frames, X and Y cells of the map.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
from scipy.spatial.transform import Rotation

from internnav_hf.camera import CameraSpec
from internnav_hf.data.cost_maps.geometric import GeometricSettings
from internnav_hf.data.cost_maps.grid import GridMap
from internnav_hf.data.cost_maps.semantic import SemanticSettings
from internnav_hf.data.obstacles import read_ply
from internnav_hf.data.readers.errors import broken
from internnav_hf.data.readers.folders import open_file
from internnav_hf.data.tables import build_once, folder_stamps

MEDIAN_DEPTH_M = (0.05, 100.0)  # of a view with any depth; millimetres and metres lie 1000 apart
CLOUD = "cloud.ply"
LARGEST_TEXT = 1 << 28  # bytes of a file of numbers
NUM_LOOKED_AT = 8
UNIT_LENGTH = 0.01  # tolerated error of a quaternion's


class PlannerScene(Protocol):
    """One place with a map. `walks` are the ranges of frames that follow each other."""

    name: str
    poses: np.ndarray
    """(T, 4, 4) T_world_robot: x forward, y left, z up; metres"""
    camera: CameraSpec

    @property
    def walks(self) -> Sequence[range]:
        """See the class."""
        ...

    @cached_property
    def grid(self) -> GridMap:
        """The map of the place."""
        ...

    def depth(self, frame: int) -> np.ndarray:
        """(rows, columns) float32 metres; 0 where unknown."""
        ...

    def semantics(self, frame: int) -> np.ndarray | None:
        """(rows, columns, 3) uint8 colours of the classes at the pixels of `depth`, if known."""
        ...

    def rgb(self, frame: int) -> np.ndarray | None:
        """(rows, columns, 3) uint8 the view in colours, of whatever size, if there is any."""
        ...


@dataclass(frozen=True)
class Pinhole:
    """A camera by its matrix (3, 3) in pixels; `fits` an image or is an error."""

    intrinsics: np.ndarray

    def camera(self, size: tuple[int, int], where: Path) -> CameraSpec:
        """The camera of images of `size` (width, height); ValueError if they are not its."""
        width, height = size
        fx, cx, cy = self.intrinsics[0, 0], self.intrinsics[0, 2], self.intrinsics[1, 2]
        if min(fx, self.intrinsics[1, 1]) <= 0:
            found = f"focal lengths {fx:g} and {self.intrinsics[1, 1]:g}"
            raise broken(where, "intrinsics", found, "pixels, more than 0")
        if abs(cx / width - 0.5) > 0.2 or abs(cy / height - 0.5) > 0.2:
            found = f"a centre at ({cx:g}, {cy:g}) for images of {width}x{height} pixels"
            raise broken(where, "intrinsics", found, "the matrix of images of that size")
        hfov_deg = round(float(np.degrees(2 * np.arctan2(width / 2, fx))), 2)
        return CameraSpec(width=width, height=height, hfov_deg=hfov_deg, pitch_deg=0.0)


def read_numbers(path: Path, columns: int, expected: str) -> np.ndarray:
    """(rows, columns) of a text file of numbers, with or without commas and brackets."""
    with open_file(path, expected) as stream:
        text = stream.read(LARGEST_TEXT + 1)
    if len(text) > LARGEST_TEXT:
        raise broken(path, "file", f"more than {LARGEST_TEXT} bytes", expected)
    try:
        words = text.decode().translate(str.maketrans("[](),;", "      ")).split()
        numbers = np.array(words, np.float64)
    except (UnicodeDecodeError, ValueError) as error:
        raise broken(path, "file", str(error)[:100], expected) from error
    if not len(numbers) or len(numbers) % columns or not np.isfinite(numbers).all():
        kind = "numbers" if np.isfinite(numbers).all() else "numbers, not all of them finite"
        raise broken(path, "file", f"{len(numbers)} {kind}", expected)
    return numbers.reshape(-1, columns)


def pose_matrices(rows: np.ndarray, path: Path) -> np.ndarray:
    """(T, 4, 4) of rows (T, 7): x, y, z and a quaternion x, y, z, w."""
    lengths = np.linalg.norm(rows[:, 3:], axis=1)
    wrong = np.abs(lengths - 1) > UNIT_LENGTH
    if wrong.any():
        row = int(wrong.argmax())
        found = f"a quaternion of length {lengths[row]:.3g} in row {row + 1}"
        raise broken(path, "poses", found, "x, y, z, qx, qy, qz, qw, the quaternion of length 1")
    matrices = np.tile(np.eye(4), (len(rows), 1, 1))
    matrices[:, :3, :3] = Rotation.from_quat(rows[:, 3:]).as_matrix()
    matrices[:, :3, 3] = rows[:, :3]
    return matrices


def known_depth(depth: np.ndarray, path: Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """Metres, 0 where unknown; ValueError if they can only be another unit, or if the image is not
    of `size` (width, height), that of the first one.
    """
    if size is not None and depth.shape != size[::-1]:
        found = f"{depth.shape[1]}x{depth.shape[0]} pixels"
        raise broken(path, "size", found, f"{size[0]}x{size[1]} as in the first frame")
    depth = np.where(np.isfinite(depth) & (depth > 0), depth, 0).astype(np.float32)
    seen = depth[depth > 0]
    low, high = MEDIAN_DEPTH_M
    if len(seen) and not low <= float(np.median(seen)) <= high:
        found = f"a median of {np.median(seen):.3g} m"
        raise broken(path, "depth", found, f"{low:g} to {high:g} m: is the file in millimetres?")
    return depth


def check_covered(scene: PlannerScene, where: Path | str) -> None:
    """Raise ValueError if a pose lies beyond the map."""
    outside = ~scene.grid.contains(scene.poses[:, :2, 3])
    if outside.any():
        frame = int(outside.argmax())
        x, y = scene.poses[frame, :2, 3]
        low = scene.grid.origin
        high = low + np.array(scene.grid.costs.shape) * scene.grid.resolution_m
        place = f"({low[0]:.1f}, {low[1]:.1f}) to ({high[0]:.1f}, {high[1]:.1f})"
        found = f"frame {frame} at ({x:.1f}, {y:.1f}), and {outside.sum()} such"
        raise broken(where, "map", found, f"poses on the map, {place}")


def check_seen(scene: PlannerScene, where: Path) -> None:
    """Raise ValueError if none of a few depth images, spread over all, shows anything."""
    frames = np.unique(np.linspace(0, len(scene.poses) - 1, NUM_LOOKED_AT).astype(int)).tolist()
    if not any(scene.depth(frame).any() for frame in frames):
        found = f"nothing but 0 or no number in {len(frames)} images"
        raise broken(where, "depth", found, "millimetres in some of them")


def kept_map(folder: Path, build: Callable[[], GridMap]) -> GridMap:
    """The map in a cache folder, which `build` fills first if needed."""

    def write(new: Path) -> None:
        made = build()
        arrays = {"costs": made.costs, "origin": made.origin, "resolution": made.resolution_m}
        arrays |= {} if made.ground is None else {"ground": made.ground}
        for name, values in arrays.items():
            np.save(new / f"{name}.npy", np.asarray(values))

    build_once(folder, write)
    return open_map(folder)


def built_map(
    folder: Path,
    cache_dir: Path,
    settings: GeometricSettings | SemanticSettings,
    build: Callable[[], GridMap],
) -> GridMap:
    """The map that `build` makes of the files in an environment's `folder`, kept in `cache_dir`;
    what it cannot be made of is told with the folder.
    """

    def told() -> GridMap:
        try:
            return build()
        except ValueError as error:
            if str(folder) in str(error):
                raise
            raise broken(folder, "map", error, "floor and obstacles to make it of") from error

    digest = hashlib.blake2b(repr(settings).encode(), digest_size=8)
    for stamp in folder_stamps(folder):
        digest.update(stamp.encode(errors="surrogateescape"))
    return kept_map(cache_dir / f"cost-map-{digest.hexdigest()}", told)


def cloud_points(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Points (N, 3) of a PLY file, and their colours (N, 3) uint8 if it has any; ValueError unless
    all are finite.
    """
    points, colours = read_ply(path)
    if not len(points) or not np.isfinite(points).all():
        found = "nan or infinity" if len(points) else "none"
        raise broken(path, "points", found, "finite numbers")
    if len(colours) != len(points):
        return points, None
    return points, np.round(255 * colours[:, :3]).astype(np.uint8)


def open_map(folder: Path) -> GridMap:
    """The map in a cache folder, mapped into memory."""

    def read(name: str) -> np.ndarray:
        return np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)

    grid = GridMap(read("costs"), np.array(read("origin")), float(read("resolution")))
    has_ground = (folder / "ground.npy").is_file()
    return replace(grid, ground=read("ground")) if has_ground else grid
