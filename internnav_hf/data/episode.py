"""One walk through a scene, as every reader yields it, and where its image files lie.

T frames of the episode. A camera setting S is a name such as "125cm_30deg": height above the floor,
pitch downwards.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from internnav_hf.data.readers.errors import _SHORT
from internnav_hf.data.readers.json_files import read_json
from internnav_hf.geometry import Action

INFO_FILE = "meta/info.json"

EPISODES_PER_CHUNK = 1000
FRAME_SUFFIX = {"rgb": ".jpg", "depth": ".png", "landmark": ".png"}

_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 3, 80, 80


@dataclass(frozen=True, eq=False)
class Episode:
    """`columns` hold one row per frame: `action` (T,), and for every camera setting S `pose.S` (T,
    4, 4) camera to world, `goal.S` (T, 2) pixels [u, v], `relative_goal_frame_id.S` (T,) frames
    ahead. -1 is "none". Other formats have other columns (`vln_n1.COLUMNS`), and may name the image
    files themselves: `frame_files` has, by kind, one path below `root` per frame.
    """

    root: Path
    episode_index: int
    instructions: tuple[str, ...]
    columns: dict[str, np.ndarray]
    frame_files: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def length(self) -> int:
        """Number of frames."""
        return len(self.columns["action"])

    @property
    def actions(self) -> np.ndarray:
        """(T,) what the expert does next at each frame; the last is STOP."""
        return next_actions(self.columns["action"])

    def frame_path(self, kind: str, setting: str, frame: int) -> Path:
        """`kind` is "rgb", "depth" or "landmark"; `frame_files` know no `setting`."""
        if kind in self.frame_files:
            return self.root / self.frame_files[kind][frame]
        folder = frame_folder(self.root, self.episode_index, kind, setting)
        return folder / frame_name(self.episode_index, kind, frame)


def next_actions(action: np.ndarray) -> np.ndarray:
    """The files store the action that led to each frame; shift it to the one that leaves the
    frame.
    """
    return np.append(action[1:], Action.STOP).astype(action.dtype)


def chunk_name(episode_index: int) -> str:
    """A thousand episodes share a folder."""
    return f"chunk-{episode_index // EPISODES_PER_CHUNK:03d}"


def parquet_path(root: Path, episode_index: int) -> Path:
    """One file per episode."""
    return root / "data" / chunk_name(episode_index) / f"episode_{episode_index:06d}.parquet"


def frame_folder(root: Path, episode_index: int, kind: str, setting: str) -> Path:
    """The images of one kind and camera setting, of all episodes of a chunk."""
    return root / "videos" / chunk_name(episode_index) / f"observation.images.{kind}.{setting}"


def frame_pattern(episode_index: int, kind: str, suffix: str = "") -> str:
    """`frame_name`, with # in the place of the frame's number."""
    return f"episode_{episode_index:06d}_#{suffix or FRAME_SUFFIX[kind]}"


def frame_name(episode_index: int, kind: str, frame: int) -> str:
    """The frame number is not padded."""
    return f"episode_{episode_index:06d}_{frame}{FRAME_SUFFIX[kind]}"


def is_simulated(scene: Path) -> bool:
    """Whether the embedded simulator wrote this scene, as its `meta/info.json` says."""
    return read_info(scene).get("robot_type") == "simulated"


def read_info(scene: Path) -> dict[str, Any]:
    """`meta/info.json`, which tells of cameras and simulators; nothing where there is none."""
    path = scene / INFO_FILE
    return read_json(path) if os.path.lexists(path) else {}
