"""One episode of a `vln_ce` scene, and the paths of the files of an episode in every format.

T frames of the episode. A camera setting S is a name such as "125cm_30deg": height above the floor,
pitch downwards.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from internnav_hf.data.readers.json_files import read_json
from internnav_hf.geometry import Action

INFO_FILE = "meta/info.json"

EPISODES_PER_CHUNK = 1000
FRAME_SUFFIX = {"rgb": ".jpg", "depth": ".png", "landmark": ".png"}


@dataclass(frozen=True, eq=False)
class Episode:
    """`columns` hold one row per frame: `action` (T,), and for every camera setting S `pose.S` (T,
    4, 4) camera to world, `goal.S` (T, 2) pixels [u, v], `relative_goal_frame_id.S` (T,) frames
    ahead. -1 is "none".
    """

    root: Path
    episode_index: int
    instructions: tuple[str, ...]
    columns: dict[str, np.ndarray]

    @property
    def path(self) -> Path:
        """Its parquet file."""
        return parquet_path(self.root, self.episode_index)

    @property
    def length(self) -> int:
        """Number of frames."""
        return len(self.columns["action"])

    @property
    def actions(self) -> np.ndarray:
        """(T,) the expert's next action at each frame; the last is STOP."""
        return next_actions(self.columns["action"])

    def frame_path(self, kind: str, setting: str, frame: int) -> Path:
        """Return the image of a frame; `kind` is "rgb", "depth" or "landmark"."""
        folder = frame_folder(self.root, self.episode_index, kind, setting)
        return folder / frame_name(self.episode_index, kind, frame)


def next_actions(action: np.ndarray) -> np.ndarray:
    """Shift actions by one: the files store the action that led to each frame, the result has the
    one that leaves it.
    """
    return np.append(action[1:], Action.STOP).astype(action.dtype)


def chunk_name(episode_index: int) -> str:
    """Return the folder of an episode; a thousand episodes share one."""
    return f"chunk-{episode_index // EPISODES_PER_CHUNK:03d}"


def parquet_path(root: Path, episode_index: int) -> Path:
    """Return the parquet file of an episode."""
    return root / "data" / chunk_name(episode_index) / f"episode_{episode_index:06d}.parquet"


def frame_folder(root: Path, episode_index: int, kind: str, setting: str) -> Path:
    """Return the image folder of one kind and camera setting, of all episodes of a chunk."""
    return root / "videos" / chunk_name(episode_index) / f"observation.images.{kind}.{setting}"


def frame_pattern(episode_index: int, kind: str, suffix: str = "") -> str:
    """Return `frame_name` with # in place of the frame's number."""
    return f"episode_{episode_index:06d}_#{suffix or FRAME_SUFFIX[kind]}"


def frame_name(episode_index: int, kind: str, frame: int) -> str:
    """Return the file name of a frame; its number is not padded."""
    return f"episode_{episode_index:06d}_{frame}{FRAME_SUFFIX[kind]}"


def is_simulated(scene: Path) -> bool:
    """Return whether the embedded simulator wrote this scene, by its `meta/info.json`."""
    return read_info(scene).get("robot_type") == "simulated"


def read_info(scene: Path) -> dict[str, Any]:
    """Read `meta/info.json`, with cameras and simulators; empty if there is none."""
    path = scene / INFO_FILE
    return read_json(path) if os.path.lexists(path) else {}
