"""How far obstacles are, and what a path is worth: the critic's labels of NavDP.

Published: a scene's point cloud has obstacles in one colour; the distance of a place is the least
|dx| + |dy| to one of them, and a path is worth

    -5 * share of its points (the last one left out) nearer than 0.1 m
    + 0.5 * (distance at its last point - distance at its first point),

or 2 where there are no obstacles. (Written as the mean gain of distance it would be the same but
for the factor: its sum telescopes.)

Differs from there: the cloud is not read again for every item. A scene's obstacles are sorted once
into a grid of cells, with the distance of each cell to the nearest one that holds any, in a cache
folder named after the cloud's content. A query looks into the few cells that can hold the nearest
point, so that distances are exact and cost the same in every scene.

|dx| + |dy| is the larger of |du| and |dv| for u = x + y and v = x - y, in which such a
neighbourhood is a square: one run of points in each row of cells.

N points, Q queries, K points of a path.
"""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
from scipy.ndimage import distance_transform_cdt

from internnav_hf.data.readers.columns import column_names, plain, read_columns
from internnav_hf.data.readers.errors import PARSE_ERRORS, broken
from internnav_hf.data.readers.folders import open_file, unreadable
from internnav_hf.data.tables import build_once

PATH_COLUMNS = ("observation.path_points", "observation.path_colors")
OBSTACLE_COLOR = (0.0, 0.0, 0.5)
COLOR_TOLERANCE = 0.05  # sum of the differences of the channels
COLLISION_WEIGHT, COLLISION_M = 5.0, 0.1
CLEARANCE_WEIGHT = 0.5
VALUE_WITHOUT_OBSTACLES = 2.0

FIELD_VERSION = 1  # part of the cache's name; raise it when the files below change
CELL_M = 0.1
LINE_SPACING_M = 0.1
FARTHEST_M = 1e6  # from the world's origin, up to which float32 separates obstacles
LARGEST_SCENE_M = 300.0  # one stray point makes the grid grow with the square of its distance
MARGIN_CELLS = 5
QUERIES_AT_ONCE = 256
ARRAYS = ("points", "starts", "rings")
LARGEST_CLOUD = 2**32  # bytes
_LONGEST_HEAD = 2**16


def path_value(
    path: np.ndarray, field: "ObstacleField", collision_m: float = COLLISION_M
) -> np.ndarray:
    """(...,) the published value of paths (..., K, 2) in the world; nearer than `collision_m` to an
    obstacle counts as a collision.
    """
    if not len(field.points):
        return np.full(np.shape(path)[:-2], VALUE_WITHOUT_OBSTACLES)
    distance = field(path)
    collisions = np.mean(distance[..., :-1] < collision_m, axis=-1)
    gain = distance[..., -1] - distance[..., 0]
    return CLEARANCE_WEIGHT * gain - COLLISION_WEIGHT * collisions


@dataclass(frozen=True, eq=False)
class ObstacleField:
    """Distances to the obstacles of one scene.

    `points` (N, 2) are (u, v) in metres from `origin`, sorted by cell; `starts` (cells + 1,) is
    where the points of each cell begin, row by row; `rings` (rows, columns) counts the cells,
    diagonal steps included, to the nearest one that is not empty.
    """

    points: np.ndarray
    starts: np.ndarray
    rings: np.ndarray
    origin: np.ndarray

    def __call__(self, xy: np.ndarray) -> np.ndarray:
        """(...,) metres |dx| + |dy| from world points (..., 2) to the nearest obstacle; infinite
        without any.
        """
        return self._by_parts(xy, self._taxicab)

    def euclidean(self, xy: np.ndarray) -> np.ndarray:
        """(...,) Euclidean distance to the nearest obstacle, in metres."""
        return self._by_parts(xy, self._euclidean)

    def blocks(self, start: np.ndarray, end: np.ndarray, collision_m: float) -> bool:
        """Whether the straight line from `start` to `end`, both (2,), comes nearer than
        `collision_m` (|dx| + |dy|) to an obstacle.
        """
        fractions = np.linspace(0, 1, 2 + int(np.linalg.norm(end - start) / LINE_SPACING_M))
        return bool((self(start + (end - start) * fractions[:, None]) < collision_m).any())

    def outside(self, xy: np.ndarray) -> np.ndarray:
        """(...,) metres |dx| + |dy| at least to all obstacles from points (..., 2) around them; 0
        among them.
        """
        if not len(self.points):
            return np.zeros(np.shape(xy)[:-1])
        queries = rotated(np.asarray(xy, np.float64)) - self.origin
        extent = np.array(self.rings.shape) * CELL_M
        return np.abs(np.clip(queries, 0, extent) - queries).max(axis=-1)

    def _by_parts(self, xy, distance) -> np.ndarray:
        xy = np.asarray(xy, np.float64)
        if not len(self.points):
            return np.full(xy.shape[:-1], np.inf)
        queries = rotated(xy).reshape(-1, 2) - self.origin
        found = [np.empty(0)]
        for start in range(0, len(queries), QUERIES_AT_ONCE):
            found.append(distance(queries[start : start + QUERIES_AT_ONCE]))
        return np.concatenate(found).reshape(xy.shape[:-1])

    def _taxicab(self, queries: np.ndarray) -> np.ndarray:
        last = np.array(self.rings.shape) - 1
        cells = np.clip(np.floor(queries / CELL_M).astype(np.int64), 0, last)
        outside = np.abs(np.clip(queries, 0, (last + 1) * CELL_M) - queries).max(axis=1)
        # No farther than that: the nearest cell that holds a point lies within it.
        bound = outside + (self.rings[cells[:, 0], cells[:, 1]] + 1) * CELL_M
        offsets, first = self._near(queries, bound)
        return np.minimum.reduceat(np.maximum(*np.abs(offsets.T)), first)

    def _euclidean(self, queries: np.ndarray) -> np.ndarray:
        # Turned by 45 degrees and stretched: distances in (u, v) are sqrt(2) times those in (x, y).
        offsets, first = self._near(queries, np.sqrt(2) * self._taxicab(queries))
        return np.sqrt(np.minimum.reduceat(np.square(offsets).sum(axis=1), first) / 2)

    def _near(self, queries: np.ndarray, reach: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Offsets (., 2) to all points within `reach` (Q,) of each query, and where each query's
        begin; some are farther.
        """
        num_rows, num_columns = self.rings.shape
        reach = reach[:, None] + 1e-6  # float32 points near a cell's edge
        low = np.floor((queries - reach) / CELL_M).astype(np.int64).clip(0)
        high = np.floor((queries + reach) / CELL_M).astype(np.int64)
        high = np.minimum(high, (num_rows - 1, num_columns - 1))
        query, row = _runs(low[:, 0], high[:, 0] + 1)
        begin = self.starts[row * num_columns + low[query, 1]]
        end = self.starts[row * num_columns + high[query, 1] + 1]
        run, index = _runs(begin, end)
        query = query[run]
        offsets = self.points[index] - queries[query]
        return offsets, np.searchsorted(query, np.arange(len(queries)))


def _runs(begin: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers of all ranges begin[i]..end[i], concatenated, and the i of each."""
    lengths = (end - begin).astype(np.int64)
    which = np.repeat(np.arange(len(lengths)), lengths)
    before = np.cumsum(lengths) - lengths
    return which, np.arange(len(which)) + np.repeat(begin - before, lengths)


def rotated(xy: np.ndarray) -> np.ndarray:
    """(x + y, x - y) of points (..., 2)."""
    return np.stack([xy[..., 0] + xy[..., 1], xy[..., 0] - xy[..., 1]], axis=-1)


def make_field(xy: np.ndarray) -> ObstacleField:
    """Build the field of obstacles at world points (N, 2)."""
    if not len(xy):
        none = np.zeros((0, 2), np.float32)
        return ObstacleField(none, np.zeros(2, np.int32), np.zeros((1, 1), np.int16), np.zeros(2))
    points = rotated(np.asarray(xy, np.float64))
    origin = np.floor(points.min(axis=0) / CELL_M - MARGIN_CELLS) * CELL_M
    points = points - origin
    cells = np.floor(points / CELL_M).astype(np.int64)
    num_rows, num_columns = cells.max(axis=0) + 1 + MARGIN_CELLS
    flat = cells[:, 0] * num_columns + cells[:, 1]
    counts = np.bincount(flat, minlength=num_rows * num_columns)
    empty = (counts == 0).reshape(num_rows, num_columns)
    return ObstacleField(
        points=points[np.argsort(flat, kind="stable")].astype(np.float32),
        starts=np.concatenate([[0], np.cumsum(counts)]).astype(np.int32),
        rings=distance_transform_cdt(empty, "chessboard").astype(np.int16),
        origin=origin,
    )


def read_obstacles(path: Path) -> np.ndarray:
    """Return (N, 2) world x, y of the points with the obstacles' colour, see `read_cloud`."""
    points, is_obstacle = read_cloud(path)
    return points[is_obstacle, :2]


def read_cloud(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return world points (N, 3) from a PLY file or from the columns of a parquet file, and (N,)
    whether they have the obstacles' colour; there are some, all finite and near each other.
    """
    xyz, colors = (read_ply if path.suffix == ".ply" else _read_path_columns)(path)
    if colors.shape[:1] != xyz.shape[:1] or not len(xyz):
        raise broken(path, "colours", f"{len(colors)} of {len(xyz)} points", "one for each point")
    is_obstacle = np.abs(colors[:, :3] - OBSTACLE_COLOR).sum(axis=1) < COLOR_TOLERANCE
    if not is_obstacle.any():
        known, counts = np.unique(np.round(255 * colors[:, :3]), axis=0, return_counts=True)
        usual = known[counts.argsort()[::-1][:3]].astype(int).tolist()
        raise broken(
            path, "colours", f"no obstacle, mostly {usual}", "some points of (0, 0, 128), 8 bit"
        )
    found = xyz[is_obstacle][:, :2]
    if not np.isfinite(found).all():
        raise broken(path, "points", "nan or infinity", "finite numbers")
    farthest_m = np.abs(found).max()
    if farthest_m > FARTHEST_M:
        found, expected = f"an obstacle at {farthest_m:.3g} m", f"at most {FARTHEST_M:g} m"
        raise broken(path, "points", found, expected)
    extent_m = np.ptp(found, axis=0).max()
    if extent_m > LARGEST_SCENE_M:
        expected = f"a scene of at most {LARGEST_SCENE_M:g} m"
        raise broken(path, "points", f"obstacles {extent_m:.0f} m apart", expected)
    return xyz, is_obstacle


def read_ply(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read points (N, 3) and their colours (N, 3 or 4) in [0, 1]."""
    import trimesh  # slow to import

    with open_file(path, "a PLY file of coloured points") as stream:
        _check_counts(path, stream)
        try:  # without textures, which the file may name anywhere
            cloud = trimesh.load(stream, file_type="ply", process=False, skip_materials=True)
            return np.asarray(cloud.vertices), np.asarray(cloud.colors, np.float64) / 255
        except PARSE_ERRORS as error:
            raise unreadable(path, error, "a PLY file of coloured points") from error


def _check_counts(path: Path, stream: BinaryIO) -> None:
    """Refuse a small file that declares many points: each takes a byte or more."""
    size = stream.seek(0, 2)
    stream.seek(0)
    head = stream.read(_LONGEST_HEAD).partition(b"end_header")[0]
    stream.seek(0)
    counts = [int(number) for number in re.findall(rb"element\s+\w+\s+(\d{1,18})", head)]
    if size > LARGEST_CLOUD or max(counts, default=0) > size:
        found = f"{size} bytes, and {max(counts, default=0)} of an element"
        raise broken(path, "file", found, "a point cloud with the bytes of its points")


def has_cloud(path: Path) -> bool:
    """Return whether a parquet file has the columns of a point cloud."""
    if path.suffix != ".parquet":
        return False
    try:
        return set(PATH_COLUMNS) <= set(column_names(path))
    except ValueError:
        return False


def _read_path_columns(path: Path) -> tuple[np.ndarray, np.ndarray]:
    table = read_columns(path, PATH_COLUMNS)
    try:
        points, colors = (_points(table[name].slice(0, 1)) for name in PATH_COLUMNS)
    except (ValueError, AttributeError, TypeError) as error:
        raise broken(path, "path_points", str(error), "N points of 3 numbers") from error
    return points, colors / (255 if colors.max(initial=0) > 1 else 1)


def _points(row: pa.ChunkedArray) -> np.ndarray:
    """(N, 3) of one row: a list of points."""
    points = plain(plain(row.combine_chunks()).flatten())
    return plain(points.flatten()).to_numpy(zero_copy_only=False).reshape(-1, 3).astype(np.float64)


def field_name(path: Path) -> str:
    """Return the cache folder of a cloud's field: scenes that share a cloud share it."""
    digest = hashlib.blake2b(digest_size=8)
    with open_file(path, "a PLY file of coloured points") as stream:
        while part := stream.read(2**20):
            digest.update(part)
    return f"obstacles-{FIELD_VERSION}-{digest.hexdigest()}"


def open_field(path: Path, folder: Path) -> ObstacleField:
    """Return the field of a cloud, memory-mapped from its cache folder, which is filled first if
    needed.
    """
    return kept_field(folder, lambda: read_obstacles(path))


def kept_field(folder: Path, find_obstacles: Callable[[], np.ndarray]) -> ObstacleField:
    """Return the field in a cache folder, which is filled first if needed."""
    build_once(folder, lambda new: _save(make_field(find_obstacles()), new))
    arrays = [np.load(folder / f"{name}.npy", mmap_mode="r") for name in ARRAYS]
    origin = json.loads((folder / "origin.json").read_text())
    return ObstacleField(*arrays, origin=np.array(origin))


def _save(field: ObstacleField, folder: Path) -> None:
    for name in ARRAYS:
        np.save(folder / f"{name}.npy", getattr(field, name))
    (folder / "origin.json").write_text(json.dumps(field.origin.tolist()))
