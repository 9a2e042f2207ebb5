"""Reader of InternData-N1's `vln_ce` folders, a dialect of LeRobot v2.1.

One dataset per scene; one parquet per episode; images as single files; several instructions in one
string:

    <scene>/meta/episodes.jsonl                     {"episode_index", "tasks": [str], "length"}
    <scene>/data/chunk-000/episode_000000.parquet   one row per frame, columns as in `COLUMNS`
    <scene>/videos/chunk-000/observation.images.rgb.125cm_30deg/episode_000000_0.jpg   frame 0

Differs from LeRobot: no video files, no `stats`, and `action` is the one that led to a frame.
"""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .episode import Episode, broken, parquet_path

EPISODES_FILE = "meta/episodes.jsonl"
INSTRUCTION_SEPARATOR = "<INSTRUCTION_SEP>"
NEVER_SCENES = {"data", "meta", "videos", "images"}  # folders inside a scene


@dataclass(frozen=True)
class Column:
    """A column of an episode's parquet; `S` in a name is a camera setting such as 125cm_30deg."""

    shape: tuple[int, ...]
    dtype: type
    meaning: str


COLUMNS = {
    "action": Column(
        (),
        np.int32,
        "the action that led to this frame: -1 start, 1 forward 0.25 m, 2 left 15°, 3 right 15°",
    ),
    "pose.S": Column(
        (4, 4),
        np.float32,
        "camera to world, metres; columns are the camera's x right, y down, z forward, position;"
        " the world's z points up",
    ),
    "goal.S": Column((2,), np.int32, "waypoint [u, v] in pixels of the S image, [-1, -1] for none"),
    "relative_goal_frame_id.S": Column(
        (), np.int32, "how many frames ahead the camera reaches the waypoint; -1 for none"
    ),
}
SETTING_COLUMNS = tuple(name for name in COLUMNS if name.endswith(".S"))


@dataclass(frozen=True)
class EpisodeRecord:
    """One line of `meta/episodes.jsonl`."""

    root: Path
    episode_index: int
    instructions: tuple[str, ...]
    length: int


def read_lerobot(
    root: str | Path, settings: Sequence[str] | None = None, extra_columns: Sequence[str] = ()
) -> Iterator[Episode]:
    """Episodes of a scene folder, or of every scene below a folder, in sorted order.

    `settings` such as ["125cm_30deg"] limits the pose and goal columns to read (all by default);
    `extra_columns` are read besides, as they are. The first broken episode raises;
    `scripts/check_dataset.py` lists all of them.
    """
    for scene in find_scenes(root):
        for line in episode_lines(scene):
            record = parse_record(scene, *line)
            found = settings if settings is not None else settings_of(record)
            yield read_episode(record, found, extra_columns)


def find_scenes(root: str | Path) -> list[Path]:
    """Scene folders at or below `root`, sorted by path. Links are followed, hidden folders are
    not.
    """
    root = Path(root)
    if not root.is_dir():
        raise ValueError(f"{root}: no such folder. It should be a scene or a folder with scenes.")
    scenes = list(_walk_scenes(root))
    if not scenes:
        raise ValueError(
            f"{root}: no scene found: no folder below holds {EPISODES_FILE}.{archive_hint(root)}"
        )
    return scenes


def archive_hint(folder: Path) -> str:
    """Ends an error message where the download was not unpacked."""
    archives = sorted(path.name for path in folder.glob("*.tar*"))
    if not archives:
        return ""
    return f" There are {len(archives)} archives such as {archives[0]}: unpack them first."


def subfolders(folder: Path) -> list[Path]:
    """Sorted; hidden ones left out."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.is_dir() and entry.name[0] != "."]
    return [folder / name for name in sorted(names)]


def _walk_scenes(folder: Path) -> Iterator[Path]:
    if (folder / EPISODES_FILE).is_file():
        yield folder
        return
    for child in subfolders(folder):
        if child.name not in NEVER_SCENES:
            yield from _walk_scenes(child)


def episode_lines(scene: Path) -> list[tuple[int, str]]:
    """(line number, text) of the lines of `meta/episodes.jsonl` that are not blank."""
    path = scene / EPISODES_FILE
    if not path.is_file():
        raise ValueError(f"{scene}: empty scene folder: {EPISODES_FILE} is missing")
    lines = path.read_text(encoding="utf-8").split("\n")
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not numbered:
        raise ValueError(f"{scene}: empty scene folder: {EPISODES_FILE} lists no episode")
    return numbered


def parse_record(scene: Path, line_number: int, line: str) -> EpisodeRecord:
    """Check one line of `meta/episodes.jsonl`."""
    where = f"{scene / EPISODES_FILE}:{line_number}"
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise broken(where, "line", f"{line[:40]!r} ({error.msg})", "a JSON object") from error
    if not isinstance(record, dict):
        raise broken(where, "line", f"{line[:40]!r}", "a JSON object")
    for field in ("episode_index", "length"):
        value = record.get(field)
        if type(value) is not int or value < 0:
            raise broken(where, field, repr(value), "an integer >= 0")
    instructions = split_instructions(record.get("tasks"), where)
    return EpisodeRecord(scene, record["episode_index"], instructions, record["length"])


def split_instructions(tasks: object, where: str = "tasks") -> tuple[str, ...]:
    """All instructions, verbatim (R2R's end in a blank, and checkpoints were trained with it)."""
    if not isinstance(tasks, list) or not tasks or not all(isinstance(t, str) for t in tasks):
        raise broken(where, "tasks", repr(tasks), "a list of strings")
    instructions = tuple(part for task in tasks for part in task.split(INSTRUCTION_SEPARATOR))
    if not all(instruction.strip() for instruction in instructions):
        raise broken(where, "tasks", repr(tasks), "no empty instruction")
    return instructions


def read_episode(
    record: EpisodeRecord, settings: Sequence[str], extra_columns: Sequence[str] = ()
) -> Episode:
    """Read the needed columns of one parquet file as arrays and compare its length with the
    record's.
    """
    path = parquet_path(record.root, record.episode_index)
    wanted = {"action": COLUMNS["action"]}
    for setting in settings:
        for name in SETTING_COLUMNS:
            wanted[name.replace(".S", f".{setting}")] = COLUMNS[name]
    table = read_columns(path, [*wanted, *extra_columns])
    if table.num_rows != record.length:
        expected = f"{record.length} as in {EPISODES_FILE}"
        raise broken(path, "length", f"{table.num_rows} rows", expected)
    columns = {name: to_numpy(table[name], kind, path, name) for name, kind in wanted.items()}
    columns |= {name: table[name].to_numpy() for name in extra_columns}
    return Episode(record.root, record.episode_index, record.instructions, columns)


def read_poses(path: Path, setting: str) -> np.ndarray:
    """(T, 4, 4) camera to world of one episode; no other column of the parquet file is read."""
    name = f"pose.{setting}"
    return to_numpy(read_columns(path, [name])[name], COLUMNS["pose.S"], path, name)


def settings_of(record: EpisodeRecord) -> list[str]:
    """Camera settings that have a pose column in the episode's parquet, sorted."""
    path = parquet_path(record.root, record.episode_index)
    names = _open_parquet(path).schema_arrow.names
    return sorted(name.removeprefix("pose.") for name in names if name.startswith("pose."))


def _open_parquet(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        found = "no file" if not path.exists() else f"{path.stat().st_size} bytes ({error})"
        raise broken(path, "file", found, "a readable parquet file") from error


def read_columns(path: Path, names: Sequence[str], optional: Sequence[str] = ()) -> pa.Table:
    """Only these columns of a parquet file, and of `optional` those that are there."""
    file = _open_parquet(path)
    found = file.schema_arrow.names
    missing = [name for name in names if name not in found]
    if missing:
        raise broken(path, "columns", sorted(found), " and ".join(missing))
    names = [*names, *(name for name in optional if name in found)]
    try:
        return file.read(columns=names, use_threads=False)
    except (OSError, pa.ArrowException) as error:
        raise broken(path, "file", f"unreadable pages ({error})", "a whole file") from error


def to_numpy(column: pa.ChunkedArray, kind: Column, path: Path | str, name: str) -> np.ndarray:
    """(T, *kind.shape) array of a column of numbers or of nested lists of numbers."""
    expected = f"{np.dtype(kind.dtype).name} of shape {kind.shape} a row"
    values = column.combine_chunks()
    lengths = []
    while pa.types.is_nested(values.type) and not pa.types.is_struct(values.type):
        sizes = np.unique(values.value_lengths().to_numpy(zero_copy_only=False))
        if len(sizes) > 1 or values.null_count:
            raise broken(path, name, f"rows of different lengths {sizes.tolist()}", expected)
        lengths += sizes.tolist()
        values = values.flatten()
    number = pa.types.is_integer if np.issubdtype(kind.dtype, np.integer) else _is_number
    if not number(values.type) or tuple(lengths) not in (kind.shape, _flat(kind.shape)):
        raise broken(path, name, f"{column.type} of shape {tuple(lengths)} a row", expected)
    if values.null_count:
        raise broken(path, name, f"{values.null_count} empty values", expected)
    array = values.to_numpy(zero_copy_only=False).astype(kind.dtype, copy=False)
    return array.reshape(len(column), *kind.shape)


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def _flat(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (int(np.prod(shape)),) if shape else ()
