"""NavDP's targets: what is drawn for an item, and what follows from the draw and the poses.

    poses, current .. goal -> local_path -> trajectory -> steps_between    actions
    the same, turned about the current place                               perturbed actions
    both in the world -> obstacles.path_value                              the critic's labels
    the goal, seen from an earlier or the current frame -> goal_pixel      the pixel goal

One oddity is kept, because released checkpoints were trained with it: a trajectory ends one frame
before the goal's (a heading needs a next frame).

Differs from the published code: heading changes are wrapped to [-pi, pi) (there a U-turn is a jump
of 2 pi), and a goal behind the camera is never a pixel.

Frames: the robot's, x forward, y left, at the current frame; metres, radians. N frames, H horizon.
"""

from dataclasses import dataclass

import numpy as np

from internnav_hf.data.rows import View
from internnav_hf.geometry import wrap_angle

LARGEST_ROTATION = float(np.radians(60.0))
MARK_PX = (6, 12)  # how far a rectangle reaches from the goal's pixel, on each side: 6 to 11
FAR_AWAY_PX = 1e6


@dataclass(frozen=True)
class Draw:
    """Random draws of an item. `start` <= `current` < `goal` are frames; in `start` the pixel
    goal was marked, unless it is marked in the current one.

    `rotation` is the perturbed path's, `mark` the reach (left, top, right, bottom) of the pixel's
    rectangle in pixels.
    """

    start: int
    goal: int
    current: int
    rotation: float
    mark: tuple[int, int, int, int]


def draw_item(length: int, rng: np.random.Generator, goal_at_end: bool = False) -> Draw:
    """Make the published draws from an episode of at least 3 frames; goals are a fifth of the path
    ahead on average; `goal_at_end` takes the last goal that can be drawn.
    """
    start = int(rng.integers(0, length // 2))
    goal = int(rng.integers(start + 1, length - 1))
    goal = length - 2 if goal_at_end else goal
    current = int(rng.integers(start, goal))
    rotation = float(rng.uniform(-LARGEST_ROTATION, LARGEST_ROTATION))
    left, top, right, bottom = rng.integers(*MARK_PX, size=4).tolist()
    return Draw(start, goal, current, rotation, (left, top, right, bottom))


def local_path(poses: np.ndarray) -> np.ndarray:
    """Return (N, 2) positions in the frame of the first of the robot's world poses (N, 3)."""
    x, y, yaw = poses[0]
    return turned(poses[:, :2] - (x, y), -yaw)


def trajectory(path: np.ndarray) -> np.ndarray:
    """(N - 1, 3) x, y, heading: the angle of each step to the first, which counts as 0."""
    steps = np.diff(path, axis=0)
    first = steps[0]
    cross = first[0] * steps[:, 1] - first[1] * steps[:, 0]
    return np.column_stack([path[:-1], np.arctan2(cross, steps @ first)])


def recorded_points(poses: np.ndarray) -> np.ndarray:
    """Return (N - 1, 3) as `trajectory`, with recorded headings, for robots that turn in place."""
    headings = np.asarray(wrap_angle(poses[:-1, 2] - poses[0, 2]))
    return np.column_stack([local_path(poses)[:-1], headings])


def label_rows(num_frames: int, action_horizon: int, action_stride: int) -> np.ndarray:
    """(H + 1,) rows of a trajectory of `num_frames` frames between which the steps are; the last
    one repeats where it ends early.
    """
    return np.clip(action_stride * np.arange(action_horizon + 1), 0, num_frames - 2)


def steps_between(points: np.ndarray) -> np.ndarray:
    """(H, 3) dx, dy, dyaw between points (H + 1, 3)."""
    steps = np.diff(points, axis=0)
    steps[:, 2] = wrap_angle(steps[:, 2])
    return steps


def turned(xy: np.ndarray, angle: float) -> np.ndarray:
    """Turn points (..., 2) about the origin, counter-clockwise."""
    sin, cos = np.sin(angle), np.cos(angle)
    return xy @ np.array([[cos, sin], [-sin, cos]])


def goal_pixel(xy: np.ndarray, view: View, height: float = 0.0) -> tuple[float, float]:
    """Return (u, v) of a goal at `xy` (2,) in the robot's frame; behind the camera: far aside.

    It lies `height` times the camera's height above the floor; published 0.2.
    """
    above = (height - 1) * view.height_m
    sin, cos = np.sin(view.pitch), np.cos(view.pitch)
    right, up, ahead = -xy[1], sin * xy[0] + cos * above, cos * xy[0] - sin * above
    if ahead <= 0:
        return (float(np.copysign(FAR_AWAY_PX, right)), view.center[1])
    u = view.center[0] + view.focal[0] * right / ahead
    return (float(u), float(view.center[1] - view.focal[1] * up / ahead))
