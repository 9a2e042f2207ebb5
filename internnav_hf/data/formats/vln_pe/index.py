"""Rows of `vln_pe` episodes.

Reads each parquet file and the head of each array. Some episodes that failed are left out, by the
published rules.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from internnav_hf.camera import CameraSpec
from internnav_hf.data.checks.cameras import recorded_values
from internnav_hf.data.episode import INFO_FILE, frame_pattern
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
from internnav_hf.data.index import LeftOut, Reading, Source, episode_schema
from internnav_hf.data.readers.folders import unlisted
from internnav_hf.data.rows import ARRAY_SUFFIX, camera_columns
from internnav_hf.data.tables import data_stamps, described, folder_stamps

EPISODE_SCHEMA = episode_schema(
    "unit",
    "episode_index",
    described("num_recorded", pa.int32(), "frames on disk; the other columns have the used ones"),
    "length",
    "instructions",
    described("instruction_tokens", pa.list_(pa.list_(pa.int32())), "stored word ids, if any"),
    described("finish_status", pa.string(), "how the walk ended: success or another word"),
    described("fail_reason", pa.string(), "fall, stuck, ... or nothing"),
    "actions",
    described("previous_actions", pa.list_(pa.int8()), "what led to each frame"),
    described("plans", pa.list_(pa.int8()), "the expert's next 8 from each, if stored"),
    described("steps_left", pa.list_(pa.int32()), "that it needs from each, if stored"),
    described("progress", pa.list_(pa.float64()), "share of the way, at each frame"),
    "poses",
    described("frames_key", pa.string(), "changes when the frames on disk do"),
    uncounted="width height rgb_file depth_file depth_scale is_bgr focal center height_m pitch",
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
        """Return the number of frames to use from the first; 0 leaves the episode out."""
        ends = (walk.record.finish_status, walk.record.fail_reason)
        if ends[0] != SUCCESS and walk.length < self.shortest_failure:
            return 0
        is_stuck = STUCK in ends
        return max(walk.length - self.stuck_tail, 0) if is_stuck else walk.length


@dataclass(frozen=True)
class ReadingRules:
    """Rules for finding, reading and choosing episodes."""

    scans: tuple[str, ...] | None = None
    frames: FrameRules = field(default_factory=FrameRules)
    failures: FailureRules = field(default_factory=FailureRules)


def vln_pe(data_root: Path, rules: ReadingRules) -> Source:
    """Return all scans below `data_root`, or those of the rules."""
    return Source(
        *(data_root, "vln_pe", [7, asdict(rules)], EPISODE_SCHEMA),
        find_folders=lambda: find_units(data_root, rules.scans),
        read_folder=lambda unit: read_unit(unit, rules),
        stamps=unit_stamps,
    )


def read_unit(unit: Path, rules: ReadingRules) -> Iterator[Reading]:
    """Check every episode of a unit, and all together; failed episodes may be left out."""
    records, wrong = read_records(unit)
    camera = recorded_values(unit)
    yield from (*wrong, *unlisted(unit, records, STATS_FILE, len(wrong)))
    walks: list[CheckedWalk] = []
    for record in records:
        try:
            walks.append(CheckedWalk.of(read_walk(record), rules.frames))
        except ValueError as error:
            yield error
    sound, contradicted = sound_walks(unit, walks)
    yield from map(ValueError, contradicted)
    for checked in sound:
        record = checked.walk.record
        if length := rules.failures.used_frames(checked.walk):
            yield _row(checked, length) | _camera_columns(camera, checked.size)
        else:
            yield LeftOut(record.fail_reason or record.finish_status)


def _row(checked: CheckedWalk, length: int) -> dict[str, Any]:
    walk, frames = checked.walk, checked.frames
    record, columns = walk.record, walk.columns
    none = columns[ACTION][:0]
    return {
        "unit": frames.unit,
        "episode_index": record.episode_index,
        "num_recorded": walk.length,
        "length": length,
        "instructions": record.instructions,
        "instruction_tokens": record.instruction_tokens,
        "finish_status": record.finish_status,
        "fail_reason": record.fail_reason,
        "actions": columns[ACTION][:length],
        "previous_actions": columns[PREVIOUS_ACTION][:length],
        "plans": columns.get(EXPERT_ACTIONS, none)[:length].ravel(),
        "steps_left": columns.get(EXPERT_STEPS, none)[:length],
        "progress": columns[PROGRESS][:length],
        "poses": walk.poses[:length].ravel(),
        "frames_key": _frames_key(frames),
        "width": checked.size[0],
        "height": checked.size[1],
        **{f"{kind}_file": _pattern(frames, kind, record.unit) for kind in KINDS},
        "depth_scale": frames.units_per_m,
        "is_bgr": frames.is_splat,
    }


def _pattern(frames: RecordedFrames, kind: str, unit: Path) -> str:
    """Return the array, or a pattern of the images with # for their number."""
    files = frames.files(kind)
    first = files[0].relative_to(unit)
    if first.suffix == ARRAY_SUFFIX:
        return str(first)
    return str(first.with_name(frame_pattern(frames.episode_index, kind, first.suffix)))


def _camera_columns(camera: dict[str, float], size: tuple[int, int]) -> dict[str, Any]:
    """Return the columns of the camera in `meta/info.json`; InternData-N1 has none."""
    told = {key: camera[key] for key in ("hfov_deg", "height_m", "pitch_deg") if key in camera}
    return camera_columns(CameraSpec(*size, **told)) if len(told) == 3 else {}


def _frames_key(frames: RecordedFrames) -> str:
    """Return a key of the files with the frames, and of how they are read."""
    files = frames_key([path for kind in KINDS for path in frames.files(kind)], frames.root)
    reading = f"{files} {frames.depth_unit_m} {frames.is_splat}"
    return hashlib.blake2b(reading.encode(), digest_size=16).hexdigest()


def unit_stamps(unit: Path) -> Iterator[str]:
    """Yield stamps of all files, images included, since their features are cached."""
    yield from data_stamps(unit, (TASKS_FILE, STATS_FILE, EPISODES_FILE, INFO_FILE))
    for folder in sorted(unit.glob("videos/chunk-*/observation.images.*")):
        yield folder.parent.name
        yield from folder_stamps(folder)
