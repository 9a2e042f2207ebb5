"""Checks of an episode before sampling. Each failure is one ValueError from `broken`."""

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
    check_finite,
    check_heading,
    check_matrices,
    check_moves,
    check_positions,
    check_standing,
)
from internnav_hf.data.episode import Episode, frame_folder, frame_name
from internnav_hf.data.formats.vln_ce.names import DatasetName
from internnav_hf.data.formats.vln_ce.reader import EpisodeRecord, read_episode
from internnav_hf.data.readers.errors import broken, problems_of
from internnav_hf.data.readers.images import open_depth_units
from internnav_hf.geometry import Action, robot_poses

LEADING = [Action.FORWARD, Action.TURN_LEFT, Action.TURN_RIGHT, Action.LOOK_DOWN]
SHIFTS = {-1: AT_FRAME, 1: TOO_LATE}
"""Meaning of a shift: the action of the frame before, or after, is what led to a frame."""


def check_frames(
    episode: Episode, kind: str, setting: str, size: tuple[int, int] | None = None
) -> tuple[int, int]:
    """Check that each frame has an image of the right mode; return the common size."""
    number = episode.episode_index
    folder = frame_folder(episode.root, number, kind, setting)
    names = [frame_name(number, kind, frame) for frame in range(episode.length)]
    return check_images([f"{folder}/{name}" for name in names], kind, size)


def check_episode(
    record: EpisodeRecord, name: DatasetName, needs_depth: bool = False
) -> tuple[Episode, tuple[int, int], bool]:
    """Return the episode, its image size (width, height), and whether it has landmark masks."""
    episode = read_episode(record, [name.look_down_setting])
    check_values(episode, name)
    size = check_frames(episode, "rgb", name.look_down_setting)
    if name.setting != name.look_down_setting:
        check_frames(episode, "rgb", name.setting, size)
    has_landmarks = episode.frame_path("landmark", name.look_down_setting, 0).exists()
    if has_landmarks:
        check_frames(episode, "landmark", name.look_down_setting)
    if needs_depth:
        check_frames(episode, "depth", name.look_down_setting, size)
    check_goals(episode, name.look_down_setting, size)
    return episode, size, has_landmarks


def check_values(episode: Episode, name: DatasetName) -> None:
    """Check that the robot goes where it faces, that the camera has the right pitch, and that it
    reaches the waypoints within the episode.
    """
    path = episode.path
    if episode.length == 0:
        raise broken(path, "length", "0 rows", "at least one frame")
    field = f"pose.{name.look_down_setting}"
    pose = episode.columns[field]
    check_finite(pose, path, field)
    pose = pose.astype(np.float64)
    check_positions(pose[:, :3, 3], path, field)
    check_matrices(pose, path, field)
    check_camera_axes(pose, np.radians(name.look_down_pitch_deg), path, field)
    action, poses = episode.columns["action"], robot_poses(pose)
    check_moves(action, poses[:, :2], path, field)
    check_standing(poses, int(np.isin(action, MOVES).sum()), path, field)
    check_heading(poses, path, field)
    check_relative_goals(episode, name.look_down_setting)


def check_actions(episode: Episode, poses: np.ndarray, done: Transitions) -> None:
    """Check that actions can lead to a frame, and agree with the poses (T, 3)."""
    action, path = episode.columns["action"], episode.path
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
    rest = [episode for episode in episodes if episode not in wrong]
    wrong |= problems_of(rest, lambda e: check_actions(e, poses[e], walks[e]))
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
    problems = problems_of(sizes, lambda e: check_recorded_size(scene, camera, sizes[e]))
    sound = [episode for episode in sizes if episode not in problems]
    if not needs_depth or not sound:
        return problems
    setting = name.look_down_setting

    def read(episode: Episode, frame: int) -> tuple[Path, np.ndarray]:
        path = episode.frame_path("depth", setting, frame)
        return path, open_depth_units(path, CameraSpec.depth_scale)

    views = {
        size: floor_view(look_down_camera(name, camera, size))
        for size in {sizes[episode] for episode in sound}
    }
    where = sound[0].frame_path("depth", setting, 0).parent
    lengths = [episode.length for episode in sound]
    seen = [views[sizes[episode]] for episode in sound]
    return problems | depth_problems(sound, lengths, seen, read, where, CameraSpec.depth_scale)


def look_down_camera(
    name: DatasetName, camera: dict[str, float], size: tuple[int, int]
) -> CameraSpec:
    """Return the camera of poses, goals and depth; `camera` are the recorded fields."""
    hfov_deg = camera.get("hfov_deg", CameraSpec.hfov_deg)
    return CameraSpec(*size, hfov_deg, name.height_cm / 100, name.look_down_pitch_deg)


def check_relative_goals(episode: Episode, setting: str) -> None:
    """Check for -1, or a number of frames that stays inside the episode."""
    name = f"relative_goal_frame_id.{setting}"
    ahead = episode.columns[name]
    outside = np.flatnonzero((ahead < -1) | (np.arange(len(ahead)) + ahead >= len(ahead)))
    if len(outside):
        frame = outside[0]
        found = f"{ahead[frame]} at frame {frame} of {len(ahead)}"
        raise broken(episode.path, name, found, "-1 or a frame inside the episode")


def check_goals(episode: Episode, setting: str, size: tuple[int, int]) -> None:
    """Check that the pixel of every waypoint lies inside the image."""
    name = f"goal.{setting}"
    goal = episode.columns[name]
    has_goal = episode.columns[f"relative_goal_frame_id.{setting}"] > 0
    outside = np.flatnonzero(has_goal & ((goal < 0) | (goal >= size)).any(axis=1))
    if len(outside):
        frame = outside[0]
        found = f"{goal[frame].tolist()} at frame {frame}"
        raise broken(episode.path, name, found, f"a pixel [u, v] inside {size[0]}x{size[1]}")
