"""Trajectories in the layout of GNM, ViNT and NoMaD:

    ROOT/TRAJECTORY/0.jpg, 1.jpg, ...     colour frames, one a time step
    ROOT/TRAJECTORY/traj_data.pkl         {"position": (T, 2) metres, "yaw": (T,) or (T, 1) radians}
    SPLIT/traj_names.txt                  names of trajectories, one a line

The pickle is read as data. There is no camera in it.
"""

import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from internnav_hf.data.checks.images import check_images
from internnav_hf.data.checks.poses import LARGEST_MOTION_M, check_positions, check_yaw
from internnav_hf.data.index import Reading, Source, episode_schema
from internnav_hf.data.readers.errors import broken, shown
from internnav_hf.data.readers.folders import did_you_mean, is_foreign, open_file, subfolders
from internnav_hf.data.readers.pickles import read_arrays
from internnav_hf.data.tables import stamp

POSES_FILE = "traj_data.pkl"
NAMES_FILE = "traj_names.txt"
IMAGE_SUFFIX = ".jpg"
INDEX_VERSION = 1  # part of the cache's name; raise it when checks or columns change
_NUM_TRIED = 5
_MOST_BYTES = 64 << 20
_NAMES = ("unit", "episode_index", "length", "width", "height", "poses", "rgb_file")
EPISODE_SCHEMA = episode_schema(*_NAMES)


def is_trajectory_root(data_root: Path) -> bool:
    """Whether `data_root` has this layout, by the first of its folders."""
    if not data_root.is_dir():
        return False
    return any((one / POSES_FILE).exists() for one in islice(subfolders(data_root), _NUM_TRIED))


def trajectories(data_root: Path, names: Sequence[str] | None = None) -> Source:
    """All trajectories of `data_root`, or those of `names`."""

    def find_folders() -> Sequence[Path]:
        found = subfolders(data_root)
        if names is None:
            return [folder for folder in found if (folder / POSES_FILE).exists()]
        known = {folder.name for folder in found}
        for name in names:
            if name not in known:
                hint = did_you_mean(name, sorted(known)[:20])
                raise ValueError(f"{data_root}: found no trajectory {name}.{hint}")
        return [data_root / name for name in dict.fromkeys(names)]

    return Source(
        *(data_root, "trajectories", [INDEX_VERSION], EPISODE_SCHEMA),
        find_folders=find_folders,
        read_folder=lambda folder: iter([_row(folder)]),
        stamps=_stamps,
    )


def read_names(path: Path) -> list[str]:
    """Names of trajectories of a split: the file, or the folder with `traj_names.txt`."""
    path = path / NAMES_FILE if path.is_dir() else path
    with open_file(path, "names of trajectories, one a line") as stream:
        text = stream.read(_MOST_BYTES)
    try:
        names = [line.strip() for line in text.decode("utf-8").splitlines()]
    except UnicodeDecodeError as error:
        raise broken(path, "file", str(error), "UTF-8") from error
    names = [name for name in names if name]
    wrong = next((name for name in names if Path(name).name != name), None)
    if wrong is not None or not names:
        expected = "names of folders, one a line"
        raise broken(path, "file", "no name" if wrong is None else shown(wrong), expected)
    return names


def _stamps(folder: Path) -> Iterator[str]:
    yield stamp(folder.name, folder / POSES_FILE)
    yield ",".join(sorted(os.listdir(folder))) if folder.is_dir() else "none"


def _row(folder: Path) -> Reading:
    poses = read_poses(folder / POSES_FILE)
    size = check_images(_frames(folder, len(poses)), "rgb")
    values: dict[str, Any] = {
        "unit": folder.name,
        "episode_index": 0,
        "length": len(poses),
        "width": size[0],
        "height": size[1],
        "poses": poses.ravel(),
        "rgb_file": f"#{IMAGE_SUFFIX}",
    }
    return values


def read_poses(path: Path) -> np.ndarray:
    """(T, 3) x, y, yaw of `traj_data.pkl`; ValueError if they cannot be those of a robot."""
    content = read_arrays(path)
    position = _numbers(path, content, "position", (2,))
    yaw = _numbers(path, content, "yaw", ())
    if len(yaw) != len(position):
        raise broken(path, "yaw", f"{len(yaw)} of them", f"{len(position)}, as of position")
    flat = np.column_stack([position, np.zeros(len(position))])
    check_positions(flat, path, "position", LARGEST_MOTION_M)
    check_yaw(yaw, path, "yaw")
    return np.column_stack([position, yaw])


def _numbers(path: Path, content: dict, name: str, shape: tuple[int, ...]) -> np.ndarray:
    expected = f"finite numbers (T, {shape[0]})" if shape else "finite numbers (T,) or (T, 1)"
    if name not in content:
        raise broken(path, "names", sorted(content), f"{name}: {expected}")
    try:
        values = np.asarray(content[name], np.float64)
    except (TypeError, ValueError) as error:
        raise broken(path, name, f"{shown(content[name])} ({error})", expected) from error
    if not shape and values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.shape[1:] != shape or not values.ndim or not len(values):
        raise broken(path, name, f"shape {values.shape}", expected)
    wrong = np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(axis=1))
    if len(wrong):
        raise broken(path, name, f"{shown(values[wrong[0]])} at frame {wrong[0]}", expected)
    return values


def _frames(folder: Path, length: int) -> list[Path]:
    """The image of each pose; ValueError for a gap in their numbers."""
    names = [entry for entry in os.listdir(folder) if not is_foreign(entry)]
    found = sorted(
        int(name.removesuffix(IMAGE_SUFFIX))
        for name in names
        if name.endswith(IMAGE_SUFFIX) and name.removesuffix(IMAGE_SUFFIX).isdecimal()
    )
    missing = sorted(set(range(length)) - set(found))
    if missing:
        frame = f"{missing[0]}{IMAGE_SUFFIX}"
        expected = f"0{IMAGE_SUFFIX} to {length - 1}{IMAGE_SUFFIX}, one for each pose"
        raise broken(folder, "frames", f"{len(found)}, without {frame}", expected)
    return [folder / f"{number}{IMAGE_SUFFIX}" for number in range(length)]
