"""Frames of each episode of a `vln_n1` folder: reading and checking the lines of
`meta/episodes_stats.jsonl`.

Frames of all episodes lie in one folder, numbered consecutively. A line that is off by one, or
counts from zero in every episode, gives an episode the images of another with its own poses.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from internnav_hf.data.episode import parquet_path
from internnav_hf.data.readers.columns import open_parquet
from internnav_hf.data.readers.errors import broken, shown
from internnav_hf.data.readers.folders import parquet_files
from internnav_hf.data.readers.json_files import episode_lines, whole_number

STATS_FILE = "meta/episodes_stats.jsonl"


@dataclass(frozen=True)
class FrameRange:
    """One line of `meta/episodes_stats.jsonl`: frames `first` to `last` of the folder."""

    unit: Path
    episode_index: int
    first: int
    last: int

    @property
    def path(self) -> Path:
        """Its parquet file."""
        return parquet_path(self.unit, self.episode_index)

    @property
    def length(self) -> int:
        """Number of frames."""
        return self.last - self.first + 1


def read_ranges(unit: Path) -> tuple[list[FrameRange], list[ValueError]]:
    """Return the episodes in `meta/episodes_stats.jsonl`, and the errors of broken lines."""
    return episode_lines(unit / STATS_FILE, partial(_parse_range, unit))


def _parse_range(unit: Path, where: str, number: int, record: dict[str, Any]) -> FrameRange:
    """Line i is episode i, unless it has an `episode_index`; min and max are numbers or lists."""
    try:
        index = record["stats"]["image_index"]
        first, last = (whole_number(index[key]) for key in ("min", "max"))
        episode_index = whole_number(record.get("episode_index", number))
    except (ValueError, KeyError, TypeError) as error:
        expected = '{"episode_index": i, "stats": {"image_index": {"min": [a], "max": [b]}}}'
        raise broken(where, "line", f"{shown(record)} ({error!r})", expected) from error
    if not 0 <= first <= last:
        raise broken(where, "image_index", f"{first} to {last}", "0 <= min <= max")
    if episode_index < 0:
        raise broken(where, "episode_index", episode_index, "a number >= 0")
    return FrameRange(unit, episode_index, first, last)


def misplaced(
    records: Sequence[FrameRange], frames: Sequence[int], is_suspect: bool
) -> dict[FrameRange, str]:
    """Return, by episode, why it has frames of others; `frames` are the existing numbers.

    If episodes overlap, or others of the folder are broken (`is_suspect`), rows are compared
    with frames: if there are as many, each episode begins where the rows of those before it end.
    If not, all that overlap are wrong.
    """
    shared = _overlapping(records)
    if not (shared or is_suspect):
        return {}
    begins = _begins(records, frames)
    wrong = {}
    for record in records:
        begin = begins.get(record.episode_index) if begins else None
        expected = "frames of no other episode" if begin is None else f"{begin} for the first"
        if (record.first != begin) if begins else (record in shared):
            where = f"{record.unit / STATS_FILE}: episode {record.episode_index}"
            found = f"frames {record.first} to {record.last}, of which others have some"
            wrong[record] = str(broken(where, "image_index", found, expected))
    return wrong


def _overlapping(records: Iterable[FrameRange]) -> set[FrameRange]:
    shared, farthest = set(), None
    for record in sorted(records, key=lambda record: (record.first, record.last)):
        if farthest is not None and record.first <= farthest.last:
            shared |= {record, farthest}
        if farthest is None or record.last > farthest.last:
            farthest = record
    return shared


def _begins(records: Sequence[FrameRange], frames: Sequence[int]) -> Mapping[int, int]:
    """Return the first frame by episode if frames and rows match one to one; else nothing."""
    rows = {record.episode_index: record.length for record in records}
    for path in parquet_files(records[0].unit) if records else ():
        number = path.stem.rpartition("_")[2]
        if number.isdecimal() and int(number) not in rows:
            try:
                rows[int(number)] = open_parquet(path).metadata.num_rows
            except ValueError:  # its number of rows is not known
                return {}
    if not frames or not len(frames) == sum(rows.values()) == max(frames) - min(frames) + 1:
        return {}
    begins, begin = {}, min(frames)
    for number in sorted(rows):
        begins[number] = begin
        begin += rows[number]
    return begins
