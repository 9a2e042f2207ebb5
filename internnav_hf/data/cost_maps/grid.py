"""A map of costs: an array [x, y] whose cell [0, 0] begins at `origin`; metres.

Legend: X and Y cells, N points.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_closing, distance_transform_edt

MOST_CELLS = 1 << 26  # of a map: 330 m x 330 m at 4 cm; one stray point may ask for any number


@dataclass(frozen=True, eq=False)
class GridMap:
    """`costs` (X, Y); `ground` (X, Y) heights in metres, None for level ground; `origin` (2,)."""

    costs: np.ndarray
    origin: np.ndarray
    resolution_m: float
    ground: np.ndarray | None = None

    def cells(self, xy: np.ndarray) -> np.ndarray:
        """(N, 2) the cells that hold world points (N, 2); some may lie outside."""
        return np.floor((np.asarray(xy) - self.origin) / self.resolution_m).astype(np.int64)

    def contains(self, xy: np.ndarray) -> np.ndarray:
        """(N,) whether points (N, 2) lie on the map."""
        cells = self.cells(xy)
        return np.asarray(((cells >= 0) & (cells < self.costs.shape)).all(axis=-1))

    def at(self, xy: np.ndarray) -> np.ndarray:
        """(N,) costs of the cells of points (N, 2); beyond the map those of its edge."""
        x, y = self.cells(xy).clip(0, np.array(self.costs.shape) - 1).T
        return self.costs[x, y]

    def around(self, xy: np.ndarray, reach_m: float) -> "GridMap":
        """The piece of the map with all cells within `reach_m` of a point (2,) on it."""
        reach = np.ceil(reach_m / self.resolution_m).astype(int)
        cell = self.cells(xy)
        low = (cell - reach).clip(0)
        high = (cell + reach + 1).clip(max=self.costs.shape)
        piece = slice(low[0], high[0]), slice(low[1], high[1])
        ground = None if self.ground is None else self.ground[piece]
        origin = self.origin + low * self.resolution_m
        return GridMap(self.costs[piece], origin, self.resolution_m, ground)


def depth_inside(region: np.ndarray) -> np.ndarray:
    """(X, Y) cells from each of a region to the nearest outside of it; 0 outside."""
    return np.asarray(distance_transform_edt(region))


@dataclass(frozen=True)
class Layout:
    """Place and size of a grid that will hold points: `num_cells` (2,) from `origin` (2,)."""

    origin: np.ndarray
    num_cells: np.ndarray
    resolution_m: float

    @classmethod
    def around(cls, xy: np.ndarray, margin_m: float, resolution_m: float) -> "Layout":
        """Published rule: `margin_m` beyond points (N, 2), a multiple of ten cells; ValueError for
        more than `MOST_CELLS`.
        """
        low, high = xy.min(axis=0) - margin_m, xy.max(axis=0) + margin_m
        num_cells = np.ceil((high - low) / resolution_m / 10) * 10
        if not num_cells.prod() <= MOST_CELLS:
            x, y = (high - low).tolist()
            raise ValueError(f"points {x:.3g} x {y:.3g} m apart, too far for a map of them")
        num_cells = num_cells.astype(int)
        return cls((low + high) / 2 - num_cells / 2 * resolution_m, num_cells, resolution_m)

    def indices(self, xy: np.ndarray) -> np.ndarray:
        """(N, 2) published indices of points (N, 2): rounded, so half a cell beside `cells`."""
        return np.round((xy - self.origin) / self.resolution_m).astype(np.int64)

    def inside(self, xy: np.ndarray) -> np.ndarray:
        """Indices (M, 2) of those points (N, 2) that lie on the grid."""
        indices = self.indices(xy)
        return indices[((indices >= 0) & (indices < self.num_cells)).all(axis=1)]

    def highest(self, points: np.ndarray) -> np.ndarray:
        """(M,) which of points (N, 3) on the grid is the highest in its cell; of equal ones the
        last.
        """
        x, y = self.indices(points[:, :2]).T
        number = x * self.num_cells[1] + y
        order = np.lexsort((points[:, 2], number))
        return order[np.append(np.diff(number[order]) != 0, True)]

    def marked(self, xy: np.ndarray, background: float = 0.0) -> np.ndarray:
        """(X, Y) `background`, and 1 - `background` where points (N, 2) lie."""
        grid = np.full(tuple(self.num_cells), background)
        grid[tuple(self.inside(xy).T)] = 1 - background
        return grid


def without_gaps(xy: np.ndarray, gap_m: float, resolution_m: float) -> np.ndarray:
    """(M, 2) one point in each cell of points (N, 2), and in those of gaps up to `gap_m` between
    them: a cloud about as coarse as the map would leave out cells here and there.
    """
    if not len(xy):
        return xy
    reach = int(np.ceil(gap_m / resolution_m / 2))
    low = xy.min(axis=0) - (reach + 1) * resolution_m
    cells = np.floor((xy - low) / resolution_m).astype(np.int64)
    marked = np.zeros(cells.max(axis=0) + reach + 2, dtype=bool)
    marked[tuple(cells.T)] = True
    square = np.ones((2 * reach + 1, 2 * reach + 1), dtype=bool)
    return low + (np.argwhere(binary_closing(marked, square)) + 0.5) * resolution_m
