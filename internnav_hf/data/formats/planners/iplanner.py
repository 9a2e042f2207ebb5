"""iPlanner's folders.

    <root>/training_list.txt                names of environments, one a line; default: all
    <root>/<name>/depth/12.png              16 bit, millimetres
    <root>/<name>/odom_ground_truth.txt     [x, y, z, qx, qy, qz, qw] of the robot, a line a frame
    <root>/<name>/camera_extrinsic.txt      [qx, qy, qz, qw, x, y, z] of the camera on the robot
    <root>/<name>/depth_intrinsic.txt       12 or 16 numbers
    <root>/<name>/maps/data/tsdf1_map.txt, tsdf1_ground.txt, maps/params/tsdf1_param.txt

A map that is not there is built once: of cloud.ply if there is one, or of all depth images. Images
of the ANYmal robot (names that contain "anymal") are upside down, and its poses 0.4 m behind its
sensor.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np

from internnav_hf.camera import CameraSpec
from internnav_hf.data.checks.poses import LARGEST_MOTION_M, check_positions
from internnav_hf.data.cost_maps.clouds import (
    OBSTACLE_NEIGHBOURS,
    depth_points,
    is_no_stray,
    thinned,
)
from internnav_hf.data.cost_maps.geometric import (
    GeometricSettings,
    geometric_map_of,
    split_by_height,
)
from internnav_hf.data.cost_maps.grid import GridMap
from internnav_hf.data.formats.planners.scene import (
    CLOUD,
    Pinhole,
    built_map,
    check_covered,
    check_seen,
    cloud_points,
    known_depth,
    pose_matrices,
    read_numbers,
)
from internnav_hf.data.readers.errors import broken
from internnav_hf.data.readers.folders import did_you_mean, open_file, subfolders
from internnav_hf.data.readers.images import open_depth

logger = logging.getLogger(__name__)

POSES, INTRINSIC = "odom_ground_truth.txt", "depth_intrinsic.txt"
EXTRINSIC, LIST = "camera_extrinsic.txt", "training_list.txt"
MAP = "tsdf1"
ANYMAL, ANYMAL_SENSOR_M = "anymal", 0.4
ROBOT_HEIGHTS = 1.5  # up to which something is an obstacle; poses are at one
POINTS_PER_FRAME = 4000  # about; of the clouds that maps are built of
# x right, y down, z ahead, in a frame with x ahead, y left, z up
ROBOT_FROM_OPTICAL = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])


class IPlannerScene:
    """One environment; see `PlannerScene`."""

    def __init__(self, folder: Path, cache_dir: Path, settings: GeometricSettings | None = None):
        self.folder, self.name = folder, folder.name
        self.settings = settings or GeometricSettings()
        poses = read_numbers(folder / POSES, 7, "7 numbers a line: x, y, z, qx, qy, qz, qw")
        self.poses = pose_matrices(poses, folder / POSES)
        self.is_anymal = ANYMAL in self.name
        if self.is_anymal:
            self.poses[:, :3, 3] += ANYMAL_SENSOR_M * self.poses[:, :3, 0]
        self.walks = walks_of(self.poses[:, :3, 3], folder / POSES)
        self._check_frames()
        matrix = read_numbers(folder / INTRINSIC, 1, "12 or 16 numbers of a matrix").ravel()
        if len(matrix) not in (12, 16):
            raise broken(folder / INTRINSIC, "file", f"{len(matrix)} numbers", "12 or 16")
        self.pinhole = Pinhole(matrix.reshape(-1, 4)[:3, :3])
        self.size: tuple[int, int] | None = None
        rows, columns = self.depth(0).shape
        self.size = columns, rows
        self.camera: CameraSpec = self.pinhole.camera(self.size, folder / INTRINSIC)
        self.cache_dir = cache_dir
        check_seen(self, folder / "depth")
        check_covered(self, folder)

    def depth(self, frame: int) -> np.ndarray:
        """(rows, columns) float32 metres; 0 where unknown."""
        path = self.folder / "depth" / f"{frame}.png"
        depth = known_depth(open_depth(path), path, self.size)
        return depth[::-1, ::-1] if self.is_anymal else depth

    def semantics(self, frame: int) -> None:
        """There are none."""

    def rgb(self, frame: int) -> None:
        """There are none."""

    @cached_property
    def grid(self) -> GridMap:
        """The published map in the folder, or one built here."""
        if (self.folder / "maps" / "data" / f"{MAP}_map.txt").exists():
            return read_map(self.folder / "maps", MAP)
        return built_map(self.folder, self.cache_dir, self.settings, self._build)

    def _build(self) -> GridMap:
        height = float(np.mean(self.poses[:, 2, 3]))
        low = self.settings.obstacle_range_m[0]
        settings = replace(self.settings, obstacle_range_m=(low, ROBOT_HEIGHTS * height))
        file = self.folder / CLOUD
        points = cloud_points(file)[0] if file.exists() else self._cloud(height)
        obstacles, free = split_by_height(points, settings)
        obstacles = obstacles[is_no_stray(obstacles, OBSTACLE_NEIGHBOURS)]
        return geometric_map_of(obstacles, free, settings)

    def _cloud(self, height: float) -> np.ndarray:
        """(N, 3) what all depth images show, of robots on level ground: without pitch and roll, and
        at one height.
        """
        rows = read_numbers(self.folder / EXTRINSIC, 7, "7 numbers: qx, qy, qz, qw, x, y, z")
        order = [4, 5, 6, 0, 1, 2, 3]
        T_robot_camera = pose_matrices(rows[:1, order], self.folder / EXTRINSIC)[0]
        parts = []
        for frame, pose in enumerate(self.poses):
            T_world_camera = levelled(pose, height) @ T_robot_camera @ ROBOT_FROM_OPTICAL
            depth = self.depth(frame)
            step = max(1, round((depth.size / POINTS_PER_FRAME) ** 0.5))
            intrinsics = self.pinhole.intrinsics
            points, _ = depth_points(depth, intrinsics, T_world_camera, step=step)
            parts.append(thinned(points, 0.9 * self.settings.resolution_m))
        return thinned(np.concatenate(parts), 0.9 * self.settings.resolution_m)

    def _check_frames(self) -> None:
        files = {path.name for path in (self.folder / "depth").glob("*.png")}
        missing = [n for n in range(len(self.poses)) if f"{n}.png" not in files]
        if missing:
            found = f"{len(files)} images, none of frame {missing[0]}"
            expected = f"one for each of {len(self.poses)} poses of {POSES}"
            raise broken(self.folder / "depth", "images", found, expected)


def walks_of(xyz: np.ndarray, path: Path) -> list[range]:
    """Frames that follow each other among positions (T, 3): recordings that were put one behind the
    other are told apart by their jumps. ValueError if nothing but jumps.
    """
    steps = np.linalg.norm(np.diff(xyz, axis=0), axis=1)
    jumps = np.flatnonzero(steps > LARGEST_MOTION_M) + 1
    if not len(jumps):
        return [range(len(xyz))]
    if 2 * len(jumps) > len(steps):
        check_positions(xyz, path, "poses", LARGEST_MOTION_M)
    told = "%s: %d jumps of more than %g m, the first to frame %d: walks end there."
    logger.warning(told, path, len(jumps), LARGEST_MOTION_M, jumps[0])
    ends = [0, *jumps.tolist(), len(xyz)]
    return [range(start, end) for start, end in pairwise(ends)]


def levelled(pose: np.ndarray, height: float) -> np.ndarray:
    """A pose (4, 4) without pitch and roll, at another height."""
    yaw = np.arctan2(pose[1, 0], pose[0, 0])
    level = np.eye(4)
    level[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
    level[:3, 3] = (*pose[:2, 3], height)
    return level


def read_map(folder: Path, name: str) -> GridMap:
    """A published map: text files of costs and heights, and its parameters."""
    where = folder / "params" / f"{name}_param.txt"
    parameters = read_numbers(where, 1, "4 lines: cell, start x, start y, margin").ravel()
    if len(parameters) < 3 or parameters[0] <= 0:
        raise broken(where, "file", parameters.tolist(), "4 lines: cell, start x, start y, margin")
    grids = {kind: read_grid(folder / "data" / f"{name}_{kind}.txt") for kind in ("map", "ground")}
    check_grids(grids["map"], grids["ground"], folder)
    return GridMap(grids["map"], parameters[1:3], float(parameters[0]), grids["ground"])


def read_grid(path: Path) -> np.ndarray:
    """(X, Y) of a text file, a line for each x."""
    with open_file(path, "a grid of numbers") as stream:
        lines = sum(1 for line in stream if line.strip())
    numbers = read_numbers(path, 1, "a grid of numbers")
    if len(numbers) % max(lines, 1):
        raise broken(path, "file", f"{len(numbers)} numbers in {lines} lines", "a grid of numbers")
    return numbers.reshape(lines, -1)


def check_grids(costs: np.ndarray, ground: np.ndarray, folder: Path) -> None:
    """Raise ValueError unless the ground is that of the map."""
    if costs.shape != ground.shape:
        found = f"a map of {costs.shape} and a ground of {ground.shape} cells"
        raise broken(folder, "maps", found, "both of one size")


def environments(root: Path, names: Sequence[str] | None = None) -> list[Path]:
    """Folders of the environments `names`, or of the published list, or of all."""
    known = [folder.name for folder in subfolders(root) if (folder / POSES).exists()]
    if names is None and (root / LIST).exists():
        with open_file(root / LIST, "names of environments") as stream:
            names = [line.strip() for line in stream.read(1 << 20).decode().splitlines()]
            names = [name for name in names if name]
    for name in names or ():
        if name not in known:
            raise ValueError(f"{root}: there is no environment {name}.{did_you_mean(name, known)}")
    if not known:
        raise broken(root, "environments", "none", f"folders with {POSES}")
    return [root / name for name in (known if names is None else names)]
