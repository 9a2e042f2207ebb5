"""Writes and reads small `vln_n1` folders: a curved walk between coloured points, two layouts."""

import functools
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import trimesh
from PIL import Image

from internnav_hf.data.formats.vln_n1.ranges import FrameRange, read_ranges
from internnav_hf.data.formats.vln_n1.reader import find_units, read_episode_columns
from internnav_hf.geometry import camera_pose

SIZE = (64, 36)
FOCAL = 50.0
HEIGHT_M, PITCH = 0.5, float(np.radians(15))
OBSTACLE, FLOOR = (0, 0, 128), (128, 128, 128)
OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])  # y up, z back
RGB = "observation.images.rgb"
DEPTH = "observation.images.depth"


def read_walks(root: Path) -> Iterator[tuple[FrameRange, dict[str, np.ndarray]]]:
    """Record and columns of every episode below a root; the first broken one raises."""
    for unit in find_units(root):
        records, wrong = read_ranges(unit)
        if wrong:
            raise wrong[0]
        yield from ((record, read_episode_columns(record)) for record in records)


def frame_image(number: int, size=SIZE) -> Image.Image:
    """The golden's rule: ramps in x and y, and a blue pattern that goes by the frame."""
    y, x = np.mgrid[: size[1], : size[0]]
    red, green = x * 255 // (size[0] - 1), y * 255 // (size[1] - 1)
    blue = (x + y + 10 * number) // 3 % 256
    return Image.fromarray(np.stack([red, green, blue], axis=-1).astype(np.uint8))


def frame_depth(number: int, size=SIZE) -> Image.Image:
    """The golden's rule, in 0.1 mm."""
    y, x = np.mgrid[: size[1], : size[0]]
    return Image.fromarray(((80 * x + 120 * y + 500 * number) % 65000).astype(np.uint16))


def walk(length: int = 40, start=(0.0, 0.0), turn: float = 0.02, step: float = 0.06) -> np.ndarray:
    """(T, 4, 4) OpenGL camera to world along an arc."""
    yaw = turn * np.arange(length)
    steps = step * np.stack([np.cos(yaw), np.sin(yaw)], axis=1)
    xy = np.array(start) + np.cumsum(steps, axis=0) - steps[0]
    poses = [camera_pose(*p, a, HEIGHT_M, PITCH) @ OPENGL for p, a in zip(xy, yaw, strict=True)]
    return np.array(poses)


def extrinsic(height_m: float = HEIGHT_M, pitch: float = PITCH) -> np.ndarray:
    sin, cos = np.sin(pitch), np.cos(pitch)
    return np.array([[1, 0, 0, 0], [0, sin, -cos, 0], [0, cos, sin, height_m], [0, 0, 0, 1.0]])


def intrinsic(size=SIZE, focal=FOCAL) -> np.ndarray:
    return np.array([[focal, 0, size[0] / 2], [0, focal, size[1] / 2], [0, 0, 1]])


def write_unit(
    unit: Path, walks: list[np.ndarray], size=SIZE, obstacles=None, name="{}", lossless=False
) -> Path:
    """One scene with all its walks, frames numbered through; or one trajectory, with one walk."""
    first, lines = 0, []
    for episode, poses in enumerate(walks):
        last = first + len(poses) - 1
        stats = {"image_index": {"min": [first], "max": [last]}}
        lines.append(json.dumps({"episode_index": episode, "stats": stats}))
        write_parquet(unit, episode, poses, intrinsic=intrinsic(size))
        for number in range(first, last + 1):
            write_frame(unit, number, size, name, lossless)
        first = last + 1
    (unit / "meta").mkdir(parents=True, exist_ok=True)
    (unit / "meta" / "episodes_stats.jsonl").write_text("\n".join(lines) + "\n")
    write_cloud(unit, wall() if obstacles is None else obstacles)
    return unit


def write_frame(unit: Path, number: int, size=SIZE, name="{}", lossless=False) -> None:
    rgb, depth = frame_of(unit, number, RGB, name), frame_of(unit, number, DEPTH, name)
    for path in (rgb, depth):
        path.parent.mkdir(parents=True, exist_ok=True)
    rgb.write_bytes(_encoded(frame_image, number, size, "PNG" if lossless else "JPEG"))
    depth.write_bytes(_encoded(frame_depth, number, size, "PNG"))


@functools.cache
def _encoded(make: Callable[..., Image.Image], number: int, size: tuple, kind: str) -> bytes:
    """Most tests write the same frames."""
    stream = io.BytesIO()
    make(number, size).save(stream, kind)
    return stream.getvalue()


def frame_of(unit: Path, number: int, folder: str = RGB, name: str = "{}") -> Path:
    suffix = ".jpg" if folder == RGB else ".png"
    return unit / "videos" / "chunk-000" / folder / (name.format(number) + suffix)


def parquet_of(unit: Path, episode: int) -> Path:
    return unit / "data" / "chunk-000" / f"episode_{episode:06d}.parquet"


def write_parquet(unit: Path, episode: int, poses: np.ndarray, **columns: np.ndarray) -> None:
    """`columns` replace intrinsic and extrinsic."""
    rows = {
        "action": poses,
        "observation.camera_intrinsic": [columns.get("intrinsic", intrinsic())] * len(poses),
        "observation.camera_extrinsic": [columns.get("extrinsic", extrinsic())] * len(poses),
    }
    nested = pa.list_(pa.list_(pa.float64()))
    arrays = {key: pa.array(np.array(value).tolist(), nested) for key, value in rows.items()}
    path = parquet_of(unit, episode)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(arrays), path)


def wall(y: float = 1.0) -> np.ndarray:
    """(N, 2) points of two walls along x."""
    x = np.arange(-2, 5, 0.02)
    return np.concatenate([np.stack([x, np.full_like(x, side)], axis=1) for side in (y, -y)])


def write_cloud(unit: Path, obstacles: np.ndarray, color=OBSTACLE) -> None:
    """`obstacles` (N, 2) at half a metre above the floor, and some floor."""
    floor = np.stack([*np.meshgrid(np.arange(4.0), np.arange(4.0))], axis=-1).reshape(-1, 2)
    xyz = np.concatenate([np.insert(obstacles, 2, 0.5, axis=1), np.insert(floor, 2, 0.0, axis=1)])
    colors = np.array([color] * len(obstacles) + [FLOOR] * len(floor), np.uint8)
    path = unit / "meta" / "pointcloud.ply"
    path.parent.mkdir(parents=True, exist_ok=True)
    trimesh.PointCloud(xyz, colors).export(path)


def write_root(root: Path, groups=("simulated_zed",), scenes: int = 2, walks: int = 3) -> Path:
    """`scenes` scenes a group with `walks` walks each."""
    for group in groups:
        for scene in range(scenes):
            arcs = [walk(40 + 4 * k, turn=0.02 * (k - 1)) for k in range(walks)]
            write_unit(root / group / f"scene_{scene}", arcs)
    return root
