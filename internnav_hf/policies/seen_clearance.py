"""Which of several paths is free, as far as the depth image shows.

    depth (rows, columns) m -> obstacles in the robot's frame -> how much of each path is free

A critic has learnt what a path is worth; depth says without learning what it runs into. What is
outside the view, or behind something, counts as free.

N paths, H horizon, M obstacle points.
"""

import numpy as np
from scipy.spatial import cKDTree

from internnav_hf.camera import CameraSpec
from internnav_hf.data.rows import View
from internnav_hf.data.seen_obstacles import points_in_the_way

POINTS_PER_STEP = 2  # of a path, at which is tested whether the robot could be there


def seen_from(depth: np.ndarray, camera: CameraSpec) -> np.ndarray:
    """(M, 2) obstacles in the robot's frame, from an image (rows, columns) in metres."""
    K = camera.intrinsics
    view = View(
        (K[0, 0], K[1, 1]), (K[0, 2], K[1, 2]), camera.height_m, float(np.radians(camera.pitch_deg))
    )
    return points_in_the_way(depth, view, (camera.width, camera.height))


def free_shares(paths: np.ndarray, obstacles: np.ndarray, clearance_m: float) -> np.ndarray:
    """(N,) share of each path (N, H + 1, 2) before it first comes nearer than `clearance_m` to an
    obstacle (M, 2). One that is nearer already may first be left.
    """
    if not len(obstacles):
        return np.ones(len(paths))
    fractions = np.arange(1, POINTS_PER_STEP + 1)[:, None] / POINTS_PER_STEP
    steps = np.diff(paths, axis=1)[:, :, None]
    points = (paths[:, :-1, None] + steps * fractions).reshape(len(paths), -1, 2)
    near = cKDTree(obstacles).query(points)[0] < clearance_m
    near &= np.cumsum(~near, axis=1) > 0
    return np.where(near.any(axis=1), near.argmax(axis=1) / near.shape[1], 1.0)
