"""The table of episodes of a data set, in whatever format: every episode checked once, then
memory-mapped.

A format is a function that gives a `Source`: how the folders of a data set are found, and how one
of them becomes rows. Building reads every episode. What training needs of its columns lies in the
table, so that an item opens images alone. The result is an Arrow file in a cache folder named after
what it was made from: the next start, and every other process, compares file stamps and maps
memory. A broken episode is named, counted and left out.
"""

import hashlib
import json
import logging
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from huggingface_hub.constants import HF_HOME
from tqdm import tqdm

from internnav_hf.data.readers.errors import broken
from internnav_hf.data.readers.folders import all_broken, check_name, each_once
from internnav_hf.data.tables import build_once, described, open_table, table_of, write_table

logger = logging.getLogger(__name__)

DEFAULT_CACHE = Path(HF_HOME) / "internnav_hf" / "index"
EPISODES = "episodes.arrow"
NUM_THREADS = min(16, os.cpu_count() or 1)

_KNOWN = {
    "unit": (pa.string(), "folder below the data root: group/scene or .../trajectory"),
    "episode_index": (pa.int32(), "number in the file names"),
    "length": (pa.int32(), "frames"),
    "width": (pa.int16(), "of the colour images, px"),
    "height": (pa.int16(), "of the colour images, px"),
    "instructions": (pa.list_(pa.string()), "verbatim"),
    "actions": (pa.list_(pa.int8()), "what the expert does at each frame"),
    "poses": (pa.list_(pa.float64()), "x, y, yaw of each frame in a row"),
    "rgb_file": (pa.string(), "below the unit; # is the frame's number"),
    "ordinary_file": (pa.string(), "the same, of System2's ordinary view where it has two"),
    "depth_file": (pa.string(), "below the unit; # is the frame's number"),
    "landmark_file": (pa.string(), "masks of the named object, if any"),
    "frames": (pa.list_(pa.int32()), "their numbers, by row; none: from 0"),
    "depth_scale": (pa.float64(), "units of a depth image per metre"),
    "is_bgr": (pa.bool_(), "whether colours are stored as blue, green, red"),
    "focal": (pa.list_(pa.float64()), "fx, fy, px"),
    "center": (pa.list_(pa.float64()), "cx, cy, px"),
    "height_m": (pa.float64(), "of the camera above the floor"),
    "pitch": (pa.float64(), "rad; positive looks down"),
    "goal_frames": (pa.list_(pa.int32()), "frames to the waypoint, -1 for none"),
    "goals": (pa.list_(pa.int32()), "its pixel in rgb, u, v of each frame"),
    "cloud": (pa.string(), "file of the point cloud, below the unit"),
    "field": (pa.string(), "cache folder of the scene's obstacles"),
}
COLUMNS = {name: described(name, *known, counted=False) for name, known in _KNOWN.items()}
"""Columns that tasks know. A format has those in its data; `rgb_file` is the view of the
camera, of depth, poses and pixel goals."""


def episode_schema(*columns: str | pa.Field, uncounted: str = "") -> pa.Schema:
    """Schema of a format: names of `COLUMNS`, and its own fields. `content_digest` counts the named
    ones, except those of `uncounted`, names separated by blanks.
    """
    named = [described(c, *_KNOWN[c]) if isinstance(c, str) else c for c in columns]
    return pa.schema([*named, *(COLUMNS[name] for name in uncounted.split())])


@dataclass(frozen=True)
class LeftOut:
    """A whole episode that is not used, and the reason."""

    reason: str


Reading = Mapping[str, Any] | ValueError | LeftOut
"""A row by column, the error of an episode, or a mark that it is left out."""


@dataclass(eq=False)
class FolderRows:
    """Rows and errors that one folder adds to a table."""

    folder: Path
    rows: list[Mapping[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, eq=False)
class Source:
    """A data set in some `format`: its `root`, below which folders are found, and its `name`, if
    the folder has several.

    `read_folder` yields rows of `schema`, and a ValueError for each broken episode; one that it
    raises breaks the whole folder. `stamps` gives a line for each file that rows depend on, `key`
    everything else: a version, to be raised when checks or columns change, and options. `agree` may
    take rows from folders that contradict others.
    """

    root: Path
    format: str
    key: object
    schema: pa.Schema
    find_folders: Callable[[], Sequence[Path]]
    read_folder: Callable[[Path], Iterator[Reading]]
    stamps: Callable[[Path], Iterable[str]]
    agree: Callable[[Sequence[FolderRows]], Sequence[FolderRows]] = lambda parts: parts
    name: str = ""

    @property
    def title(self) -> str:
        """What messages call it."""
        return self.name or str(self.root)

    @property
    def label(self) -> str:
        """What its cache folder is called, before the fingerprint."""
        return self.name or self.format


@dataclass(frozen=True, eq=False)
class EpisodeTable:
    """`episodes` of a source's schema; `num_episodes` counts the broken ones and those that are
    left out, too. `left_out` has their number by reason. `folder` is where the table is cached.
    """

    episodes: pa.Table
    num_episodes: int
    broken_episodes: tuple[str, ...]
    left_out: dict[str, int]
    folder: Path | None = None


def open_episodes(
    source: Source, cache_dir: Path, max_broken_fraction: float = 0.01
) -> EpisodeTable:
    """Map the cached table, or build it first; broken episodes are left out with a warning, or
    refused if too many.
    """
    folders = source.find_folders()
    place = cache_dir / f"{source.label}-{fingerprint(source, folders)}"

    def build(new: Path) -> None:
        told = "Checking %d folders of %s; their index: %s"
        logger.info(told, len(folders), source.title, cache_dir)
        table = index_folders(source, folders)
        _refuse_too_many_broken(source.title, table, max_broken_fraction)
        if not table.episodes.num_rows:
            left_out = f" (failed walks left out: {table.left_out})" if table.left_out else ""
            found = f"found {table.num_episodes} episodes and none to use{left_out}"
            raise ValueError(f"{source.title}: {found}, expected at least one")
        _save(table, new)

    build_once(place, build)
    table = _load(place)
    _refuse_too_many_broken(source.title, table, max_broken_fraction)
    _warn_of_broken(source.title, table)
    if table.left_out:
        logger.info("%s: episodes that are not used: %s", source.title, table.left_out)
    return table


def fingerprint(source: Source, folders: Sequence[Path]) -> str:
    """Fingerprint of the names, sizes and times of everything a table is made from."""
    digest = hashlib.blake2b(json.dumps(source.key).encode(), digest_size=8)

    def stamps(folder: Path) -> bytes:
        return "\n".join(source.stamps(folder)).encode(errors="surrogateescape")

    with ThreadPoolExecutor(NUM_THREADS) as pool:
        for part in pool.map(stamps, folders):
            digest.update(part)
    places = [str(folder.relative_to(source.root)) for folder in folders]
    digest.update(str(places).encode())
    return digest.hexdigest()


def index_folders(source: Source, folders: Sequence[Path]) -> EpisodeTable:
    """Read and check every episode, with a progress bar (a line every half minute in a log file).

    ValueError if there is none, broken or not.
    """
    seconds = 0.2 if sys.stderr.isatty() else 30
    bar = {
        "desc": f"index {source.label}",
        "unit": " folders",
        "mininterval": seconds,
    }
    with tqdm(total=len(folders), **bar) as progress, ThreadPoolExecutor(NUM_THREADS) as pool:
        parts = []
        for part in pool.map(lambda at: read_rows(source, *at), each_once(folders)):
            parts.append(part)
            progress.update()
    parts = source.agree(parts)
    rows = [row for part in parts for row in part.rows]
    problems = tuple(problem for part in parts for problem in part.problems)
    left_out = sum((part.left_out for part in parts), Counter())
    num_episodes = len(rows) + len(problems) + left_out.total()
    if not num_episodes:
        raise ValueError(f"{source.title}: no episode in {len(folders)} folders")
    names = source.schema.names
    table = table_of([tuple(row.get(name) for name in names) for row in rows], source.schema)
    return EpisodeTable(table, num_episodes, problems, dict(left_out))


def read_rows(source: Source, folder: Path, other: Path | None = None) -> FolderRows:
    """Read a folder; all its episodes are broken if it is a link to an `other` folder."""
    part = FolderRows(folder)
    if other is not None:
        again = broken(folder, "folder", f"{other} again", "each folder once")
        return FolderRows(folder, problems=[str(again)])
    errors = []
    try:
        check_name(folder)
        for found in source.read_folder(folder):
            if isinstance(found, ValueError):
                errors.append(found)
            elif isinstance(found, LeftOut):
                part.left_out[found.reason] += 1
            else:
                part.rows.append(found)
    except ValueError as error:
        return FolderRows(folder, problems=all_broken(folder, [error]))
    if errors and not part.rows and not part.left_out:
        part.problems = all_broken(folder, errors)
    else:
        part.problems = list(map(str, errors))
    return part


def _save(table: EpisodeTable, folder: Path) -> None:
    write_table(table.episodes, folder / EPISODES)
    names = ("num_episodes", "broken_episodes", "left_out")
    told = {name: getattr(table, name) for name in names}
    (folder / "info.json").write_text(json.dumps(told, indent=1), encoding="utf-8")


def _load(folder: Path) -> EpisodeTable:
    told = json.loads((folder / "info.json").read_text(encoding="utf-8"))
    problems = tuple(told.pop("broken_episodes"))
    episodes = open_table(folder / EPISODES)
    return EpisodeTable(episodes, broken_episodes=problems, folder=folder, **told)


def _refuse_too_many_broken(title: str, table: EpisodeTable, max_broken_fraction: float) -> None:
    """Raise one ValueError with the first problems if more than the allowed share is broken."""
    problems = table.broken_episodes
    if len(problems) <= max_broken_fraction * table.num_episodes:
        return
    counts = Counter(problems)
    lines = [p + (f" ({n} episodes)" if n > 1 else "") for p, n in list(counts.items())[:5]]
    shown = "\n  ".join(lines)
    more = f"\n  and {len(counts) - 5} more" if len(counts) > 5 else ""
    raise ValueError(
        f"{title}: {len(problems)} of {table.num_episodes} episodes are broken, more than"
        f" max_broken_fraction={max_broken_fraction:g} allows:\n  {shown}{more}"
    )


def _warn_of_broken(title: str, table: EpisodeTable) -> None:
    """Warn of each broken episode, also if the index comes from the cache."""
    for problem, count in Counter(table.broken_episodes).items():
        left_out = "episode left out" if count == 1 else f"{count} episodes left out"
        logger.warning("%s: %s: %s", title, left_out, problem)
    if problems := table.broken_episodes:
        told = (
            "%s: %d of %d episodes are broken and left out (images repaired in place are noticed"
            " when %s is removed)"
        )
        logger.warning(told, title, len(problems), table.num_episodes, table.folder)
