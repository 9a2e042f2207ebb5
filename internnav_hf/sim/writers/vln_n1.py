"""Writes trajectories in InternData-N1's `vln_n1` layout, which NavDP is trained on, one folder for
each scene (v0.5) or for each trajectory (v0.1).

    SCENE/meta/{info.json, episodes.jsonl, tasks.jsonl, episodes_stats.jsonl, pointcloud.ply}
    SCENE/data/chunk-000/episode_000000.parquet
    SCENE/videos/chunk-000/observation.images.{rgb,depth}/000000.{jpg,png}
    SCENE/videos/chunk-000/observation.images.semantics/000000.png    if asked for: classes

All frames of a scene lie in one folder and are numbered consecutively; `image_index` in
episodes_stats.jsonl holds the first and the last of each episode. Numbers are padded, so that
readers that sort names agree with readers that sort numbers. Camera axes are OpenGL's (x right, y
up, z backward); depth has 10,000 units per metre and is clipped at 6.5535 m, as published. Points
of the cloud are obstacles if they are coloured (0, 0, 128).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from internnav_hf.camera import CameraSpec
from internnav_hf.geometry import camera_pose
from internnav_hf.sim.navigation import FLOOR_TOLERANCE_M, ROBOT_HEIGHT_M, sample_surface
from internnav_hf.sim.render import Renderer
from internnav_hf.sim.scenes import Scene
from internnav_hf.sim.semantic_views import class_colours_of
from internnav_hf.sim.writers.lerobot_folder import MATRIX, LeRobotFolder, lerobot_folder
from internnav_hf.sim.writers.vln_ce import JPEG_QUALITY

DEPTH_SCALE = 10_000.0
OBSTACLE_COLOR = (0, 0, 128)
FLOOR_COLOR = (128, 128, 128)
CLOUD_SPACING_M = 0.05
_CAMERA_FROM_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])


@contextmanager
def vln_n1_folder(
    folder: Path,
    renderer: Renderer,
    cloud: tuple[np.ndarray, np.ndarray],
    camera: CameraSpec,
    info: dict,
    semantics: bool = False,
) -> Iterator["TrajectoryWriter"]:
    """Yields a writer, also of `semantics` if asked for; `folder`, with the point `cloud`, appears
    only if the block succeeds.
    """
    with lerobot_folder(folder, camera, info) as lerobot:
        yield TrajectoryWriter(lerobot, renderer, semantics)
        meta = lerobot.folder / "meta"
        meta.mkdir()
        write_cloud(meta / "pointcloud.ply", *cloud)


@dataclass
class TrajectoryWriter:
    """Adds trajectories in one scene to a folder; `vln_n1_folder` makes one."""

    lerobot: LeRobotFolder
    renderer: Renderer
    semantics: bool = False

    def add(self, poses: np.ndarray) -> None:
        """Render and write one trajectory: (T, 3) as x, y, yaw."""
        camera, first = self.lerobot.camera, self.lerobot.num_frames
        for kind in ("rgb", "depth", *["semantics"] * self.semantics):
            self._images(kind).mkdir(parents=True, exist_ok=True)
        pitch = np.radians(camera.pitch_deg)
        T_world_camera = [camera_pose(x, y, yaw, camera.height_m, pitch) for x, y, yaw in poses]
        for frame, pose in enumerate(T_world_camera, start=first):
            self._write_images(frame, pose)
        length, opengl = len(poses), np.array(T_world_camera) @ _CAMERA_FROM_OPENGL
        columns = {
            "observation.camera_intrinsic": _constant(camera.intrinsics, length),
            "observation.camera_extrinsic": _constant(extrinsic(camera), length),
            "action": pa.array(opengl.astype(np.float32).tolist(), MATRIX),
        }
        stats = {"min": [first], "max": [first + length - 1], "count": [length]}
        self.lerobot.add(columns, [{"task": ""}], {"stats": {"image_index": stats}})

    def _images(self, kind: str) -> Path:
        # One chunk: the published reader knows no other.
        return self.lerobot.folder / "videos" / "chunk-000" / f"observation.images.{kind}"

    def _write_images(self, frame: int, T_world_camera: np.ndarray) -> None:
        view = self.renderer.render(T_world_camera, self.lerobot.camera)
        units = np.clip(view.depth * DEPTH_SCALE, 0, np.iinfo(np.uint16).max).astype(np.uint16)
        rgb, depth = Image.fromarray(view.rgb), Image.fromarray(units)
        rgb.save(self._images("rgb") / f"{frame:06d}.jpg", quality=JPEG_QUALITY)
        depth.save(self._images("depth") / f"{frame:06d}.png", compress_level=1)
        if self.semantics:
            colours = class_colours_of(view, T_world_camera, self.lerobot.camera)
            file = self._images("semantics") / f"{frame:06d}.png"
            Image.fromarray(colours).save(file, compress_level=1)


def extrinsic(camera: CameraSpec) -> np.ndarray:
    """(4, 4) from OpenGL's camera axes to a level base on the floor: x right, y forward, z up."""
    T_robot_camera = camera_pose(0, 0, np.pi / 2, camera.height_m, np.radians(camera.pitch_deg))
    return T_robot_camera @ _CAMERA_FROM_OPENGL


def point_cloud(scene: Scene, spacing_m: float = CLOUD_SPACING_M) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, 3) on all surfaces up to the robot's height, about one in each cube of side
    `spacing_m`, and their colours (N, 3) uint8.
    """
    points = sample_surface(scene, spacing_m, ROBOT_HEIGHT_M)
    cubes = np.floor((points - points.min(axis=0)) / spacing_m).astype(np.int64)
    size = cubes.max(axis=0) + 1
    _, chosen = np.unique(np.ravel_multi_index(tuple(cubes.T), tuple(size)), return_index=True)
    points = points[chosen].astype(np.float32)
    is_floor = np.abs(points[:, 2:]) <= FLOOR_TOLERANCE_M
    return points, np.where(is_floor, FLOOR_COLOR, OBSTACLE_COLOR).astype(np.uint8)


def write_cloud(path: Path, points: np.ndarray, colors: np.ndarray) -> None:
    """Write a binary PLY file."""
    import trimesh

    trimesh.PointCloud(points, colors).export(path)


def _constant(matrix: np.ndarray, length: int) -> pa.Array:
    return pa.array([matrix.astype(np.float32).tolist()] * length, MATRIX)
