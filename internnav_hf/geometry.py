"""Poses, pixels and the floor.

World and robot: x forward, y left, z up, yaw counter-clockwise. Camera: x right, y down, z forward
(OpenCV). Pixels: (u, v), origin top left, continuous (see `internnav_hf.camera`). A
`T_world_camera` (4, 4) takes camera to world coordinates.
"""

from enum import IntEnum

import numpy as np


class Action(IntEnum):
    """VLN-CE's discrete actions. Only the environment uses 4, which looks up in VLN-CE."""

    STOP = 0
    FORWARD = 1
    TURN_LEFT = 2
    TURN_RIGHT = 3
    LOOK_UP = 4
    LOOK_DOWN = 5


FORWARD_STEP_M = 0.25
TURN_STEP = float(np.radians(15.0))


def wrap_angle(angle: float | np.ndarray) -> float | np.ndarray:
    """The same angle in [-pi, pi)."""
    return (angle + np.pi) % (2 * np.pi) - np.pi


def camera_pose(x: float, y: float, yaw: float, height_m: float, pitch: float) -> np.ndarray:
    """T_world_camera (4, 4) of a camera above the robot's centre; positive pitch looks down."""
    sin_yaw, cos_yaw, sin_pitch, cos_pitch = np.sin(yaw), np.cos(yaw), np.sin(pitch), np.cos(pitch)
    right = (sin_yaw, -cos_yaw, 0.0)
    down = (-sin_pitch * cos_yaw, -sin_pitch * sin_yaw, -cos_pitch)
    forward = (cos_pitch * cos_yaw, cos_pitch * sin_yaw, -sin_pitch)
    T_world_camera = np.eye(4)
    T_world_camera[:3] = np.stack([right, down, forward, (x, y, height_m)], axis=1)
    return T_world_camera


def robot_pose(T_world_camera: np.ndarray) -> tuple[float, float, float]:
    """(x, y, yaw) of the robot below the camera, by the camera's right axis: level at any pitch."""
    x, y = T_world_camera[:2, 3]
    yaw = np.arctan2(T_world_camera[0, 0], -T_world_camera[1, 0])
    return float(x), float(y), float(yaw)


def robot_poses(T_world_camera: np.ndarray) -> np.ndarray:
    """(T, 3) x, y, yaw of the robot below each camera (T, 4, 4)."""
    yaw = np.arctan2(T_world_camera[:, 0, 0], -T_world_camera[:, 1, 0])
    return np.column_stack([T_world_camera[:, :2, 3], yaw])


def robot_to_world(xy: np.ndarray, pose: tuple[float, float, float] | np.ndarray) -> np.ndarray:
    """World points (..., 2) of points (..., 2) in the frame of a robot at `pose` (x, y, yaw)."""
    x, y, yaw = pose
    sin, cos = np.sin(yaw), np.cos(yaw)
    return np.asarray(xy) @ np.array([[cos, sin], [-sin, cos]]) + (x, y)


def world_to_robot(xy: np.ndarray, pose: tuple[float, float, float] | np.ndarray) -> np.ndarray:
    """Points (..., 2) in the frame of a robot at `pose` (x, y, yaw), of world points (..., 2)."""
    x, y, yaw = pose
    sin, cos = np.sin(yaw), np.cos(yaw)
    return (np.asarray(xy) - (x, y)) @ np.array([[cos, -sin], [sin, cos]])


def project(
    points_world: np.ndarray, T_world_camera: np.ndarray, intrinsics: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (N, 2), nan unless the depth is positive, and depth (N,) along the optical axis."""
    rotation, position = T_world_camera[:3, :3], T_world_camera[:3, 3]
    points_camera = (np.asarray(points_world) - position) @ rotation  # inverted, for rows
    depth = points_camera[:, 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        uv = (points_camera @ intrinsics.T)[:, :2] / depth[:, None]
    return np.where(depth[:, None] > 0, uv, np.nan), depth


def lift(
    uv: np.ndarray, depth: np.ndarray, T_world_camera: np.ndarray, intrinsics: np.ndarray
) -> np.ndarray:
    """World points (N, 3) at pixels `uv` (N, 2) and depth along the optical axis (N,)."""
    directions = pixel_directions(uv, T_world_camera, intrinsics)
    return T_world_camera[:3, 3] + directions * np.asarray(depth)[:, None]


def pixel_to_floor(
    uv: np.ndarray, T_world_camera: np.ndarray, intrinsics: np.ndarray
) -> np.ndarray:
    """World points (N, 3) of pixels' rays in the plane z = 0; nan at and above the horizon."""
    directions = pixel_directions(uv, T_world_camera, intrinsics)
    with np.errstate(divide="ignore", invalid="ignore"):
        depth = np.where(directions[:, 2] < -1e-9, -T_world_camera[2, 3] / directions[:, 2], np.nan)
    return T_world_camera[:3, 3] + directions * depth[:, None]


def lift_pixel(
    pixel: tuple[float, float],
    depth: np.ndarray | None,
    T_world_camera: np.ndarray,
    intrinsics: np.ndarray,
) -> np.ndarray | None:
    """World point (3,) at a pixel (u, v): from `depth` (H, W), or from the floor plane if depth is
    missing or 0 there; None if the pixel then lies at or above the horizon.
    """
    uv = np.array([pixel], dtype=float)
    if depth is not None:
        column = min(max(int(pixel[0]), 0), depth.shape[1] - 1)
        row = min(max(int(pixel[1]), 0), depth.shape[0] - 1)
        if depth[row, column] > 0:
            return lift(uv, depth[row, column][None], T_world_camera, intrinsics)[0]
    point = pixel_to_floor(uv, T_world_camera, intrinsics)[0]
    return point if np.all(np.isfinite(point)) else None


def pixel_directions(
    uv: np.ndarray, T_world_camera: np.ndarray, intrinsics: np.ndarray
) -> np.ndarray:
    """World directions (N, 3) of rays through `uv` (N, 2), of length 1 along the optical axis."""
    pixels = np.column_stack([np.asarray(uv, np.float64), np.ones(len(uv))])
    return pixels @ np.linalg.inv(intrinsics).T @ T_world_camera[:3, :3].T
