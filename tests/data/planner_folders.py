"""Writes small folders in iPlanner's and ViPlanner's layouts: a robot drives towards a wall."""

from pathlib import Path

import numpy as np
import trimesh
from PIL import Image

from internnav_hf.models.planners.semantics import class_named
from tests.data.vln_n1 import FLOOR as GREY
from tests.data.vln_n1 import OBSTACLE, wall, write_root

SIZE = (64, 48)  # width, height
FOCAL = 40.0
WALL_X, HEIGHT_M = 4.0, 0.5
FLOOR, WALL = (class_named(name).colour for name in ("floor", "wall"))


def views(x: float) -> tuple[np.ndarray, np.ndarray]:
    """Depth (rows, columns) in metres and classes, colours, from `x`: level floor, a wall."""
    width, height = SIZE
    down = (np.arange(height) + 0.5 - height / 2) / FOCAL
    with np.errstate(divide="ignore"):
        floor = np.where(down > 0, HEIGHT_M / np.abs(down), np.inf)
    depth = np.minimum(floor, WALL_X - x)
    colours = np.where((floor < WALL_X - x)[:, None], FLOOR, WALL).astype(np.uint8)
    return np.tile(depth[:, None], (1, width)), np.tile(colours[:, None], (1, width, 1))


def rows_of(num_frames: int, height_m: float = HEIGHT_M) -> np.ndarray:
    """(T, 7) x, y, z, quaternion along x, a tenth of a metre a frame."""
    rows = np.zeros((num_frames, 7))
    rows[:, 0], rows[:, 2], rows[:, 6] = 0.1 * np.arange(num_frames), height_m, 1
    return rows


def matrix() -> list[float]:
    width, height = SIZE
    return [FOCAL, 0, width / 2, 0, 0, FOCAL, height / 2, 0, 0, 0, 1, 0]


def write_maps(folder: Path, name: str, start=(-1.0, -2.0), cells=(70, 40), resolution=0.1):
    """Costs that grow behind the wall; level ground."""
    for place in ("data", "params"):
        (folder / place).mkdir(parents=True, exist_ok=True)
    x = start[0] + resolution * (np.arange(cells[0]) + 0.5)
    costs = np.repeat(np.clip(x - WALL_X, 0, 2)[:, None], cells[1], axis=1)
    np.savetxt(folder / "data" / f"{name}_map.txt", costs)
    np.savetxt(folder / "data" / f"{name}_ground.txt", np.zeros(cells))
    return costs


def write_iplanner(root: Path, name: str = "indoor", num_frames: int = 24, with_map: bool = True):
    """One environment; the folder."""
    folder = root / name
    (folder / "depth").mkdir(parents=True)
    rows = rows_of(num_frames)
    lines = [str([float(v) for v in row]) for row in rows]
    (folder / "odom_ground_truth.txt").write_text("\n".join(lines) + "\n")
    (folder / "camera_extrinsic.txt").write_text("[0, 0, 0, 1, 0, 0, 0]\n")
    (folder / "depth_intrinsic.txt").write_text(" ".join(map(str, matrix())))
    for frame, row in enumerate(rows):
        depth = np.clip(views(row[0])[0] * 1000, 0, 60000).astype(np.uint16)
        Image.fromarray(depth).save(folder / "depth" / f"{frame}.png")
    if with_map:
        write_maps(folder / "maps", "tsdf1")
        (folder / "maps" / "params" / "tsdf1_param.txt").write_text("0.1\n-1.0\n-2.0\n1.0\n")
    return folder


def write_viplanner(root: Path, name: str = "home", num_frames: int = 24) -> Path:
    """One environment, whose semantic camera is the depth camera; the folder."""
    folder = root / name
    for kind in ("depth", "semantics"):
        (folder / kind).mkdir(parents=True)
    rows = rows_of(num_frames)
    for suffix in ("_cam0", "_cam1"):
        np.savetxt(folder / f"camera_extrinsic{suffix}.txt", rows, delimiter=",")
    np.savetxt(folder / "intrinsics.txt", [matrix(), matrix()], delimiter=",")
    for frame, row in enumerate(rows):
        depth, colours = views(row[0])
        np.save(folder / "depth" / f"{frame:04d}_cam0.npy", (depth * 1000).astype(np.float32))
        Image.fromarray(colours).save(folder / "semantics" / f"{frame:04d}_cam1.png")
    write_maps(folder / "maps", "cost_map_sem")
    (folder / "maps" / "params" / "config_cost_map_sem.yaml").write_text(
        "!!python/object:viplanner.config.costmap_cfg.CostMapConfig\n"
        "general: !!python/object:viplanner.config.costmap_cfg.GeneralCostMapConfig\n"
        "  resolution: 0.1\nx_start: -1.0\ny_start: -2.0\n"
    )
    return folder


def write_cloud(folder: Path, coloured: bool = False) -> None:
    """`cloud.ply` of the floor and the wall, and of walls beside them."""
    x, y = (v.ravel() for v in np.meshgrid(np.arange(-1, WALL_X, 0.05), np.arange(-2, 2, 0.05)))
    floor = np.stack([x, y, np.zeros(len(x))], axis=1)
    y, z = (v.ravel() for v in np.meshgrid(np.arange(-2, 2, 0.05), np.arange(0.05, 0.7, 0.05)))
    wall = np.stack([np.full(len(y), WALL_X), y, z], axis=1)
    back = wall * [0, 1, 1] - [1.0, 0, 0]
    points = np.concatenate([floor, wall, back])
    colours = np.array([FLOOR] * len(floor) + [WALL] * (len(wall) + len(back)), np.uint8)
    trimesh.PointCloud(points, colours if coloured else None).export(folder / "cloud.ply")


def write_walks(root: Path, groups: tuple[str, ...] = ("simulated_zed",)) -> Path:
    """Recorded walks between two walls, with floor all over; the root."""
    write_root(root, groups)
    x, y = np.meshgrid(np.arange(-2, 5, 0.05), np.arange(-0.95, 0.91, 0.05))
    floor = np.stack([x.ravel(), y.ravel(), np.zeros(x.size)], axis=1)
    floor[:, :2] += np.random.default_rng(0).uniform(0, 0.05, (x.size, 2))  # one in each square
    xyz = np.concatenate([np.insert(wall(), 2, 0.5, axis=1), floor])
    colours = np.array([OBSTACLE] * len(wall()) + [GREY] * len(floor), np.uint8)
    for cloud in sorted(root.glob("*/*/meta/pointcloud.ply")):
        trimesh.PointCloud(xyz, colours).export(cloud)
    return root
