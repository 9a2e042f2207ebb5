"""Heights of the ground, from points of which is known whether they are ground.

    highest point of each cell -> its height, or that of the nearest ground if it is none
    -> cells without points: between the three nearest ones

Differs from the published code: there the farthest of the three counts most.

Legend: X and Y cells, N points.
"""

import numpy as np
from scipy.spatial import KDTree

from internnav_hf.data.cost_maps.grid import Layout

NUM_NEIGHBOURS = 3


def ground_heights(points: np.ndarray, is_ground: np.ndarray, layout: Layout) -> np.ndarray:
    """(X, Y) metres for points (N, 3), of which `is_ground` (N,) are ground; ValueError if none
    is.
    """
    if not is_ground.any():
        raise ValueError(f"none of {len(points)} points is of a class of ground")
    highest = layout.highest(points)
    heights, is_other = points[highest, 2], ~is_ground[highest]
    ground = points[is_ground]
    nearest = KDTree(ground[:, :2]).query(points[highest[is_other], :2])[1]
    heights[is_other] = ground[nearest, 2]
    cells = layout.indices(points[highest, :2])
    grid = np.full(tuple(layout.num_cells), np.nan)
    grid[tuple(cells.T)] = heights
    holes = np.argwhere(np.isnan(grid))
    count = min(NUM_NEIGHBOURS, len(cells))
    distances, near = (
        np.reshape(found, (len(holes), count)) for found in KDTree(cells).query(holes, count)
    )
    grid[tuple(holes.T)] = np.average(heights[near], axis=1, weights=1 / distances)
    return grid
