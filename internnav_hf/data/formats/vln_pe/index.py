"""The table of `vln_pe` episodes: every one checked, once, then memory-mapped.

Building reads each parquet file and the head of each array. What a sample needs of the columns
lies in the table, so that training opens frames and no parquet file. A broken episode is named,
counted and left out. Others are left out by the published rules for walks that failed.
"""

import hashlib
import json
import logging
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pyarrow as pa
from tqdm import tqdm

from internnav_hf.data.checks.cameras import recorded_values
from internnav_hf.data.features import frames_key
from internnav_hf.data.formats.vln_pe.checks import CheckedWalk, sound_walks
from internnav_hf.data.formats.vln_pe.frames import KINDS, FrameRules, RecordedFrames
from internnav_hf.data.formats.vln_pe.reader import (
    ACTION,
    EPISODES_FILE,
    EXPERT_ACTIONS,
    EXPERT_STEPS,
    PREVIOUS_ACTION,
    PROGRESS,
    STATS_FILE,
    STUCK,
    SUCCESS,
    TASKS_FILE,
    WholeWalk,
    find_units,
    read_records,
    read_walk,
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
from internnav_hf.data.readers.errors import broken
from internnav_hf.data.readers.folders import all_broken, check_name, each_once, unlisted

logger = logging.getLogger(__name__)

INDEX_VERSION = 6  # part of the cache's name; raise it when checks or columns change

EPISODE_SCHEMA = pa.schema(
    [
        described("unit", pa.string(), "folder below the root: scan/scene or scan/trajectory"),
        described("episode_index", pa.int32(), "number of the parquet file"),
        described("num_recorded", pa.int32(), "frames on disk"),
        described("length", pa.int32(), "frames that are used"),
        described("instructions", pa.list_(pa.string()), "verbatim"),
        described("instruction_tokens", pa.list_(pa.list_(pa.int32())), "stored word ids, if any"),
        described("finish_status", pa.string(), "how the walk ended: success or another word"),
        described("fail_reason", pa.string(), "fall, stuck, ... or nothing"),
        described("actions", pa.list_(pa.int8()), "the expert's, at each used frame"),
        described("previous_actions", pa.list_(pa.int8()), "what led to each used frame"),
        described("plans", pa.list_(pa.int8()), "the expert's next 8 from each, if stored"),
        described("steps_left", pa.list_(pa.int32()), "that it needs from each, if stored"),
        described("progress", pa.list_(pa.float64()), "share of the way, at each used frame"),
        described("poses", pa.list_(pa.float64()), "x, y, yaw of each used frame in a row"),
        described("frames_key", pa.string(), "changes when the frames on disk do"),
    ]
)


@dataclass(frozen=True)
class FailureRules:
    """Which walks that failed are used, as published.

    Those of fewer than `shortest_failure` frames are not. Of those that got stuck, the last
    `stuck_tail` frames are not, with everything that belongs to them.
    """

    shortest_failure: int = 15
    stuck_tail: int = 25

    def used_frames(self, walk: WholeWalk) -> int:
        """How many frames from the first; 0 leaves the episode out."""
        if walk.finish_status != SUCCESS and walk.length < self.shortest_failure:
            return 0
        is_stuck = STUCK in (walk.finish_status, walk.fail_reason)
        return max(walk.length - self.stuck_tail, 0) if is_stuck else walk.length


@dataclass(frozen=True)
class ReadingRules:
    """How episodes are found, read and chosen."""

    scans: tuple[str, ...] | None = None
    frames: FrameRules = field(default_factory=FrameRules)
    failures: FailureRules = field(default_factory=FailureRules)


@dataclass(frozen=True, eq=False)
class EpisodeIndex:
    """`episodes` of the schema above; `num_episodes` counts all others, too. `left_out` has the
    number of failed walks that are not used, by how they ended.
    """

    episodes: pa.Table
    num_episodes: int
    broken_episodes: tuple[str, ...]
    left_out: dict[str, int]


def open_episodes(
    data_root: Path, rules: ReadingRules, cache_dir: Path, max_broken_fraction: float = 0.01
) -> EpisodeIndex:
    """Map the cached table, or build it first."""
    units = find_units(data_root, rules.scans)
    folder = cache_dir / f"vln_pe-{fingerprint(data_root, units, rules)}"

    def build(new: Path) -> None:
        logger.info("Checking %d folders of %s; their index: %s", len(units), data_root, cache_dir)
        index = index_units(units, rules)
        refuse_too_many_broken(
            str(data_root), index.broken_episodes, index.num_episodes, max_broken_fraction
        )
        _save(index, new)

    build_once(folder, build)
    index = _load(folder)
    problems = index.broken_episodes
    report_broken(str(data_root), problems, index.num_episodes, max_broken_fraction, folder)
    if index.left_out:
        logger.info("%s: failed walks that are not used: %s", data_root, index.left_out)
    if not index.episodes.num_rows:
        raise ValueError(
            f"{data_root}: found {index.num_episodes} episodes and none to use (failed walks left"
            f" out: {index.left_out}), expected at least one"
        )
    return index


def index_units(units: Sequence[Path], rules: ReadingRules) -> EpisodeIndex:
    """Check every episode."""
    rows, problems, left_out = [], [], Counter()
    seconds = 0.2 if sys.stderr.isatty() else 30
    progress = tqdm(desc="index vln_pe", total=len(units), unit=" folders", mininterval=seconds)
    with progress, ThreadPoolExecutor(NUM_THREADS) as pool:
        for part in pool.map(lambda at: index_unit(at[0], at[1], rules), each_once(units)):
            rows += part[0]
            problems += part[1]
            left_out += part[2]
            progress.update()
    num_episodes = len(rows) + len(problems) + left_out.total()
    return EpisodeIndex(
        table_of(rows, EPISODE_SCHEMA), num_episodes, tuple(problems), dict(left_out)
    )


def index_unit(
    unit: Path, other: Path | None, rules: ReadingRules
) -> tuple[list[tuple], list[str], Counter]:
    """Rows of the schema, a sentence about each broken episode, and how failed walks ended. All are
    broken if the unit is, by a link, an `other` one.
    """
    problems, left_out = [], Counter()
    if other is not None:
        problem = broken(unit, "folder", f"{other} again", "each folder once")
        return [], [str(problem)], left_out
    try:
        check_name(unit)
        records, wrong = read_records(unit)
        recorded_values(unit)
    except ValueError as error:
        return [], all_broken(unit, [error]), left_out
    if not records:
        return [], all_broken(unit, wrong), left_out
    numbers = [record.episode_index for record in records]
    problems += map(str, [*wrong, *unlisted(unit, numbers, STATS_FILE, len(wrong))])
    walks: list[CheckedWalk] = []
    for record in records:
        try:
            walks.append(CheckedWalk.of(read_walk(record), rules.frames))
        except ValueError as error:
            problems.append(str(error))
    sound, contradicted = sound_walks(unit, walks)
    problems += contradicted
    rows = []
    for checked in sound:
        if length := rules.failures.used_frames(checked.walk):
            rows.append(_row(checked.walk, length, checked.frames))
        else:
            left_out[checked.walk.fail_reason or checked.walk.finish_status] += 1
    return rows, problems, left_out


def _row(walk: WholeWalk, length: int, frames: RecordedFrames) -> tuple:
    return (
        frames.unit,
        walk.episode_index,
        walk.length,
        length,
        walk.instructions,
        walk.instruction_tokens,
        walk.finish_status,
        walk.fail_reason,
        walk.columns[ACTION][:length],
        walk.columns[PREVIOUS_ACTION][:length],
        walk.columns.get(EXPERT_ACTIONS, walk.actions[:0])[:length].ravel(),
        walk.columns.get(EXPERT_STEPS, walk.actions[:0])[:length],
        walk.columns[PROGRESS][:length],
        walk.poses[:length].ravel(),
        _frames_key(frames),
    )


def _frames_key(frames: RecordedFrames) -> str:
    """Of the files that hold the frames, and of how they are read."""
    files = frames_key([path for kind in KINDS for path in frames.files(kind)], frames.root)
    reading = f"{files} {frames.depth_unit_m} {frames.is_splat}"
    return hashlib.blake2b(reading.encode(), digest_size=16).hexdigest()


def fingerprint(data_root: Path, units: Sequence[Path], rules: ReadingRules) -> str:
    """Names, sizes and times of all files; of images, too, for features are kept of them."""
    version = json.dumps([INDEX_VERSION, asdict(rules)])
    digest = hashlib.blake2b(version.encode(), digest_size=8)
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        for stamps in pool.map(_unit_stamps, units):
            digest.update(stamps)
    digest.update(str([str(unit.relative_to(data_root)) for unit in units]).encode())
    return digest.hexdigest()


def _unit_stamps(unit: Path) -> bytes:
    files = (TASKS_FILE, STATS_FILE, EPISODES_FILE)
    lines = [stamp(unit.name, unit / file) for file in files]
    for chunk in sorted(unit.glob("data/chunk-*")):
        lines += folder_stamps(chunk)
    for folder in sorted(unit.glob("videos/chunk-*/observation.images.*")):
        lines += [folder.parent.name, *folder_stamps(folder)]
    return "\n".join(lines).encode(errors="surrogateescape")


def _save(index: EpisodeIndex, folder: Path) -> None:
    write_table(index.episodes, folder / "episodes.arrow")
    info = {
        "num_episodes": index.num_episodes,
        "broken_episodes": index.broken_episodes,
        "left_out": index.left_out,
    }
    (folder / "info.json").write_text(json.dumps(info, indent=1), encoding="utf-8")


def _load(folder: Path) -> EpisodeIndex:
    info = json.loads((folder / "info.json").read_text(encoding="utf-8"))
    episodes = open_table(folder / "episodes.arrow")
    return EpisodeIndex(
        episodes, info["num_episodes"], tuple(info["broken_episodes"]), info["left_out"]
    )
