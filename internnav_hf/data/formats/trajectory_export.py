"""Writes episodes with poses as trajectories in the layout of GNM, ViNT and NoMaD (see
`trajectories`), and topological maps, folders of images in the order of their numbers.
"""

import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from internnav_hf.data.formats.trajectories import IMAGE_SUFFIX, NAMES_FILE, POSES_FILE
from internnav_hf.data.readers.errors import broken
from internnav_hf.data.readers.folders import is_foreign, state_of
from internnav_hf.data.readers.images import open_image
from internnav_hf.data.rows import EpisodeRow
from internnav_hf.data.tasks.image_goal_targets import forward_stretches
from internnav_hf.files import atomic_folder

JPEG_QUALITY = 95
SHORTEST_STRETCH = 2


def write_trajectories(folder: Path, episode: EpisodeRow, name: str, cut: bool = True) -> list[str]:
    """Write an episode below `folder`, as `name`, or as NAME_0, NAME_1, ... if it is `cut` where
    the robot does not drive forward; return the names. Trajectories that exist are kept.
    """
    poses = episode.poses
    whole = [range(len(poses))]
    stretches = [one for one in forward_stretches(poses) if len(one) >= SHORTEST_STRETCH]
    names = []
    for number, frames in enumerate(stretches if cut else whole):
        names.append(f"{name}_{number}" if cut else name)
        if not (folder / names[-1]).is_dir():
            with atomic_folder(folder / names[-1]) as new:
                _write_images(new, episode, frames)
                chosen = poses[frames.start : frames.stop]
                content = {"position": chosen[:, :2].copy(), "yaw": chosen[:, 2].copy()}
                (new / POSES_FILE).write_bytes(pickle.dumps(content, protocol=4))
    return names


def write_map(folder: Path, episode: EpisodeRow, frames_per_node: int) -> None:
    """Write every `frames_per_node`-th view of an episode, and the last, as a topological map."""
    if folder.is_dir():
        return
    length = episode["length"]
    nodes = sorted({*range(0, length, frames_per_node), length - 1})
    with atomic_folder(folder) as new:
        _write_images(new, episode, nodes)


def write_names(folder: Path, names: Sequence[str]) -> None:
    """Write `traj_names.txt` of a split."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / NAMES_FILE).write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


def read_map(folder: str | Path) -> list[Image.Image]:
    """The images of a topological map, in the order of the numbers that their names are.

    Raises ValueError for fewer than two, and for a name that is no number.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise broken(folder, "folder", state_of(folder), "a topological map: 0.jpg, 1.jpg, ...")
    files = [path for path in folder.iterdir() if not is_foreign(path.name)]
    wrong = next((path.name for path in files if not path.stem.isdecimal()), None)
    if wrong is not None or len(files) < 2:
        found = f"{len(files)} images" if wrong is None else wrong
        raise broken(folder, "nodes", found, "two or more images, 0.jpg, 1.jpg, ...")
    return [open_image(path) for path in sorted(files, key=lambda path: int(path.stem))]


def _write_images(folder: Path, episode: EpisodeRow, frames: Sequence[int]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(frames):
        image = Image.fromarray(np.asarray(episode.image(frame)))
        image.save(folder / f"{number}{IMAGE_SUFFIX}", quality=JPEG_QUALITY)
