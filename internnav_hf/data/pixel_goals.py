"""Pixel goals of recorded frames: where the robot will be some frames later, in the image.

A frame's goal is the farthest such position that is inside the image, not hidden and at most
`MAX_GOAL_DISTANCE_M` away, projected to the floor. This follows `vln_ce` in form (`goal`,
`relative_goal_frame_id`); the published choice of frames is not documented.

Legend: T frames.
"""

from collections.abc import Callable, Iterable

import numpy as np

from internnav_hf.data.rows import EpisodeRow, View
from internnav_hf.geometry import FORWARD_STEP_M, camera_pose, project

MIN_GOAL_FRAMES, MAX_GOAL_FRAMES = 3, 16
MAX_GOAL_DISTANCE_M = 3.0
_OCCLUSION_TOLERANCE_M = 0.25
NO_GOAL = -1
UNTAUGHT = 1
"""`relative_goal_frame_id` of frames without a target; the sampling rules drop 1 and 2."""


def pixel_goals(
    poses: np.ndarray,
    exploring: np.ndarray,
    depth: Callable[[int], np.ndarray],
    view: View,
    size: tuple[int, int],
    frames: Iterable[int] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Goals (T, 2) int32 as (u, v), and how many frames ahead they lie (T,); -1 where there is
    none, and at frames other than `frames`.

    `poses` (T, 3) are x, y, yaw; `exploring` (T,) marks frames whose action is not the expert's:
    frames shortly before get `UNTAUGHT` and the image's centre. `depth` gives (rows, columns)
    metres of a frame, 0 unknown; `size` (width, height) is that of the colours.
    """
    num_frames = len(poses)
    goals = np.full((num_frames, 2), NO_GOAL, dtype=np.int32)
    ahead = np.full(num_frames, NO_GOAL, dtype=np.int32)
    explored = np.append(np.flatnonzero(exploring), num_frames)
    for t in range(num_frames) if frames is None else frames:
        next_explored = int(explored[np.searchsorted(explored, t)])
        last = min(next_explored, num_frames - 1, t + MAX_GOAL_FRAMES)
        candidates = np.arange(t + MIN_GOAL_FRAMES, last + 1)
        goal = _farthest_visible(poses, t, candidates, depth, view, size)
        if goal is not None:
            goals[t], ahead[t] = goal
        elif next_explored < min(num_frames, t + MIN_GOAL_FRAMES + 1):
            goals[t], ahead[t] = (size[0] // 2, size[1] // 2), UNTAUGHT
    return goals, ahead


def derived_goals(episode: EpisodeRow, frame_step: int) -> tuple[np.ndarray, np.ndarray]:
    """Return `pixel_goals` of every `frame_step`th frame of an episode that stores none."""
    actions, exploring = episode.array("actions"), np.zeros(episode["length"], bool)
    if episode.has("previous_actions"):
        exploring[:-1] = episode.array("previous_actions")[1:] != actions[:-1]
    frames = range(0, len(actions), frame_step)
    return pixel_goals(episode.poses, exploring, episode.depth, episode.view, episode.size, frames)


def _farthest_visible(
    poses: np.ndarray,
    t: int,
    frames: np.ndarray,
    depth: Callable[[int], np.ndarray],
    view: View,
    size: tuple[int, int],
) -> tuple[tuple[int, int], int] | None:
    """The farthest goal among `frames`: its pixel, and how many frames ahead it lies."""
    if not len(frames):
        return None
    here, there = poses[t, :2], poses[frames, :2]
    points = np.concatenate([there, np.zeros((len(frames), 1))], axis=1)
    x, y, yaw = poses[t].tolist()
    pose = camera_pose(x, y, yaw, view.height_m, view.pitch)
    uv, distance_ahead = project(points, pose, view.intrinsics)
    uv = np.nan_to_num(uv, nan=-1.0)
    distance = np.linalg.norm(there - here, axis=1)
    fits = (uv >= 0).all(axis=1) & (uv < size).all(axis=1)
    fits &= (distance <= MAX_GOAL_DISTANCE_M) & (distance >= 2 * FORWARD_STEP_M - 1e-6)
    if not fits.any():
        return None
    image = depth(t)
    scale = image.shape[1] / size[0], image.shape[0] / size[1]  # depth may be smaller
    columns, rows = (np.where(fits[:, None], uv, 0) * scale).astype(int).T
    seen = image[rows, columns]
    fits &= (seen == 0) | (seen > distance_ahead - _OCCLUSION_TOLERANCE_M)
    if not fits.any():
        return None
    best = int(np.flatnonzero(fits)[np.argmax(distance[fits])])
    return (int(uv[best, 0]), int(uv[best, 1])), int(frames[best] - t)
