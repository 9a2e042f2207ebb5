"""Reader of InternData-N1's `vln_n1` folders, System1's data: walks with colours, depth and poses,
and the point cloud of each scene. No instructions.

    <root>/<group>/<scene>/data/chunk-000/episode_000000.parquet    one row per frame, see `COLUMNS`
    <root>/<group>/<scene>/meta/episodes_stats.jsonl    which frames belong to which episode
    <root>/<group>/<scene>/meta/pointcloud.ply          obstacles in the colour (0, 0, 0.5)
    <root>/<group>/<scene>/videos/chunk-000/observation.images.rgb/12.jpg      frame 12
    <root>/<group>/<scene>/videos/chunk-000/observation.images.depth/12.png    16 bit, 0.1 mm

That is v0.5: the frames of all episodes of a scene lie in one folder, numbered through. In v0.1
there is a folder per trajectory between the scene and these, with one episode; where it has no
point cloud, the points are taken from the columns `observation.path_points` and `path_colors`.

Poses are camera to world with OpenGL's camera axes: x right, y up, z back.

Differs from the published loader, which sorts the frames' file names as text, so that frame 10
follows frame 1 where numbers are not padded: a frame's number is what its name ends in. It cuts the
sorted list by position, too, so that one missing file shifts all later frames: here the episode is
broken. `frame_order="lexicographic"` reads what it reads.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from internnav_hf.data.checks.cameras import check_height
from internnav_hf.data.checks.poses import (
    AXES_TOLERANCE,
    BACKWARDS,
    LARGEST_MOTION_M,
    check_camera_axes,
    check_finite,
    check_heading,
    check_matrices,
    check_positions,
    check_standing,
)
from internnav_hf.data.formats.vln_n1.ranges import STATS_FILE, FrameRange
from internnav_hf.data.obstacles import has_cloud
from internnav_hf.data.readers.columns import Column, archive_hint, read_arrays
from internnav_hf.data.readers.errors import broken, printable
from internnav_hf.data.readers.folders import (
    is_foreign,
    named_folders,
    parquet_files,
    subfolders,
    units_of,
)
from internnav_hf.data.rows import View, frame_file
from internnav_hf.geometry import robot_poses

CLOUD_FILE = "meta/pointcloud.ply"
POSE = "action"
INTRINSIC = "observation.camera_intrinsic"
EXTRINSIC = "observation.camera_extrinsic"
COLUMNS = {
    POSE: Column(
        (4, 4),
        np.float64,
        "camera to world, metres; columns are the camera's x right, y up, z back, position; the"
        " world's z points up",
    ),
    INTRINSIC: Column((3, 3), np.float64, "pixels; the first row counts"),
    EXTRINSIC: Column(
        (4, 4),
        np.float64,
        "camera to base (x right, y forward, z up, on the floor): the pitch, and in z the height;"
        " the first row counts",
    ),
}
DEPTH_SCALE = 10_000.0  # units of a depth image per metre
FRAME_ORDERS = ("numeric", "lexicographic")
SHORTEST_EPISODE = 3  # frames; fewer have no goal ahead
LEVEL = 1e-2  # of the camera's right axis
_OPENCV_FROM_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])

WITH_CAMERA = re.compile(r"(.+)_\d+cm_\d+_\d+")
_NUMBER = re.compile(r"(\d+)\.(?:jpe?g|png)$", re.IGNORECASE)


def training_groups(
    root: str | Path, groups: Sequence[str] | None, held_out: Sequence[str] | None
) -> list[str] | None:
    """Return `groups`, by default all below `root`, without those held out."""
    if not held_out or not Path(root).is_dir():
        return None if groups is None else list(groups)
    there = groups or [folder.name for folder in subfolders(Path(root))]
    left_out = {*held_out, *(group_folder(Path(root), group) for group in held_out)}
    if not set(there) - left_out:
        raise ValueError(f"{root}: found groups {there}, all held out: nothing is left to train on")
    return [group for group in there if group not in left_out]


def groups_by_root(
    roots: Sequence[str | Path],
    groups: Sequence[str] | None,
    held_out: Sequence[str] | None,
    option: str = "groups",
) -> list[tuple[list[str] | None, list[str]]]:
    """Return for each of `roots` the groups to train on, None for all, and those held out: of the
    named ones those that it has, while a single root is asked for all.

    Raises ValueError naming `option` for a name that no root has, and for a root without any of
    `groups`.
    """
    chosen = _named_by_root(f"--{option}", roots, groups)
    kept = _named_by_root(f"--eval_{option}", roots, held_out)
    found = []
    for root, named, left_out in zip(roots, chosen, kept, strict=True):
        if groups and not named:
            raise ValueError(f"--{option}: found none of {groups} below {root}, expected some")
        found.append((training_groups(root, named or None, left_out), left_out))
    return found


def _named_by_root(
    option: str, roots: Sequence[str | Path], names: Sequence[str] | None
) -> list[list[str]]:
    if len(roots) == 1 or not names:
        return [list(names or ()) for _ in roots]
    folders = [Path(root) for root in roots]
    found = [[n for n in names if (root / group_folder(root, n)).is_dir()] for root in folders]
    unknown = [name for name in names if not any(name in there for there in found)]
    if unknown:
        places = ", ".join(map(str, roots))
        raise ValueError(f"{option}: found {unknown[0]!r}, expected a group below one of {places}")
    return found


def group_folder(data_root: Path, group: str) -> str:
    """Return a group's folder; a `vln_ce` dataset may be named with its camera, r2r_125cm_0_30."""
    match = WITH_CAMERA.fullmatch(group)
    return match[1] if match and not (data_root / group).is_dir() else group


def find_units(root: Path, groups: Sequence[str] | None = None) -> list[Path]:
    """Return the sorted unit folders, scenes (v0.5) or trajectories (v0.1), of `groups` or all."""
    folders = named_folders(root, groups, "group of scenes")
    units = [unit for folder in folders for unit in units_of(folder, STATS_FILE, True)]
    if not units:
        raise ValueError(
            f"{root}: found no episodes, expected <group>/<scene>/data and"
            f" <group>/<scene>/{STATS_FILE}.{archive_hint(root)}"
        )
    return units


def cloud_file(unit: Path) -> Path:
    """Return the file of a unit's point cloud: PLY, or, without one, its first parquet file."""
    path = unit / CLOUD_FILE
    parquet = next(iter(parquet_files(unit)), path)
    return path if path.is_file() or not has_cloud(parquet) else parquet


def read_episode_columns(record: FrameRange) -> dict[str, np.ndarray]:
    """The columns of `COLUMNS`, checked: as many rows as frames, finite, a camera that stands
    upright.
    """
    path = record.path
    columns = read_arrays(path, COLUMNS)
    poses = columns[POSE]
    if len(poses) != record.length:
        expected = f"{record.length}, frames {record.first} to {record.last} of {STATS_FILE}"
        raise broken(path, "length", f"{len(poses)} rows", expected)
    if len(poses) < SHORTEST_EPISODE:
        raise broken(path, "length", f"{len(poses)} rows", f"at least {SHORTEST_EPISODE}")
    check_finite(poses, path, POSE)
    tilted = np.flatnonzero((np.abs(poses[:, 2, 0]) > LEVEL) | (poses[:, 2, 1] <= 0))
    if len(tilted):
        found = f"axes {np.round(poses[tilted[0], :3, :3], 2).tolist()} at frame {tilted[0]}"
        expected = "a camera that is not tilted sideways: x right, y up, z back (OpenGL)"
        raise broken(path, POSE, found, expected)
    check_matrices(poses, path, POSE)
    check_positions(poses[:, :3, 3], path, POSE, LARGEST_MOTION_M)
    check_standing(poses.reshape(len(poses), -1), len(poses) - 1, path, POSE)
    check_heading(robot_poses(poses), path, POSE, BACKWARDS)
    view = view_of(columns, path)
    check_camera_axes(poses @ _OPENCV_FROM_OPENGL, view.pitch, path, POSE, AXES_TOLERANCE)
    return columns


def view_of(columns: dict[str, np.ndarray], path: Path) -> View:
    """Return the camera of an episode, from its first row."""
    intrinsic, extrinsic = columns[INTRINSIC][0], columns[EXTRINSIC][0]
    if not np.isfinite(intrinsic).all() or min(intrinsic[0, 0], intrinsic[1, 1]) <= 0:
        raise broken(path, INTRINSIC, intrinsic.tolist(), "positive focal lengths, pixels")
    height_m, back = extrinsic[2, 3], extrinsic[:3, 2]
    pitch = float(np.arctan2(back[2], -back[1]))
    expected = np.array([[1, 0], [0, np.sin(pitch)], [0, np.cos(pitch)]])
    if not np.allclose(extrinsic[:3, :2], expected, atol=LEVEL) or not height_m > 0:
        found = np.round(extrinsic, 3).tolist()
        raise broken(path, EXTRINSIC, found, "a rotation about the right axis and a height")
    check_height(float(height_m), path, EXTRINSIC)
    return View(
        focal=(float(intrinsic[0, 0]), float(intrinsic[1, 1])),
        center=(float(intrinsic[0, 2]), float(intrinsic[1, 2])),
        height_m=float(height_m),
        pitch=pitch,
    )


class FrameFiles:
    """Image files of a unit by number; each folder is listed once."""

    def __init__(self, unit: Path, frame_order: str = "numeric"):
        self.unit = unit
        self.frame_order = frame_order
        self._names: dict[str, dict[int, str]] = {}
        self._twice: dict[str, dict[int, str]] = {}

    def numbers(self, record: FrameRange, kind: str) -> list[int]:
        """Return the numbers of an episode's frames, in the order of its rows."""
        names = self._listed(kind)
        numbers = list(range(record.first, record.last + 1))
        if self.frame_order == "lexicographic":
            numbers = sorted(names, key=names.__getitem__)[record.first : record.last + 1]
        twice = [number for number in numbers if number in self._twice[kind]]
        if twice:
            path, other = self._twice[kind][twice[0]], names[twice[0]]
            raise broken(self.unit / path, "name", f"the number of {other}", "each number once")
        missing = [number for number in numbers if number not in names]
        if missing or len(numbers) <= record.last - record.first:
            number = missing[0] if missing else len(names)
            raise broken(
                self.unit / "videos" / f"observation.images.{kind}",
                f"frame {number}",
                "no file",
                f"images {record.first} to {record.last} of episode {record.episode_index}",
            )
        return numbers

    def paths(self, record: FrameRange, kind: str) -> list[str]:
        """Return files below the unit, one per row of the episode."""
        names = self._listed(kind)
        return [names[number] for number in self.numbers(record, kind)]

    def pattern(self, record: FrameRange, kind: str) -> str:
        """Return one pattern for all files of an episode, as `frame_file` reads it."""
        numbers = self.numbers(record, kind)
        first = self._listed(kind)[numbers[0]]
        digits = _digits(first)
        width = len(digits) if digits[0] == "0" and digits != "0" else 1
        start = first.rindex(digits)
        pattern = first[:start] + "#" * width + first[start + len(digits) :]
        for number, name in zip(numbers, self.paths(record, kind), strict=True):
            if frame_file(pattern, number) != name:
                raise broken(self.unit / name, "name", name, frame_file(pattern, number))
        return pattern

    def _listed(self, kind: str) -> dict[int, str]:
        if kind not in self._names:
            self._names[kind], self._twice[kind] = {}, {}
            for folder in sorted(self.unit.glob(f"videos/chunk-*/observation.images.{kind}")):
                below = folder.relative_to(self.unit)
                for name in sorted(os.listdir(folder)):
                    if _NUMBER.search(name) and not is_foreign(name) and printable(name) == name:
                        number, path = int(_digits(name)), str(below / name)
                        if self._names[kind].setdefault(number, path) != path:
                            self._twice[kind][number] = path
        return self._names[kind]

    def places(self, kind: str) -> list[int]:
        """Return what a range counts: frame numbers, or positions among the sorted names."""
        names = self._listed(kind)
        return list(names) if self.frame_order == "numeric" else list(range(len(names)))


def _digits(name: str) -> str:
    return _NUMBER.search(name).group(1)
