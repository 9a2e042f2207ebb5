"""The table of `vln_n1` episodes: every one checked, once, then memory-mapped.

Building reads each parquet file, lists each image folder, opens some depth images of each scene and
sorts its point cloud into an obstacle field. A broken episode is named, counted and left out; what
is wrong with a scene's depth or point cloud breaks all of its episodes.
"""

import hashlib
import json
import logging
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from internnav_hf.data.checks.cameras import check_intrinsics
from internnav_hf.data.checks.depth import FloorView, depth_problems
from internnav_hf.data.checks.images import check_aspect, check_images
from internnav_hf.data.episode import parquet_path
from internnav_hf.data.formats.vln_n1.ranges import STATS_FILE, FrameRange, misplaced, read_ranges
from internnav_hf.data.formats.vln_n1.reader import (
    CLOUD_FILE,
    INTRINSIC,
    POSE,
    FrameFiles,
    View,
    cloud_file,
    find_units,
    read_episode_columns,
    view_of,
)
from internnav_hf.data.index import (
    NUM_THREADS,
    build_once,
    described,
    folder_stamps,
    open_table,
    refuse_too_many_broken,
    report_broken,
    stamp,
    table_of,
    write_table,
)
from internnav_hf.data.obstacles import ObstacleField, field_name, open_field
from internnav_hf.data.readers.errors import broken
from internnav_hf.data.readers.folders import all_broken, check_name, each_once, unlisted
from internnav_hf.data.readers.images import open_depth
from internnav_hf.geometry import robot_poses

logger = logging.getLogger(__name__)

INDEX_VERSION = 6  # part of the cache's name; raise it when checks or columns change
DEPTH_MEDIAN_M = (0.4, 20.0)
"""Of what the probes see: in rooms, 1 mm read as 0.1 mm lies below. Where the camera looks at floor
nearer than a metre, the lower limit shrinks as much."""
FARTHEST_FROM_CLOUD_M = 20.0

EPISODE_SCHEMA = pa.schema(
    [
        described("unit", pa.string(), "folder below the root: group/scene or .../trajectory"),
        described("episode_index", pa.int32(), "number of the parquet file"),
        described("length", pa.int32(), "frames"),
        described("rgb_file", pa.string(), "below the unit; # is the frame's number"),
        described("depth_file", pa.string(), "below the unit; # is the frame's number"),
        described("frames", pa.list_(pa.int32()), "their numbers, by row"),
        described("width", pa.int16(), "of the colour images, px"),
        described("height", pa.int16(), "of the colour images, px"),
        described("focal", pa.list_(pa.float64()), "fx, fy, px"),
        described("center", pa.list_(pa.float64()), "cx, cy, px"),
        described("height_m", pa.float64(), "of the camera above the floor"),
        described("pitch", pa.float64(), "rad; positive looks down"),
        described("cloud", pa.string(), "file of the point cloud, below the unit"),
        described("field", pa.string(), "cache folder of the scene's obstacles"),
        described("poses", pa.list_(pa.float64()), "x, y, yaw of each frame in a row", False),
    ]
)


@dataclass(frozen=True, eq=False)
class EpisodeIndex:
    """`episodes` of the schema above; `num_episodes` counts the broken ones, too."""

    episodes: pa.Table
    num_episodes: int
    broken_episodes: tuple[str, ...]


@dataclass(frozen=True)
class ReadingRules:
    """How files are found and read."""

    groups: tuple[str, ...] | None = None
    frame_order: str = "numeric"
    depth_scale: float = 10_000.0


def open_episodes(
    data_root: Path, rules: ReadingRules, cache_dir: Path, max_broken_fraction: float = 0.01
) -> EpisodeIndex:
    """Map the cached table, or build it first."""
    units = find_units(data_root, rules.groups)
    folder = cache_dir / f"vln_n1-{fingerprint(data_root, units, rules)}"

    def build(new: Path) -> None:
        logger.info("Checking %d folders of %s; their index: %s", len(units), data_root, cache_dir)
        index = index_units(data_root, units, rules, cache_dir)
        refuse_too_many_broken(
            str(data_root), index.broken_episodes, index.num_episodes, max_broken_fraction
        )
        _save(index, new)

    build_once(folder, build)
    index = _load(folder)
    problems = index.broken_episodes
    report_broken(str(data_root), problems, index.num_episodes, max_broken_fraction, folder)
    return index


def index_units(
    data_root: Path, units: Sequence[Path], rules: ReadingRules, cache_dir: Path
) -> EpisodeIndex:
    """Check every episode; fields are built in `cache_dir`."""
    rows, problems = [], []
    seconds = 0.2 if sys.stderr.isatty() else 30
    progress = tqdm(desc="index vln_n1", total=len(units), unit=" scenes", mininterval=seconds)
    with progress, ThreadPoolExecutor(NUM_THREADS) as pool:
        parts = pool.map(
            lambda at: index_unit(data_root, at[0], at[1], rules, cache_dir), each_once(units)
        )
        for found, wrong in parts:
            rows += found
            problems += wrong
            progress.update()
    if not rows and not problems:
        raise ValueError(f"{data_root}: no episode in {len(units)} folders")
    table = table_of(rows, EPISODE_SCHEMA)
    return EpisodeIndex(table, len(rows) + len(problems), tuple(problems))


def index_unit(
    data_root: Path, unit: Path, other: Path | None, rules: ReadingRules, cache_dir: Path
) -> tuple[list[tuple], list[str]]:
    """Rows of the schema, and a sentence about each broken episode; all are if the unit is, by a
    link, an `other` one.
    """
    files = FrameFiles(unit, rules.frame_order)
    if other is not None:
        problem = broken(unit, "folder", f"{other} again", "each folder once")
        return [], [str(problem)]
    try:
        check_name(unit)
        records, wrong = read_ranges(unit)
        cloud, *field = _cloud_and_field(unit, cache_dir)
    except ValueError as error:
        return [], all_broken(unit, [error])
    if not records:
        return [], all_broken(unit, wrong)
    numbers = [record.episode_index for record in records]
    wrong += unlisted(unit, numbers, STATS_FILE, len(wrong))
    views, rows, problems = {}, {}, [str(error) for error in wrong]
    for record in records:
        try:
            columns = read_episode_columns(record)
            path = parquet_path(unit, record.episode_index)
            _check_near(cloud, columns[POSE][:, :2, 3], path)
            view, size = view_of(columns, path), _image_size(record, files)
            check_intrinsics(view.focal, view.center, size, path, INTRINSIC)
            row = _row(data_root, record, view, size, files, field)
            rows[record] = (*row, robot_poses(columns[POSE]).ravel())
            views[record] = FloorView(
                view.height_m, view.pitch, view.focal[1] / size[1], view.center[1] / size[1]
            )
        except ValueError as error:
            problems.append(str(error))
    broken_ones = misplaced(list(views), files.places("rgb"), bool(problems))
    for record in broken_ones:
        del views[record]
    broken_ones |= _depth_problems(views, files, rules.depth_scale)
    problems += broken_ones.values()
    return [row for record, row in rows.items() if record not in broken_ones], problems


def _cloud_and_field(unit: Path, cache_dir: Path) -> tuple[ObstacleField, str, str]:
    path = cloud_file(unit)
    name = field_name(path)
    field = open_field(path, cache_dir / name)
    return field, str(path.relative_to(unit)), name


def _check_near(cloud: ObstacleField, xy: np.ndarray, path: Path) -> None:
    """Positions (T, 2) lie where the scene's points do."""
    away_m = float(np.median(cloud.outside(xy)))
    if away_m > FARTHEST_FROM_CLOUD_M:
        found = f"{away_m:.4g} m outside of the scene's point cloud (the median)"
        raise broken(path, POSE, found, "metres in the point cloud's frame")


def _image_size(record: FrameRange, files: FrameFiles) -> tuple[int, int]:
    """(width, height) of the colours; that of the depth may be smaller."""
    paths = {kind: files.paths(record, kind) for kind in ("rgb", "depth")}
    size, depth_size = (
        check_images([f"{record.unit}/{name}" for name in names], kind)
        for kind, names in paths.items()
    )
    check_aspect(record.unit / paths["depth"][0], depth_size, size)
    return size


def _row(
    data_root: Path,
    record: FrameRange,
    view: View,
    size: tuple[int, int],
    files: FrameFiles,
    field: Sequence[str],
) -> tuple:
    return (
        str(record.unit.relative_to(data_root)),
        record.episode_index,
        record.last - record.first + 1,
        files.pattern(record, "rgb"),
        files.pattern(record, "depth"),
        files.numbers(record, "rgb"),
        *size,
        list(view.focal),
        list(view.center),
        view.height_m,
        view.pitch,
        *field,
    )


def _depth_problems(
    views: dict[FrameRange, FloorView], files: FrameFiles, depth_scale: float
) -> dict[FrameRange, str]:
    def read(record: FrameRange, frame: int) -> tuple[Path, np.ndarray]:
        path = files.unit / files.paths(record, "depth")[frame]
        return path, open_depth(path, scale=depth_scale)

    records = list(views)
    lengths = [record.length for record in records]
    place = (files.unit, depth_scale, DEPTH_MEDIAN_M)
    return depth_problems(records, lengths, list(views.values()), read, *place)


def fingerprint(data_root: Path, units: Sequence[Path], rules: ReadingRules) -> str:
    """Names, sizes and times of all files but images, and times of the images' folders."""
    version = [INDEX_VERSION, rules.groups, rules.frame_order, rules.depth_scale]
    digest = hashlib.blake2b(json.dumps(version).encode(), digest_size=8)
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        for stamps in pool.map(_unit_stamps, units):
            digest.update(stamps)
    digest.update(str([str(unit.relative_to(data_root)) for unit in units]).encode())
    return digest.hexdigest()


def _unit_stamps(unit: Path) -> bytes:
    lines = [stamp(unit.name, unit / file) for file in (STATS_FILE, CLOUD_FILE)]
    lines += _chunk_stamps(unit)
    return "\n".join(lines).encode(errors="surrogateescape")


def _chunk_stamps(unit: Path) -> Iterator[str]:
    for chunk in sorted(unit.glob("data/chunk-*")):
        yield from folder_stamps(chunk)
    for folder in sorted(unit.glob("videos/chunk-*/observation.images.*")):
        yield stamp(f"{folder.parent.name}/{folder.name}", folder)


def _save(index: EpisodeIndex, folder: Path) -> None:
    write_table(index.episodes, folder / "episodes.arrow")
    info = {"num_episodes": index.num_episodes, "broken_episodes": index.broken_episodes}
    (folder / "info.json").write_text(json.dumps(info, indent=1), encoding="utf-8")


def _load(folder: Path) -> EpisodeIndex:
    info = json.loads((folder / "info.json").read_text(encoding="utf-8"))
    episodes = open_table(folder / "episodes.arrow")
    return EpisodeIndex(episodes, info["num_episodes"], tuple(info["broken_episodes"]))
