"""Obstacles of a scene without a point cloud: depth pixels of its episodes above the floor and
below the robot's top.

    depth (rows, columns) m, pose (x, y, yaw) -> points in the world -> those in the way -> (N, 2)

The floor is level, as poses have no height. Unseen space counts as free: labels of paths that leave
the view are as good as the recordings of the scene.
"""

from collections.abc import Iterable

import numpy as np

from internnav_hf.data.rows import EpisodeRow, View
from internnav_hf.geometry import robot_to_world

FRAME_STEP = 4  # frames, and as many rows and columns of an image
LOWEST_M = 0.15  # above the floor: depth and pitch are a little off
ABOVE_CAMERA_M = 0.2  # the robot ends so much above its camera
FARTHEST_M = 5.0
SPACING_M = 0.05


def seen_obstacles(episodes: Iterable[EpisodeRow]) -> np.ndarray:
    """Return (N, 2) world points of obstacles, seen from every fourth frame."""
    found = [np.empty((0, 2))]
    for episode in episodes:
        for frame in range(0, episode["length"], FRAME_STEP):
            xy = points_in_the_way(episode.depth(frame), episode.view, episode.size)
            found.append(robot_to_world(xy, episode.poses[frame]))
    cells = np.unique(np.round(np.concatenate(found) / SPACING_M), axis=0)
    return cells * SPACING_M


def points_in_the_way(depth: np.ndarray, view: View, size: tuple[int, int]) -> np.ndarray:
    """Return (N, 2) obstacles in the robot's frame from an image (rows, columns) in metres; `size`
    (width, height) is that of the colours, to which `view` refers.
    """
    scale = size[0] / depth.shape[1]
    rows, columns = (np.arange(FRAME_STEP // 2, n, FRAME_STEP) for n in depth.shape)
    ahead = np.asarray(depth[np.ix_(rows, columns)], np.float64)
    ahead = np.where(ahead < FARTHEST_M, ahead, 0.0)
    right = ((columns + 0.5) * scale - view.center[0]) / view.focal[0] * ahead
    down = ((rows[:, None] + 0.5) * scale - view.center[1]) / view.focal[1] * ahead
    sin, cos = np.sin(view.pitch), np.cos(view.pitch)
    forward, height = cos * ahead - sin * down, view.height_m - sin * ahead - cos * down
    is_in_the_way = (ahead > 0) & (height > LOWEST_M) & (height < view.height_m + ABOVE_CAMERA_M)
    return np.stack([forward, -right], axis=-1)[is_in_the_way]
