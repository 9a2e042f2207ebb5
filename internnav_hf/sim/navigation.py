"""An occupancy grid of the scene: navigable places, distances, paths and collisions."""

import copy
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from internnav_hf.sim.scenes import Scene

FLOOR_TOLERANCE_M = 0.1
"""Lower things are floor: thresholds, carpets. Higher ones are obstacles."""
ROBOT_HEIGHT_M = 1.4
MOST_CELLS = 2**25  # in a grid: 290 x 290 m in cells of 5 cm
# Directions to slide along an obstacle, relative to the blocked direction.
SLIDING_ANGLES = np.radians([15, -15, 30, -30, 45, -45, 60, -60, 75, -75])


@dataclass(frozen=True)
class DistanceField:
    """Metres to walk to the nearest goal, on the grid; at most 8% above the true length.

    A metre in a cell counts as `costs` metres.
    """

    space: "NavigableSpace"
    values: np.ndarray
    costs: np.ndarray
    tracer: Any

    def __call__(self, xy: np.ndarray) -> np.ndarray:
        """Metres from points (..., 2); inf where the robot cannot be or cannot reach a goal."""
        return self.space.lookup(self.values, xy, outside=np.inf)

    def path_from(self, xy: np.ndarray) -> np.ndarray:
        """(N, 2) cell centres from the point's cell down to a goal, in walking order."""
        if not np.isfinite(self(np.asarray(xy))):
            raise ValueError(f"No goal can be reached from {tuple(np.asarray(xy))}.")
        cells = self.tracer.traceback(tuple(self.space.cell(xy)))
        return self.space.center(np.array(cells[::-1]))


class NavigableSpace:
    """The cells where the centre of a round robot can be: floor below, nothing within its radius.

    Every triangle is sampled finer than the grid, which treats thin walls, table tops and scanned
    meshes alike; only the largest connected part counts, so the inside of a cupboard does not.
    """

    def __init__(
        self,
        scene: Scene,
        resolution_m: float = 0.05,
        robot_radius_m: float = 0.18,
        robot_height_m: float = ROBOT_HEIGHT_M,
    ) -> None:
        self.resolution_m, self.robot_radius_m = resolution_m, robot_radius_m
        low, high = scene.bounds
        self.origin = low[:2].astype(np.float64) - resolution_m
        width, depth = (float(value) for value in high[:2] - self.origin)
        if width * depth > MOST_CELLS * resolution_m**2:
            raise ValueError(
                f"Scene {scene.name}: found {width:.0f} x {depth:.0f} m in cells of {resolution_m} "
                f"m, expected at most {MOST_CELLS}. Is it in metres? If so, use a coarser grid."
            )
        shape = np.ceil((high[:2] - self.origin) / resolution_m).astype(int) + 1
        points = sample_surface(scene, 0.6 * resolution_m, robot_height_m)
        cells = self.cell(points[:, :2])
        is_floor = np.abs(points[:, 2]) <= FLOOR_TOLERANCE_M
        floor, occupied = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
        floor[tuple(cells[is_floor].T)] = True
        occupied[tuple(cells[~is_floor].T)] = True
        self.free = floor & ~occupied
        self.clearance = _clearance(self.free, resolution_m)
        self.navigable = _largest_part(self.clearance > robot_radius_m)
        if not self.navigable.any():
            raise ValueError(
                f"Scene {scene.name} has no floor where a robot of radius {robot_radius_m} m and "
                f"height {robot_height_m} m can stand. Is it in metres, and z (or y in GLB) up?"
            )
        self._cells = np.argwhere(self.navigable)

    def wider(self, margin_m: float) -> "NavigableSpace":
        """The space of a robot that is `margin_m` wider on all sides: it leaves room to steer."""
        space = copy.copy(self)
        space.robot_radius_m = self.robot_radius_m + margin_m
        # Within the navigable part: the largest part of all may be unreachable.
        space.navigable = _largest_part(self.navigable & (self.clearance > space.robot_radius_m))
        space._cells = np.argwhere(space.navigable)
        if not len(space._cells):
            raise ValueError(f"No place is {space.robot_radius_m:.2f} m away from obstacles.")
        return space

    def cell(self, xy: np.ndarray) -> np.ndarray:
        """Grid indices (..., 2) of points (..., 2)."""
        return np.floor((np.asarray(xy) - self.origin) / self.resolution_m).astype(int)

    def center(self, cell: np.ndarray) -> np.ndarray:
        """Points (..., 2) in the middle of cells (..., 2)."""
        return self.origin + (np.asarray(cell) + 0.5) * self.resolution_m

    def lookup(self, grid: np.ndarray, xy: np.ndarray, outside: Any) -> np.ndarray:
        """Values of `grid` at points (..., 2)."""
        cell = self.cell(xy)
        inside = np.asarray(((cell >= 0) & (cell < grid.shape)).all(axis=-1))
        cell = np.where(inside[..., None], cell, 0)
        return np.where(inside, grid[cell[..., 0], cell[..., 1]], outside)

    def is_navigable(self, xy: np.ndarray) -> np.ndarray:
        """True for the points (..., 2) where the robot can be."""
        return self.lookup(self.navigable, xy, outside=False)

    def nearest(self, xy: np.ndarray) -> np.ndarray:
        """(2,) the nearest place where the robot can be; the point itself if it can be there."""
        if self.is_navigable(xy):
            return np.asarray(xy, dtype=np.float64)
        centers = self.center(self._cells)
        return centers[np.linalg.norm(centers - np.asarray(xy), axis=1).argmin()]

    def sample(self, rng: np.random.Generator) -> np.ndarray:
        """(2,) a place drawn uniformly from the navigable cells."""
        return self.center(self._cells[rng.integers(len(self._cells))])

    def straight_line_is_free(self, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """True if the robot can move straight between points (..., 2), broadcast."""
        start, end = np.asarray(start, dtype=np.float64), np.asarray(end, dtype=np.float64)
        longest = np.linalg.norm(end - start, axis=-1).max(initial=0.0)
        num_points = int(np.ceil(longest / (0.5 * self.resolution_m))) + 2
        fractions = np.linspace(0, 1, num_points)[:, None]
        points = start[..., None, :] + (end - start)[..., None, :] * fractions
        return np.asarray(self.is_navigable(points).all(axis=-1))

    def move(self, xy: np.ndarray, target_xy: np.ndarray) -> tuple[np.ndarray, bool]:
        """Move straight, stop at the first obstacle: (position reached, True if it collided)."""
        start, target = np.asarray(xy, dtype=np.float64), np.asarray(target_xy, dtype=np.float64)
        distance = float(np.linalg.norm(target - start))
        num_points = int(np.ceil(distance / (0.5 * self.resolution_m))) + 2
        points = start + (target - start) * np.linspace(0, 1, num_points)[:, None]
        blocked = ~self.is_navigable(points)
        blocked[0] = False  # the robot is where it is
        if not blocked.any():
            return target, False
        return points[blocked.argmax() - 1], True

    def slide(self, xy: np.ndarray, target_xy: np.ndarray) -> tuple[np.ndarray, bool]:
        """Like `move`, but the rest of a blocked step goes along the obstacle, as far as that leads
        in the same direction: VLN-CE's rule.
        """
        contact, collided = self.move(xy, target_xy)
        left = np.asarray(target_xy, dtype=np.float64) - contact
        if not collided or not left.any():
            return contact, collided
        ends = [contact]
        for angle in SLIDING_ANGLES:
            cos, sin = np.cos(angle), np.sin(angle)
            along = cos * np.array([[cos, -sin], [sin, cos]]) @ left
            ends.append(self.move(contact, contact + along)[0])
        return max(ends, key=lambda end: float((end - contact) @ left)), True

    def distance_field(
        self, goal_xy: np.ndarray, radius_m: float = 0.0, clearance_weight: float = 0.0
    ) -> DistanceField:
        """Distances to any place within `radius_m` of the goal; see `field_to` for the weight."""
        return self.field_to(self.cells_near(goal_xy, radius_m), clearance_weight)

    def cells_near(self, xy: np.ndarray, radius_m: float = 0.0) -> np.ndarray:
        """Navigable cells (N, 2) within the radius of a place, at least the nearest one."""
        distance = np.linalg.norm(self.center(self._cells) - np.asarray(xy), axis=1)
        return self._cells[distance <= max(radius_m, float(distance.min()) + 1e-9)]

    def field_to(self, goal_cells: np.ndarray, clearance_weight: float = 0.0) -> DistanceField:
        """Distances to the nearest of `goal_cells` (N, 2).

        A positive weight makes floor within 0.45 m of an obstacle more expensive, up to 1 + weight
        times: for planning paths that keep clear of corners, not for measuring distances.
        """
        costs = 1.0 + clearance_weight * np.clip(1 - self.clearance / 0.45, 0, 1)
        return self.field_of(costs, goal_cells)

    def field_of(self, costs: np.ndarray, goal_cells: np.ndarray) -> DistanceField:
        """Like `field_to`, with the cost of a metre given for each cell, at least 1."""
        from skimage.graph import MCP_Geometric

        tracer = MCP_Geometric(np.where(self.navigable, costs, -1.0))
        values, _ = tracer.find_costs([tuple(cell) for cell in goal_cells])
        return DistanceField(self, values * self.resolution_m, costs, tracer)

    def geodesic_distance(self, start: np.ndarray, end: np.ndarray) -> float:
        """Length of the shortest path in metres; inf if there is none."""
        path = self.shortest_path(start, end)
        return _length(path) if len(path) else float("inf")

    def shortest_path(self, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Corners (N, 2) from start to end, straight between them; (0, 2) if there is no path."""
        start, end = np.asarray(start, dtype=np.float64), np.asarray(end, dtype=np.float64)
        if not (self.is_navigable(start) and self.is_navigable(end)):
            return np.zeros((0, 2))
        if self.straight_line_is_free(start, end):
            return np.stack([start, end])
        if tuple(start) > tuple(end):  # always planned in one order: there and back are equally far
            return self.shortest_path(end, start)[::-1]
        field = self.distance_field(end)
        if not np.isfinite(field(start)):
            return np.zeros((0, 2))
        return self._taut(np.concatenate([[start], field.path_from(start)[1:-1], [end]]))

    def _taut(self, path: np.ndarray) -> np.ndarray:
        """The shortest path around the same obstacles: tightened until it gets no shorter.

        Once is not enough: a path over eight neighbours may bend without an obstacle.
        """
        length = np.inf
        while (shorter := _length(path)) < length - 1e-3:
            length = shorter
            path = self.tighten(densify(self.tighten(path)[::-1], self.resolution_m))[::-1]
        return path

    def tighten(self, path: np.ndarray) -> np.ndarray:
        """Pulls a path (N, 2) straight: keeps only the corners that free lines need."""
        kept, anchor = [0], 0
        while anchor < len(path) - 1:
            rest = path[anchor + 1 :]
            visible = np.flatnonzero(self.straight_line_is_free(path[anchor], rest))
            anchor += int(visible[-1]) + 1 if len(visible) else 1
            kept.append(anchor)
        return path[kept]


def _length(path: np.ndarray) -> float:
    return float(np.linalg.norm(np.diff(path, axis=0), axis=1).sum())


def densify(path: np.ndarray, spacing_m: float) -> np.ndarray:
    """The same path with a point at least every `spacing_m` metres; its corners stay."""
    pieces = [path[:1]]
    for start, end in pairwise(path):
        num_parts = max(1, int(np.ceil(np.linalg.norm(end - start) / spacing_m)))
        pieces.append(start + (end - start) * np.linspace(0, 1, num_parts + 1)[1:, None])
    return np.concatenate(pieces)


def _clearance(free: np.ndarray, resolution_m: float) -> np.ndarray:
    """Metres from each cell to the nearest cell that is not free."""
    from scipy.ndimage import distance_transform_edt

    return np.asarray(distance_transform_edt(np.pad(free, 1)))[1:-1, 1:-1] * resolution_m


def _largest_part(mask: np.ndarray) -> np.ndarray:
    """The largest connected part of a mask, over eight neighbours."""
    from scipy.ndimage import label

    parts = np.zeros(mask.shape, dtype=np.int32)
    if not label(mask, structure=np.ones((3, 3)), output=parts):
        return np.zeros_like(mask)
    return parts == np.bincount(parts.ravel())[1:].argmax() + 1


def sample_surface(scene: Scene, spacing_m: float, robot_height_m: float) -> np.ndarray:
    """Points (N, 3) at most `spacing_m` apart on all triangles, from the floor to the height."""
    corners = scene.vertices[scene.faces]
    heights = corners[:, :, 2]
    relevant = (heights.min(axis=1) <= robot_height_m) & (heights.max(axis=1) >= -FLOOR_TOLERANCE_M)
    corners = corners[relevant]
    edges = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2)
    num_parts = np.maximum(np.ceil(edges.max(axis=1) / spacing_m), 1).astype(int)
    points = []
    for parts in np.unique(num_parts):
        i, j = np.meshgrid(np.arange(parts + 1), np.arange(parts + 1))
        inside = i + j <= parts
        weights = np.stack([parts - i[inside] - j[inside], i[inside], j[inside]], axis=1) / parts
        samples = weights.astype(np.float32) @ corners[num_parts == parts]
        points.append(samples.reshape(-1, 3))
    stacked = np.concatenate(points) if points else np.zeros((0, 3), dtype=np.float32)
    keep = (stacked[:, 2] <= robot_height_m) & (stacked[:, 2] >= -FLOOR_TOLERANCE_M)
    return stacked[keep]
