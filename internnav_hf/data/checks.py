"""What an episode must be before a sample is taken from it. Each failure is one ValueError from
`broken`.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..geometry import Action
from .episode import Episode, broken, frame_folder, frame_name, parquet_path
from .files import file_sizes, state_of
from .image_headers import ALPHA_MODES, COLOR_MODES, DEPTH_MODES, read_header
from .images import open_image
from .lerobot import EpisodeRecord, read_episode
from .names import DatasetName

START = -1
KNOWN_ACTIONS = [START, *(action for action in Action if action != Action.LOOK_UP)]
ASPECT_TOLERANCE = 0.02
MODES = {
    "rgb": (COLOR_MODES, "colours of 8 bits: RGB, or grey (L)"),
    "landmark": (COLOR_MODES, "8-bit grey (L)"),
    "depth": (DEPTH_MODES, "16-bit grey: depth"),
}


class FrameFiles:
    """The image files of one scene; each folder is listed once."""

    def __init__(self, scene: Path):
        self.scene = scene
        self._sizes: dict[Path, dict[str, int]] = {}

    def sizes(self, folder: Path) -> dict[str, int]:
        """Bytes by name of a file; empty where there is no such folder."""
        if folder not in self._sizes:
            self._sizes[folder] = file_sizes(folder) if folder.is_dir() else {}
        return self._sizes[folder]

    def check(
        self, episode: Episode, kind: str, setting: str, size: tuple[int, int] | None = None
    ) -> tuple[int, int]:
        """Every frame has an image of the right mode, and all have one size, which is returned."""
        folder = frame_folder(self.scene, episode.episode_index, kind, setting)
        sizes = self.sizes(folder)
        names = [frame_name(episode.episode_index, kind, frame) for frame in range(episode.length)]
        for name in names:
            if not sizes.get(name):
                expected = f"an image for each of {episode.length} frames"
                raise broken(folder / name, "file", state_of(folder / name), expected)
        return check_images([f"{folder}/{name}" for name in names], kind, size)

    def has_landmarks(self, episode: Episode, setting: str) -> bool:
        """Whether the simulator wrote masks of the named object for this episode."""
        folder = frame_folder(self.scene, episode.episode_index, "landmark", setting)
        return frame_name(episode.episode_index, "landmark", 0) in self.sizes(folder)


def check_episode(
    record: EpisodeRecord, name: DatasetName, files: FrameFiles, needs_depth: bool = False
) -> tuple[Episode, tuple[int, int], bool]:
    """The episode, its image size (width, height), and whether it has landmark masks."""
    episode = read_episode(record, [name.look_down_setting])
    path = parquet_path(episode.root, episode.episode_index)
    check_values(episode, name.look_down_setting, path)
    size = files.check(episode, "rgb", name.look_down_setting)
    if name.setting != name.look_down_setting:
        files.check(episode, "rgb", name.setting, size)
    has_landmarks = files.has_landmarks(episode, name.look_down_setting)
    if has_landmarks:
        files.check(episode, "landmark", name.look_down_setting)
    if needs_depth:
        files.check(episode, "depth", name.look_down_setting, size)
    check_goals(episode, name.look_down_setting, size, path)
    return episode, size, has_landmarks


def check_values(episode: Episode, setting: str, path: Path) -> None:
    """Known actions, finite poses, waypoints that the camera reaches within the episode."""
    if episode.length == 0:
        raise broken(path, "length", "0 rows", "at least one frame")
    action = episode.columns["action"]
    unknown = np.flatnonzero(~np.isin(action, KNOWN_ACTIONS) | (action == START))
    unknown = unknown[unknown > 0]
    if len(unknown):
        frame = unknown[0]
        expected = f"one of {[int(known) for known in KNOWN_ACTIONS[1:]]}"
        raise broken(path, "action", f"{action[frame]} at frame {frame}", expected)
    pose = episode.columns[f"pose.{setting}"]
    infinite = np.flatnonzero(~np.isfinite(pose).all(axis=(1, 2)))
    if len(infinite):
        found = f"nan or infinity at frame {infinite[0]}"
        raise broken(path, f"pose.{setting}", found, "finite numbers")
    check_relative_goals(episode, setting, path)


def check_relative_goals(episode: Episode, setting: str, path: Path) -> None:
    """-1, or a number of frames that stays inside the episode."""
    name = f"relative_goal_frame_id.{setting}"
    ahead = episode.columns[name]
    outside = np.flatnonzero((ahead < -1) | (np.arange(len(ahead)) + ahead >= len(ahead)))
    if len(outside):
        frame = outside[0]
        found = f"{ahead[frame]} at frame {frame} of {len(ahead)}"
        raise broken(path, name, found, "-1 or a frame inside the episode")


def check_goals(episode: Episode, setting: str, size: tuple[int, int], path: Path) -> None:
    """Wherever there is a waypoint, its pixel lies inside the image."""
    name = f"goal.{setting}"
    goal = episode.columns[name]
    has_goal = episode.columns[f"relative_goal_frame_id.{setting}"] > 0
    outside = np.flatnonzero(has_goal & ((goal < 0) | (goal >= size)).any(axis=1))
    if len(outside):
        frame = outside[0]
        found = f"{goal[frame].tolist()} at frame {frame}"
        raise broken(path, name, found, f"a pixel [u, v] inside {size[0]}x{size[1]}")


def check_images(
    paths: Sequence[str | Path], kind: str, size: tuple[int, int] | None = None
) -> tuple[int, int]:
    """Every file is an image of the kind ("rgb", "depth", "landmark"), of one size, (width,
    height), by default the first one's; no pixel is decoded where there is no alpha.
    """
    modes, expected = MODES[kind]
    alpha = None
    for path in paths:
        header = read_header(path)
        size = header.size if size is None else size
        if header.mode not in modes:
            raise broken(path, "mode", header.mode, expected)
        if header.size != size:
            raise broken(path, "size", header.size, f"{size} as all images of the episode have")
        if alpha is None and header.mode in ALPHA_MODES:
            alpha = path
    if alpha is not None:
        open_image(Path(alpha))
    return size


def check_aspect(path: Path | str, depth: tuple[int, int], colors: tuple[int, int]) -> None:
    """Sizes (width, height): depth may be smaller than the colours, and shows the same."""
    if abs(depth[0] * colors[1] / (depth[1] * colors[0]) - 1) > ASPECT_TOLERANCE:
        found = f"{depth[0]}x{depth[1]} of depth"
        raise broken(path, "size", found, f"the aspect of the colours, {colors[0]}x{colors[1]}")
