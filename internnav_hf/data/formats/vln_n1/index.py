"""Rows of `vln_n1` episodes.

Reads each parquet file, lists each image folder, opens some depth images of each scene and sorts
its point cloud into an obstacle field. What is wrong with a scene's depth or point cloud breaks all
of its episodes.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from internnav_hf.data.checks.cameras import check_intrinsics
from internnav_hf.data.checks.depth import FloorView, depth_problems
from internnav_hf.data.checks.images import check_aspect, check_images
from internnav_hf.data.formats.vln_n1.ranges import STATS_FILE, FrameRange, misplaced, read_ranges
from internnav_hf.data.formats.vln_n1.reader import (
    CLOUD_FILE,
    DEPTH_SCALE,
    FRAME_ORDERS,
    INTRINSIC,
    POSE,
    FrameFiles,
    cloud_file,
    find_units,
    read_episode_columns,
    view_of,
)
from internnav_hf.data.index import Reading, Source, episode_schema
from internnav_hf.data.obstacles import ObstacleField, field_name, open_field
from internnav_hf.data.readers.errors import broken
from internnav_hf.data.readers.folders import unlisted
from internnav_hf.data.readers.images import open_depth_units
from internnav_hf.data.tables import data_stamps, stamp
from internnav_hf.geometry import robot_poses

DEPTH_MEDIAN_M = (0.4, 20.0)
"""Limits of the probes' median: in rooms, 1 mm read as 0.1 mm lies below. If a camera looks at
floor nearer than a metre, the lower limit shrinks as much."""
FARTHEST_FROM_CLOUD_M = 20.0

EPISODE_SCHEMA = episode_schema(
    *("unit", "episode_index", "length", "rgb_file", "depth_file", "frames", "width", "height"),
    *("focal", "center", "height_m", "pitch", "cloud", "field"),
    uncounted="poses depth_scale",
)


@dataclass(frozen=True)
class ReadingRules:
    """How files are found and read."""

    groups: tuple[str, ...] | None = None
    frame_order: str = "numeric"
    depth_scale: float = DEPTH_SCALE

    def __post_init__(self) -> None:
        if self.frame_order not in FRAME_ORDERS:
            expected = f"one of {FRAME_ORDERS}"
            raise ValueError(f"frame_order: found {self.frame_order!r}, expected {expected}")


def vln_n1(data_root: Path, rules: ReadingRules, cache_dir: Path) -> Source:
    """Return all groups below `data_root`, or those of the rules. Obstacle fields are built in
    `cache_dir`.
    """
    return Source(
        *(data_root, "vln_n1", [6, asdict(rules)], EPISODE_SCHEMA),
        find_folders=lambda: find_units(data_root, rules.groups),
        read_folder=lambda unit: read_unit(data_root, unit, rules, cache_dir),
        stamps=unit_stamps,
    )


def read_unit(
    data_root: Path, unit: Path, rules: ReadingRules, cache_dir: Path
) -> Iterator[Reading]:
    """Check every episode of a unit, and all together."""
    files = FrameFiles(unit, rules.frame_order)
    records, wrong = read_ranges(unit)
    scene = _scene_columns(data_root, unit, rules)
    cloud = open_field(unit / scene["cloud"], cache_dir / scene["field"])
    wrong += unlisted(unit, records, STATS_FILE, len(wrong))
    yield from wrong
    rows, views, is_suspect = {}, {}, bool(wrong)
    for record in records:
        try:
            columns = read_episode_columns(record)
            path = record.path
            _check_near(cloud, columns[POSE][:, :2, 3], path)
            view, size = view_of(columns, path), _image_size(record, files)
            check_intrinsics(view.focal, view.center, size, path, INTRINSIC)
            poses = {"poses": robot_poses(columns[POSE]).ravel()}
            rows[record] = scene | _row(record, size, files) | asdict(view) | poses
            views[record] = FloorView(
                view.height_m, view.pitch, view.focal[1] / size[1], view.center[1] / size[1]
            )
        except ValueError as error:
            is_suspect = True
            yield error
    broken_ones = misplaced(list(views), files.places("rgb"), is_suspect)
    for record in broken_ones:
        del views[record]
    broken_ones |= _depth_problems(views, files, rules.depth_scale)
    yield from map(ValueError, broken_ones.values())
    yield from (row for record, row in rows.items() if record not in broken_ones)


def _scene_columns(data_root: Path, unit: Path, rules: ReadingRules) -> dict[str, Any]:
    """Return the columns that all episodes of a unit share."""
    path = cloud_file(unit)
    return {
        "unit": str(unit.relative_to(data_root)),
        "cloud": str(path.relative_to(unit)),
        "field": field_name(path),
        "depth_scale": rules.depth_scale,
    }


def _check_near(cloud: ObstacleField, xy: np.ndarray, path: Path) -> None:
    """Check that positions (T, 2) lie within the scene's points."""
    away_m = float(np.median(cloud.outside(xy)))
    if away_m > FARTHEST_FROM_CLOUD_M:
        found = f"{away_m:.4g} m outside of the scene's point cloud (the median)"
        raise broken(path, POSE, found, "metres in the point cloud's frame")


def _image_size(record: FrameRange, files: FrameFiles) -> tuple[int, int]:
    """Return (width, height) of the colours; depth may be smaller."""
    paths = {kind: files.paths(record, kind) for kind in ("rgb", "depth")}
    size, depth_size = (
        check_images([f"{record.unit}/{name}" for name in names], kind)
        for kind, names in paths.items()
    )
    check_aspect(record.unit / paths["depth"][0], depth_size, size)
    return size


def _row(record: FrameRange, size: tuple[int, int], files: FrameFiles) -> dict[str, Any]:
    return {
        "episode_index": record.episode_index,
        "length": record.length,
        "rgb_file": files.pattern(record, "rgb"),
        "depth_file": files.pattern(record, "depth"),
        "frames": files.numbers(record, "rgb"),
        "width": size[0],
        "height": size[1],
    }


def _depth_problems(
    views: dict[FrameRange, FloorView], files: FrameFiles, depth_scale: float
) -> dict[FrameRange, str]:
    def read(record: FrameRange, frame: int) -> tuple[Path, np.ndarray]:
        path = files.unit / files.paths(record, "depth")[frame]
        return path, open_depth_units(path, depth_scale)

    records = list(views)
    lengths = [record.length for record in records]
    place = (files.unit, depth_scale, DEPTH_MEDIAN_M)
    return depth_problems(records, lengths, list(views.values()), read, *place)


def unit_stamps(unit: Path) -> Iterator[str]:
    """Yield stamps of all files but images, and of image folders."""
    yield from data_stamps(unit, (STATS_FILE, CLOUD_FILE))
    for folder in sorted(unit.glob("videos/chunk-*/observation.images.*")):
        yield stamp(f"{folder.parent.name}/{folder.name}", folder)
