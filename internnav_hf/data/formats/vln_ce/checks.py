"""Checks of an episode before sampling. Each failure is one ValueError from `broken`."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from internnav_hf.camera import CameraSpec
from internnav_hf.data.checks.actions import (
    AT_FRAME,
    MOVES,
    TOO_LATE,
    Transitions,
    check_agreement,
    hint,
    wrong_together,
)
from internnav_hf.data.checks.cameras import check_recorded_size, floor_view
from internnav_hf.data.checks.depth import depth_problems
from internnav_hf.data.checks.images import check_images
from internnav_hf.data.checks.poses import (
    check_camera_axes,
    check_heading,
    check_matrices,
    check_moves,
    check_positions,
    check_standing,
)
from internnav_hf.data.episode import Episode, frame_folder, frame_name, parquet_path
from internnav_hf.data.formats.vln_ce.names import DatasetName
from internnav_hf.data.formats.vln_ce.reader import EpisodeRecord, read_episode
from internnav_hf.data.readers.errors import broken
from internnav_hf.data.readers.folders import state_of
from internnav_hf.data.readers.images import open_depth_units
from internnav_hf.geometry import Action, robot_poses

LEADING = [Action.FORWARD, Action.TURN_LEFT, Action.TURN_RIGHT, Action.LOOK_DOWN]
SHIFTS = {-1: AT_FRAME, 1: TOO_LATE}
"""Meaning of a shift: the action of the frame before, or after, is what led to a frame."""


class FrameFiles:
    """The image files of one scene; each folder is listed once."""

    def __init__(self, scene: Path):
        self.scene = scene
        self._names: dict[Path, frozenset[str]] = {}

    def names(self, folder: Path) -> frozenset[str]:
        """Return all names in a folder; empty if there is no such folder."""
        if folder not in self._names:
            self._names[folder] = frozenset(os.listdir(folder) if folder.is_dir() else ())
        return self._names[folder]

    def check(
        self, episode: Episode, kind: str, setting: str, size: tuple[int, int] | None = None
    ) -> tuple[int, int]:
        """Check that each frame has an image of the right mode; return the common size."""
        folder = frame_folder(self.scene, episode.episode_index, kind, setting)
        there = self.names(folder)
        names = [frame_name(episode.episode_index, kind, frame) for frame in range(episode.length)]
        for name in names:
            if name not in there:
                expected = f"an image for each of {episode.length} frames"
                raise broken(folder / name, "file", state_of(folder / name), expected)
        return check_images([f"{folder}/{name}" for name in names], kind, size)

    def has_landmarks(self, episode: Episode, setting: str) -> bool:
        """Return whether the simulator wrote masks of the named object for this episode."""
        folder = frame_folder(self.scene, episode.episode_index, "landmark", setting)
        return frame_name(episode.episode_index, "landmark", 0) in self.names(folder)


def check_episode(
    record: EpisodeRecord, name: DatasetName, files: FrameFiles, needs_depth: bool = False
) -> tuple[Episode, tuple[int, int], bool]:
    """Return the episode, its image size (width, height), and whether it has landmark masks."""
    episode = read_episode(record, [name.look_down_setting])
    path = parquet_path(episode.root, episode.episode_index)
    check_values(episode, name, path)
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


def check_values(episode: Episode, name: DatasetName, path: Path) -> None:
    """Check that the robot goes where it faces, that the camera has the right pitch, and that it
    reaches the waypoints within the episode.
    """
    if episode.length == 0:
        raise broken(path, "length", "0 rows", "at least one frame")
    field = f"pose.{name.look_down_setting}"
    pose = episode.columns[field]
    infinite = np.flatnonzero(~np.isfinite(pose).all(axis=(1, 2)))
    if len(infinite):
        found = f"nan or infinity at frame {infinite[0]}"
        raise broken(path, field, found, "finite numbers")
    pose = pose.astype(np.float64)
    check_positions(pose[:, :3, 3], path, field)
    check_matrices(pose, path, field)
    check_camera_axes(pose, np.radians(name.look_down_pitch_deg), path, field)
    action, poses = episode.columns["action"], robot_poses(pose)
    check_moves(action, poses[:, :2], path, field)
    check_standing(poses, int(np.isin(action, MOVES).sum()), path, field)
    check_heading(poses, path, field)
    check_relative_goals(episode, name.look_down_setting, path)


def check_actions(action: np.ndarray, poses: np.ndarray, done: Transitions, path: Path) -> None:
    """Check that actions (T,) can lead to a frame, and agree with the poses (T, 3)."""
    wrong = np.flatnonzero(~np.isin(action[1:], LEADING)) + 1
    if len(wrong):
        frame = wrong[0]
        expected = f"one of {[int(known) for known in LEADING]}, which led to the frame"
        expected += hint(action, poses, SHIFTS)
        raise broken(path, "action", f"{action[frame]} at frame {frame}", expected)
    check_agreement(done, SHIFTS, path, "action")


def sound_walks(
    scene: Path, name: DatasetName, episodes: Sequence[Episode]
) -> tuple[list[Episode], list[str]]:
    """Return the episodes whose actions agree with their poses, and a sentence about each other. If
    all together disagree, only those that agree by themselves are sound.
    """
    setting = name.look_down_setting
    poses = {e: robot_poses(e.columns[f"pose.{setting}"]) for e in episodes}
    walks = {e: Transitions.of(e.columns["action"], poses[e]) for e in episodes}
    wrong = wrong_together(walks, SHIFTS, scene / "data", "action")
    for episode in episodes:
        try:
            path = parquet_path(episode.root, episode.episode_index)
            if episode not in wrong:
                check_actions(episode.columns["action"], poses[episode], walks[episode], path)
        except ValueError as error:
            wrong[episode] = str(error)
    return [episode for episode in episodes if episode not in wrong], list(wrong.values())


def scene_problems(
    scene: Path,
    name: DatasetName,
    camera: dict[str, float],
    sizes: dict[Episode, tuple[int, int]],
    needs_depth: bool,
) -> dict[Episode, str]:
    """Return problems by episode, from their image sizes (width, height): the recorded `camera` is
    not that of their images, or, if depth is needed, it is not in millimetres.
    """
    problems = {}
    for episode, size in sizes.items():
        try:
            check_recorded_size(scene, camera, size)
        except ValueError as error:
            problems[episode] = str(error)
    sound = [episode for episode in sizes if episode not in problems]
    if not needs_depth or not sound:
        return problems
    setting = name.look_down_setting

    def read(episode: Episode, frame: int) -> tuple[Path, np.ndarray]:
        path = episode.frame_path("depth", setting, frame)
        return path, open_depth_units(path, CameraSpec.depth_scale)

    told = {key: camera[key] for key in ("hfov_deg", "depth_scale") if key in camera}
    told |= {"height_m": name.height_cm / 100}
    views = {
        size: floor_view(CameraSpec(*size, **told), name.look_down_pitch_deg)
        for size in {sizes[episode] for episode in sound}
    }
    where = sound[0].frame_path("depth", setting, 0).parent
    lengths = [episode.length for episode in sound]
    seen = [views[sizes[episode]] for episode in sound]
    return problems | depth_problems(sound, lengths, seen, read, where, CameraSpec.depth_scale)


def check_relative_goals(episode: Episode, setting: str, path: Path) -> None:
    """Check for -1, or a number of frames that stays inside the episode."""
    name = f"relative_goal_frame_id.{setting}"
    ahead = episode.columns[name]
    outside = np.flatnonzero((ahead < -1) | (np.arange(len(ahead)) + ahead >= len(ahead)))
    if len(outside):
        frame = outside[0]
        found = f"{ahead[frame]} at frame {frame} of {len(ahead)}"
        raise broken(path, name, found, "-1 or a frame inside the episode")


def check_goals(episode: Episode, setting: str, size: tuple[int, int], path: Path) -> None:
    """Check that the pixel of every waypoint lies inside the image."""
    name = f"goal.{setting}"
    goal = episode.columns[name]
    has_goal = episode.columns[f"relative_goal_frame_id.{setting}"] > 0
    outside = np.flatnonzero(has_goal & ((goal < 0) | (goal >= size)).any(axis=1))
    if len(outside):
        frame = outside[0]
        found = f"{goal[frame].tolist()} at frame {frame}"
        raise broken(path, name, found, f"a pixel [u, v] inside {size[0]}x{size[1]}")
