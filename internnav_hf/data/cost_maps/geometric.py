"""Maps of costs from the shape of a place alone: iPlanner's, and ViPlanner's geometric one.

Both tell apart obstacles, free floor and the rest by height, and call expensive what lies deep
inside what is not free. Published as a "TSDF", though it has neither a sign nor a truncation.

Legend: X and Y cells, N points.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from internnav_hf.data.cost_maps.grid import GridMap, Layout, depth_inside


@dataclass(frozen=True)
class GeometricSettings:
    """The published settings of iPlanner; `VIPLANNER` are the other's.

    Fields:
        resolution_m: of the map.
        obstacle_range_m, free_range_m: heights above the floor of obstacles, and of floor.
        margin_m: free space around all obstacles.
        robot_size_m: obstacles grow by about that, in iPlanner's.
        rule: "iplanner", or "viplanner", whose costs begin at 1 where it is not free.
    """

    resolution_m: float = 0.05
    obstacle_range_m: tuple[float, float] = (0.25, 0.9)
    free_range_m: tuple[float, float] = (-0.25, 0.25)
    margin_m: float = 1.0
    robot_size_m: float = 0.3
    rule: str = "iplanner"


SMOOTHING = 2.5  # cells
FREE_SHARE, OBSTACLE_SHARE = 0.7, 0.3
VIPLANNER = GeometricSettings(0.04, (0.42, 1.4), (-0.35, 0.35), rule="viplanner")
VIPLANNER_EXPANSION, VIPLANNER_SMOOTHING = 2.0, 3.0  # cells
VIPLANNER_FREE, VIPLANNER_OBSTACLE = 0.5, 0.01


def split_by_height(
    points: np.ndarray, settings: GeometricSettings
) -> tuple[np.ndarray, np.ndarray]:
    """Obstacles and free floor (., 2) among points (N, 3), whose floor is at z = 0.

    ValueError if there is no obstacle, without which a map has no place.
    """
    (low, high), (lowest, highest) = settings.obstacle_range_m, settings.free_range_m
    z = points[:, 2]
    obstacles = points[(low < z) & (z < high), :2]
    if not len(obstacles):
        raise ValueError(f"none of {len(points)} points between {low:g} and {high:g} m high")
    return obstacles, points[(lowest < z) & (z < highest), :2]


def geometric_map(points: np.ndarray, settings: GeometricSettings | None = None) -> GridMap:
    """The map of a cloud (N, 3); costs are 0 on free floor."""
    settings = settings or GeometricSettings()
    return geometric_map_of(*split_by_height(points, settings), settings)


def geometric_map_of(
    obstacles: np.ndarray, free: np.ndarray, settings: GeometricSettings
) -> GridMap:
    """The map of obstacles (N, 2) and free floor (., 2); ValueError if none of it is free."""
    layout = Layout.around(obstacles, settings.margin_m, settings.resolution_m)
    marked = layout.marked(obstacles), layout.marked(free, background=1.0)
    rules = {"iplanner": _iplanner_costs, "viplanner": _viplanner_costs}
    costs = rules[settings.rule](*marked, settings)
    return GridMap(costs, layout.origin, settings.resolution_m)


def _depth_inside(occupied: np.ndarray) -> np.ndarray:
    """(X, Y) cells to the nearest free one."""
    if occupied.all():
        raise ValueError("too little floor, no cell of the map is free")
    return depth_inside(occupied)


def _iplanner_costs(
    obstacles: np.ndarray, occupied: np.ndarray, settings: GeometricSettings
) -> np.ndarray:
    near = gaussian_filter(obstacles, settings.robot_size_m / settings.resolution_m)
    near /= near.max() + 1e-5
    occupied = gaussian_filter(occupied, SMOOTHING)
    occupied /= occupied.max()
    occupied[occupied < FREE_SHARE] = 0
    occupied[near > OBSTACLE_SHARE] = 1
    return np.log(gaussian_filter(_depth_inside(occupied), SMOOTHING) + 1.00001)


def _viplanner_costs(
    obstacles: np.ndarray, occupied: np.ndarray, settings: GeometricSettings
) -> np.ndarray:
    near = gaussian_filter(obstacles, VIPLANNER_EXPANSION)
    occupied = gaussian_filter(occupied, VIPLANNER_EXPANSION)
    occupied[occupied < VIPLANNER_FREE] = 0
    occupied[near > VIPLANNER_OBSTACLE] = 1
    depth = _depth_inside(occupied)
    depth[depth > 0] = np.log(depth[depth > 0] + np.e)
    return gaussian_filter(depth, VIPLANNER_SMOOTHING)
