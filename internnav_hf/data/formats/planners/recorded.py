"""Recorded walks as scenes for planners: any data with poses and depth, `vln_n1` above all.

A scene is what shares a point cloud, or a folder. Its map is made of the cloud, in which obstacles
have a colour, or of all depth images where there is none; once, in a cache folder. A robot's frame
lies on the floor below its camera.

Semantic images may lie beside `vln_n1`'s, as the simulator writes them: `SEMANTICS`.
"""

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from internnav_hf.data.cost_maps.clouds import depth_points, thinned
from internnav_hf.data.cost_maps.geometric import (
    GeometricSettings,
    geometric_map_of,
    split_by_height,
)
from internnav_hf.data.cost_maps.grid import GridMap, without_gaps
from internnav_hf.data.cost_maps.semantic import (
    SemanticSettings,
    costs_of_colours,
    ground_of_colours,
    semantic_map,
)
from internnav_hf.data.formats.planners.scene import check_covered, kept_map
from internnav_hf.data.obstacles import read_cloud
from internnav_hf.data.readers.errors import broken
from internnav_hf.data.readers.image_headers import opened_image
from internnav_hf.data.readers.images import open_image
from internnav_hf.data.rows import EpisodeRow, camera_of
from internnav_hf.geometry import camera_pose

DEPTH, SEMANTICS = "observation.images.depth", "observation.images.semantics"
FRAME_STEP, PIXEL_STEP = 4, 8  # of the depth images that maps are made of
MAP_VERSION = 2  # part of the cache's name; raise it when maps change
FLOOR_M = 0.05  # points of the cloud up to that height are floor, if they are no obstacles
FLOOR_GAP_M = 0.12  # between points of a cloud that has one in each cube of 5 cm


class RecordedScene:
    """The episodes of one place; see `PlannerScene`."""

    def __init__(
        self,
        name: str,
        rows: Sequence[EpisodeRow],
        cache_dir: Path,
        digest: str,
        settings: GeometricSettings | SemanticSettings,
    ):
        self.name, self.rows, self.cache_dir = name, rows, cache_dir
        self.digest, self.settings = digest, settings
        self.camera = camera_of(rows[0])
        poses = [row.poses for row in rows]
        self.poses = np.concatenate([floor_poses(part) for part in poses])
        ends = np.cumsum([len(part) for part in poses]).tolist()
        self.walks = [range(end - len(part), end) for part, end in zip(poses, ends, strict=True)]
        check_covered(self, rows[0].folder)

    def depth(self, frame: int) -> np.ndarray:
        """(rows, columns) float32 metres; 0 where unknown."""
        row, number = self._place(frame)
        return row.depth(number)

    def semantics(self, frame: int) -> np.ndarray | None:
        """(rows, columns, 3) uint8 colours of the classes, if they were written; ValueError if
        their image is of another size than the depth.
        """
        row, number = self._place(frame)
        depth = row.file("depth", number)
        path = depth.parent.with_name(SEMANTICS) / depth.name
        if depth.parent.name != DEPTH or not path.exists():
            return None
        colours = open_image(path)
        with opened_image(depth) as image:
            size = image.size
        if colours.size != size:
            found = f"{colours.size[0]}x{colours.size[1]} pixels"
            raise broken(path, "size", found, f"{size[0]}x{size[1]} as of the depth")
        return np.asarray(colours)

    def rgb(self, frame: int) -> np.ndarray | None:
        """(rows, columns, 3) uint8 the view in colours, if the format has any."""
        row, number = self._place(frame)
        return np.asarray(row.image(number)) if row.has("rgb_file") else None

    @cached_property
    def grid(self) -> GridMap:
        """Made once, in the cache folder."""
        key = [MAP_VERSION, self.digest, self.name, self.settings]
        digest = hashlib.blake2b(repr(key).encode(), digest_size=8).hexdigest()
        return kept_map(self.cache_dir / f"cost-map-{digest}", self._build)

    def _place(self, frame: int) -> tuple[EpisodeRow, int]:
        walk = next(i for i, walk in enumerate(self.walks) if frame in walk)
        return self.rows[walk], frame - self.walks[walk].start

    def _build(self) -> GridMap:
        try:
            if isinstance(self.settings, SemanticSettings):
                points, costs, is_ground = self._classified()
                return semantic_map(points, costs, self.settings, is_ground)
            return geometric_map_of(*self._split(), self.settings)
        except ValueError as error:
            folder = self.rows[0].folder
            if str(folder) in str(error):
                raise
            raise broken(folder, "map", error, "floor and obstacles to make it of") from error

    def _split(self) -> tuple[np.ndarray, np.ndarray]:
        """Obstacles and free floor (., 2)."""
        row, spacing = self.rows[0], self.settings.resolution_m
        if row.has("cloud"):
            points, is_obstacle = read_cloud(row.folder / row["cloud"])
            is_floor = ~is_obstacle & (np.abs(points[:, 2]) < FLOOR_M)
            floor = without_gaps(points[is_floor, :2], FLOOR_GAP_M, spacing)
            return points[is_obstacle, :2], floor
        parts = [points for points, _, _ in self._seen()]
        return split_by_height(thinned(np.concatenate(parts), 0.9 * spacing), self.settings)

    def _classified(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Points (N, 3) of the depth images, what their classes cost (N,), and whether these are
        ground (N,).
        """
        points, costs, is_ground = [], [], []
        for seen, frame, where in self._seen():
            colours = self.semantics(frame)
            if colours is None:
                raise broken(self.rows[0].folder, "semantics", "no images", f"those of {SEMANTICS}")
            points.append(seen)
            costs.append(costs_of_colours(colours[where]))
            is_ground.append(ground_of_colours(colours[where]))
        points, costs, is_ground = map(np.concatenate, (points, costs, is_ground))
        if np.isnan(costs).any():
            share = np.isnan(costs).mean()
            found = f"{share:.0%} of the pixels in colours of no class"
            raise broken(self.rows[0].folder, "semantics", found, "colours of ViPlanner's table")
        cubes = np.floor(points / self.settings.resolution_m).astype(np.int64)
        _, chosen = np.unique(cubes, axis=0, return_index=True)
        return points[chosen], costs[chosen], is_ground[chosen]

    def _seen(self) -> Iterator[tuple[np.ndarray, int, tuple]]:
        """Points (N, 3) of every fourth frame, the frame and their pixels (rows, columns)."""
        for walk, row in zip(self.walks, self.rows, strict=True):
            view = row.view
            for frame in walk[::FRAME_STEP]:
                depth = self.depth(frame)
                scale = depth.shape[1] / row.size[0]
                intrinsics = np.diag([scale, scale, 1.0]) @ view.intrinsics
                x, y, yaw = row.poses[frame - walk.start]
                T_world_camera = camera_pose(x, y, yaw, view.height_m, view.pitch)
                points, pixels = depth_points(depth, intrinsics, T_world_camera, step=PIXEL_STEP)
                yield points, frame, pixels


def floor_poses(poses: np.ndarray) -> np.ndarray:
    """T_world_robot (T, 4, 4) of robots on the floor at `poses` (T, 3), x, y, yaw."""
    x, y, yaw = poses.T
    matrices = np.tile(np.eye(4), (len(poses), 1, 1))
    matrices[:, 0, 0] = matrices[:, 1, 1] = np.cos(yaw)
    matrices[:, 1, 0], matrices[:, 0, 1] = np.sin(yaw), -np.sin(yaw)
    matrices[:, 0, 3], matrices[:, 1, 3] = x, y
    return matrices
