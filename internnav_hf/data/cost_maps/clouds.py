"""Clouds of points: from depth images, thinned, without stray points.

`thinned` and `without_strays` do what the published code lets open3d do: the mean of the points in
each cube, and dropping points whose neighbours are unusually far. Legend: N points.
"""

import numpy as np
from scipy.spatial import KDTree

from internnav_hf.geometry import lift

OBSTACLE_NEIGHBOURS, SEMANTIC_NEIGHBOURS = 50, 100
STRAY_DEVIATIONS = 2.0


def depth_points(
    depth: np.ndarray,
    intrinsics: np.ndarray,
    T_world_camera: np.ndarray,
    nearest_m: float = 0.2,
    farthest_m: float = 10.0,
    step: int = 1,
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """World points (N, 3) of every `step`-th row and column of `depth` (rows, columns) in metres,
    and the rows and columns (N,) of their pixels; `intrinsics` (3, 3) are those of the image.
    """
    rows, columns = (np.arange(step // 2, size, step) for size in depth.shape)
    distances = np.asarray(depth[np.ix_(rows, columns)], np.float64).ravel()
    u, v = (axis.ravel() for axis in np.meshgrid(columns, rows))
    with np.errstate(invalid="ignore"):
        is_known = (distances > nearest_m) & (distances < farthest_m)
    u, v = u[is_known], v[is_known]
    uv = np.stack([u, v], axis=1) + 0.5
    return lift(uv, distances[is_known], T_world_camera, intrinsics), (v, u)


def thinned(points: np.ndarray, spacing_m: float) -> np.ndarray:
    """The mean (., 3) of the points (N, 3) in each cube of side `spacing_m`."""
    if not len(points):
        return points
    low = points.min(axis=0) - spacing_m / 2
    cubes = np.floor((points - low) / spacing_m).astype(np.int64)
    number = np.ravel_multi_index(tuple(cubes.T), tuple(cubes.max(axis=0) + 1))
    _, inverse, counts = np.unique(number, return_inverse=True, return_counts=True)
    sums = [np.bincount(inverse, axis) for axis in points.T]
    return np.stack(sums, axis=1) / counts[:, None]


def is_no_stray(
    points: np.ndarray, num_neighbours: int, deviations: float = STRAY_DEVIATIONS
) -> np.ndarray:
    """(N,) whether the mean distance of a point (N, D) to its neighbours, itself among them, is
    usual.
    """
    if len(points) < 2:
        return np.ones(len(points), bool)
    nearest = min(num_neighbours, len(points))
    mean = KDTree(points).query(points, nearest)[0].mean(axis=1)
    return mean < mean.mean() + deviations * mean.std(ddof=1) + 1e-12
