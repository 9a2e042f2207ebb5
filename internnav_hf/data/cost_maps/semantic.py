"""ViPlanner's map of costs from a cloud of points with classes: what a place is says what it costs.

    points with a cost each -> smoothed among neighbours -> highest point of each cell -> grid
    -> ground to be used below 0, obstacles above 1, levels between -> shifted to 0, smoothed

Differs from the published code: neighbours are searched among all points, not in a random tenth of
them; cells of a map that is wider than long do not share numbers; classes are given by cost, so
that colours are looked up once (`costs_of_colours`).

Legend: X and Y cells, N points.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.spatial import KDTree

from internnav_hf.data.cost_maps.clouds import is_no_stray
from internnav_hf.data.cost_maps.grid import GridMap, Layout, depth_inside
from internnav_hf.data.cost_maps.ground import ground_heights
from internnav_hf.models.planners.semantics import OBSTACLE_COST, semantic_classes
from internnav_hf.models.planners.views import packed

LEVELS = (0.5, 1.0, 1.5)  # costs of ground that is neither meant to be used nor an obstacle
LEVEL_STEP = 0.5
FARTHEST_CELLS = 10  # from a point; beyond it all is an obstacle


@dataclass(frozen=True)
class SemanticSettings:
    """The published settings.

    Fields:
        resolution_m, margin_m: of the map, and beyond all points.
        height_range_m: of points above the floor that count.
        follows_ground: whether the floor is where the ground is, so that the map has its heights;
            it is level otherwise.
        stray_neighbours: a point is left out if so many neighbours are unusually far from it; 0 for
            none. Published: 100.
        num_neighbours: among which a point's cost is smoothed.
        grid_smoothing, map_smoothing: deviations of the two filters, in cells.
        obstacle_cost: from which a smoothed cell is an obstacle.
        reward: of ground to be used, in its middle.
    """

    resolution_m: float = 0.04
    margin_m: float = 1.0
    height_range_m: tuple[float, float] = (-np.inf, 2.1)
    follows_ground: bool = False
    stray_neighbours: int = 0
    num_neighbours: int = 15
    grid_smoothing: float = 2.5
    map_smoothing: float = 3.0
    obstacle_cost: float = 1.0
    reward: float = 0.5


def costs_of_colours(colours: np.ndarray) -> np.ndarray:
    """(N,) costs of the classes with `colours` (N, 3); NaN for colours of no class."""
    known = {int(packed(np.array(one.colour))): one.cost for one in semantic_classes()}
    values, inverse = np.unique(packed(colours), return_inverse=True)
    return np.array([known.get(int(value), np.nan) for value in values])[inverse]


def ground_of_colours(colours: np.ndarray) -> np.ndarray:
    """(N,) whether the classes with `colours` (N, 3) are ground."""
    ground = [packed(np.array(one.colour)) for one in semantic_classes() if one.ground]
    return np.isin(packed(colours), ground)


def semantic_map(
    points: np.ndarray,
    point_costs: np.ndarray,
    settings: SemanticSettings | None = None,
    is_ground: np.ndarray | None = None,
) -> GridMap:
    """The map of points (N, 3) that cost `point_costs` (N,), NaN where it is not known; `is_ground`
    (N,) is needed if it follows the ground.

    ValueError if too few points are known to be among the heights that count.
    """
    settings = settings or SemanticSettings()
    is_known = np.isfinite(point_costs)
    layout = Layout.around(points[:, :2], settings.margin_m, settings.resolution_m)
    (low, high), heights, ground = settings.height_range_m, points[:, 2], None
    if settings.follows_ground:
        assert is_ground is not None
        ground = ground_heights(points, is_ground, layout)
        heights = heights - ground[tuple(layout.indices(points[:, :2]).T)]
    chosen = (low < heights) & (heights < high) & is_known
    if settings.stray_neighbours:
        chosen[chosen] = is_no_stray(points[chosen], settings.stray_neighbours)
    needed = settings.num_neighbours + 1
    if chosen.sum() < needed:
        found = f"{chosen.sum()} of {len(points)} points of known classes"
        raise ValueError(f"{found} up to {high:g} m high, expected at least {needed}")
    points, point_costs = points[chosen], point_costs[chosen]
    smoothed = smoothed_costs(points[:, :2], point_costs, layout, settings.num_neighbours)
    grid, is_far = filled_grid(points, smoothed, layout)
    costs = levelled(gaussian_filter(grid, settings.grid_smoothing), is_far, settings)
    costs = gaussian_filter(costs - costs.min(), settings.map_smoothing)
    return GridMap(costs, layout.origin, settings.resolution_m, ground)


def smoothed_costs(
    xy: np.ndarray, costs: np.ndarray, layout: Layout, num_neighbours: int
) -> np.ndarray:
    """(N,) means of the nearest neighbours' costs, by the softmax of one over their distances in
    cells.
    """
    places = (xy - layout.origin) / layout.resolution_m
    found = KDTree(places).query(places, num_neighbours + 1)
    distances, neighbours = np.asarray(found[0]), np.asarray(found[1])
    with np.errstate(divide="ignore"):
        weights = 1 / distances[:, 1:]
    weights[np.isinf(weights)] = 0
    weights = np.exp(weights - weights.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    return (costs[neighbours[:, 1:]] * weights).sum(axis=1)


def filled_grid(
    points: np.ndarray, costs: np.ndarray, layout: Layout
) -> tuple[np.ndarray, np.ndarray]:
    """(X, Y) costs of the highest point in each cell, of the nearest such cell where there is none,
    and of an obstacle where that is far; (X, Y) whether it is.
    """
    cells = layout.indices(points[:, :2])
    highest = layout.highest(points)
    grid = np.full(tuple(layout.num_cells), np.nan)
    grid[tuple(cells[highest].T)] = costs[highest]
    empty = np.argwhere(np.isnan(grid))
    distances, nearest = KDTree(cells[highest]).query(empty)
    is_far = np.zeros(grid.shape, bool)
    is_far[tuple(empty.T)] = distances >= FARTHEST_CELLS
    grid[tuple(empty.T)] = costs[highest][nearest]
    grid[is_far] = OBSTACLE_COST
    return grid, is_far


def levelled(grid: np.ndarray, is_far: np.ndarray, settings: SemanticSettings) -> np.ndarray:
    """(X, Y) costs that fall towards the middle of ground to be used and rise into obstacles and
    into levels between, so that there is a slope everywhere.
    """
    costs, is_free = grid.copy(), np.round(grid, 2) == 0
    is_obstacle = (grid > settings.obstacle_cost) | is_far
    costs[is_free] = -settings.reward * _scaled_depth(is_free)[is_free]
    costs[is_obstacle] = np.log(depth_inside(is_obstacle)[is_obstacle] + np.e)
    for level in LEVELS:  # a cell rises through several, as published
        is_level = np.round(costs, 2) == level
        costs[is_level] = level + LEVEL_STEP * _scaled_depth(is_level)[is_level]
    return costs


def _scaled_depth(region: np.ndarray) -> np.ndarray:
    """Depth (X, Y) inside a region, the deepest place as 1."""
    depth = depth_inside(region)
    return depth / max(depth.max(), 1.0)
