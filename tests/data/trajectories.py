"""Writes trajectories in the layout of GNM, ViNT and NoMaD: a curved path, striped frames."""

import pickle
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (64, 48)


def path(length: int = 24, step: float = 0.25, turn: float = 0.05) -> np.ndarray:
    """(T, 3) x, y, yaw along an arc."""
    yaw = turn * np.arange(length)
    steps = step * np.stack([np.cos(yaw), np.sin(yaw)], axis=1)
    xy = np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)[:-1]])
    return np.column_stack([xy, yaw])


def frame(number: int, size: tuple[int, int] = SIZE) -> Image.Image:
    """Stripes that move with the number."""
    y, x = np.mgrid[: size[1], : size[0]]
    bands = [(x * 4 + 9 * number) % 256, y * 4 % 256, (x + y + 5 * number) % 256]
    return Image.fromarray(np.stack(bands, axis=-1).astype(np.uint8))


def write_trajectory(
    folder: Path, poses: np.ndarray | None = None, size: tuple[int, int] = SIZE, protocol: int = 4
) -> Path:
    """One trajectory of `poses` (T, 3)."""
    poses = path() if poses is None else poses
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(len(poses)):
        frame(number, size).save(folder / f"{number}.jpg")
    write_poses(folder, {"position": poses[:, :2], "yaw": poses[:, 2]}, protocol)
    return folder


def write_poses(folder: Path, content: object, protocol: int = 4) -> None:
    (folder / "traj_data.pkl").write_bytes(pickle.dumps(content, protocol))


def write_root(root: Path, names=("one", "two"), length: int = 24, step: float = 0.25) -> Path:
    """Several, of which each is longer than the one before."""
    for number, name in enumerate(names):
        turn = -0.05 if number % 2 else 0.05
        write_trajectory(root / name, path(length + 2 * number, step, turn))
    return root
