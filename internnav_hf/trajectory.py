"""Trajectories: recorded poses to an action expert's targets, and its actions to motion.

The published geometry of InternVLA-N1's fast system, one function for each arrow, in float64:

    camera poses -> relative_poses -> dense_path -> resample -> actions_along     the targets
    actions -> path_of, mean over the samples -> follow                           the motion

Frames: a pose is (x, y, yaw) in the frame of the robot at the first pose: x forward, y left, yaw
counter-clockwise. Metres and radians throughout; the published targets are (4 dx, 4 dy, dyaw), ours
are (dx, dy, dyaw), and an expert's config holds the factors.

Two oddities are kept, because released checkpoints were trained with them:

* Points are `SPACING_M` = 3.3 / 32 = 0.103125 m apart, not 0.1 m: 33 points spread over 3.3 m.
* If a path ends early its last point repeats and the heading there counts as 0, so the first
  repeated step has dyaw = -(last heading). It moves nowhere.

Legend: N poses, P points, H horizon, S samples.
"""

import numpy as np
from scipy.interpolate import CubicSpline

from internnav_hf.geometry import FORWARD_STEP_M, TURN_STEP, Action, wrap_angle

ACTION_HORIZON = 32
SPACING_M = 3.3 / ACTION_HORIZON
SMALLEST_SQUARED_STEP = 0.05  # m²; poses that differ by less are turns on the spot
LONGEST_POLYLINE = 3  # points; longer paths are smoothed
SMALLEST_DENSE_PATH = 50  # points of a smoothed path, at least
LOOK_AHEAD = 4  # points of a path
ARRIVED_M = 0.2

# The robot's axes in a level camera: x forward = camera z, y left = -camera x, z up = -camera y.
_R_ROBOT_CAMERA = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])


def camera_in_robot(pitch: float) -> np.ndarray:
    """T_robot_camera (4, 4) of a camera that looks down by `pitch`, at the robot's origin."""
    sin, cos = np.sin(-pitch), np.cos(-pitch)
    T_robot_camera = np.eye(4)
    T_robot_camera[:3, :3] = _R_ROBOT_CAMERA @ [[1, 0, 0], [0, cos, -sin], [0, sin, cos]]
    return T_robot_camera


def relative_poses(T_world_camera: np.ndarray, pitch: float) -> np.ndarray:
    """(N, 3) x, y, yaw of the robot relative to its first pose; `T_world_camera` is (N, 4, 4)."""
    T_world_camera = np.asarray(T_world_camera, np.float64)
    if T_world_camera.ndim != 3 or T_world_camera.shape[1:] != (4, 4) or not len(T_world_camera):
        raise ValueError(f"poses: found shape {T_world_camera.shape}, expected (N, 4, 4), N > 0")
    infinite = np.flatnonzero(~np.isfinite(T_world_camera).all(axis=(1, 2)))
    if len(infinite):
        raise ValueError(f"poses: found nan or infinity in pose {infinite[0]}, expected numbers")
    T_world_robot = T_world_camera @ np.linalg.inv(camera_in_robot(pitch))
    T_first_robot = np.linalg.inv(T_world_robot[0]) @ T_world_robot
    yaw = np.arctan2(T_first_robot[:, 1, 0], T_first_robot[:, 0, 0])
    return np.stack([T_first_robot[:, 0, 3], T_first_robot[:, 1, 3], yaw], axis=1)


def dense_path(poses: np.ndarray) -> np.ndarray:
    """(P, 2) points along `poses` (N, 3), from (0, 0); turns on the spot are left out.

    Up to three points remain a polyline; more become a cubic spline (not-a-knot) over the chord
    length.
    """
    moves = np.square(np.diff(poses[:, :2], axis=0)).sum(axis=1) > SMALLEST_SQUARED_STEP
    points = np.concatenate([np.zeros((1, 2)), poses[1:, :2][moves]])
    if len(points) <= LONGEST_POLYLINE:
        return points
    length = chord_length(points)
    spline = CubicSpline(length, points)
    return spline(np.linspace(0, length[-1], max(SMALLEST_DENSE_PATH, 2 * len(points))))


def resample(path: np.ndarray, spacing: float, num_points: int) -> np.ndarray:
    """Points every `spacing` metres along `path` (P, 2); the last one repeats if it ends early."""
    length = chord_length(path)
    wanted = np.linspace(0, spacing * (num_points - 1), num_points)
    return np.stack([np.interp(wanted, length, axis) for axis in path.T], axis=1)


def chord_length(path: np.ndarray) -> np.ndarray:
    """(P,) metres along the polyline `path` (P, 2) up to each point."""
    steps = np.linalg.norm(np.diff(path, axis=0), axis=1)
    return np.concatenate([[0.0], np.cumsum(steps)])


def actions_along(path: np.ndarray) -> np.ndarray:
    """(H, 3) steps (dx, dy, dyaw) between the points of `path` (H + 1, 2).

    dx and dy are in the frame of the path's start. dyaw is the change of the steps' headings, from
    0; a step that goes nowhere has heading 0.
    """
    steps = np.diff(path, axis=0)
    heading = np.arctan2(steps[:, 1], steps[:, 0])
    dyaw = np.asarray(wrap_angle(np.diff(heading, prepend=0.0)))
    dyaw[0] = heading[0]
    return np.concatenate([steps, dyaw[:, None]], axis=1)


def trajectory_actions(
    T_world_camera: np.ndarray, pitch: float, action_horizon: int = ACTION_HORIZON
) -> np.ndarray:
    """(H, 3) target of an expert at the first of the camera's poses (N, 4, 4) to the goal."""
    path = dense_path(relative_poses(T_world_camera, pitch))
    return actions_along(resample(path, SPACING_M, action_horizon + 1))


def path_of(actions: np.ndarray) -> np.ndarray:
    """(..., H + 1, 2) points that `actions` (..., H, 3) pass through, from (0, 0), without dyaw."""
    steps = np.asarray(actions, np.float64)[..., :2]
    return np.concatenate([np.zeros_like(steps[..., :1, :]), np.cumsum(steps, axis=-2)], axis=-2)


def follow(path: np.ndarray) -> list[Action]:
    """Steps and turns along `path` (P, 2) from (0, 0), heading 0: the published pursuit.

    It repeatedly turns, in multiples of 15 degrees, towards the fourth point after the nearest one
    and steps forward, until it is within `ARRIVED_M` of the end or would not come closer. No STOP
    is added: the list is empty if there is nowhere to go.
    """
    path = np.asarray(path, np.float64)
    position, turns, goal = np.zeros(2), 0, path[-1]
    found: list[Action] = []
    while (distance := np.linalg.norm(goal - position)) > ARRIVED_M:
        nearest = int(np.linalg.norm(path - position, axis=1).argmin())
        towards = path[min(nearest + LOOK_AHEAD, len(path) - 1)] - position
        bearing = wrap_angle(np.arctan2(towards[1], towards[0]) - turns * TURN_STEP)
        more = round(float(bearing) / TURN_STEP)
        found += [Action.TURN_LEFT if more > 0 else Action.TURN_RIGHT] * abs(more)
        turns += more
        heading = turns * TURN_STEP
        position = position + FORWARD_STEP_M * np.array([np.cos(heading), np.sin(heading)])
        if np.linalg.norm(goal - position) >= distance:
            break
        found.append(Action.FORWARD)
    return found
