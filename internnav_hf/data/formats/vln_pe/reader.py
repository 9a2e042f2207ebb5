"""Reader of InternData-N1's `vln_pe` folders, whole walks of simulated robots, with instructions.

    <root>/<scan>/<scene>/data/chunk-000/episode_000000.parquet    one row per frame, see `COLUMNS`
    <root>/<scan>/<scene>/meta/tasks.jsonl             the instructions, and how each walk ended
    <root>/<scan>/<scene>/meta/episodes_stats.jsonl    which instructions belong to which episode
    <root>/<scan>/<scene>/videos/chunk-000/observation.images.rgb/episode_000000.npy
    <root>/<scan>/<scene>/videos/chunk-000/observation.images.depth/episode_000000.npy

That is v0.5, a scan being `r2r`, `r2r_flash`, ... In v0.1 a folder per trajectory stands in the
place of the scene, with one episode, whose instructions are lines of `meta/episodes.jsonl` and
whose arrays are `rgb.npy` and `depth.npy`. `rgb` is uint8 (T, rows, columns, 3), `depth` a float
(T, rows, columns) from 0 to 1: metres / 10. Where there are no arrays, a frame may be a file:
`episode_000000_7.jpg` (or .png), depth a 16-bit PNG of millimetres.

The action in a row is the one taken AT its frame (0 is the last where the robot stopped), unlike in
`vln_ce`.

Differs from the published loader: an instruction is found by its `task_index`, wherever its line
stands; an episode may have any number of them; names may hold any characters; `meta/info.json`,
which is that of another part, is not read for what a walk is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from internnav_hf.data.checks.poses import check_finite
from internnav_hf.data.episode import parquet_path
from internnav_hf.data.readers.columns import Column, archive_hint, read_arrays, read_columns
from internnav_hf.data.readers.errors import broken, shown
from internnav_hf.data.readers.folders import (
    named_folders,
    open_file,
    parquet_files,
    subfolders,
    units_of,
)
from internnav_hf.data.readers.json_files import (
    check_text,
    episode_lines,
    numbered_lines,
    parse_object,
    whole_number,
    word_ids,
)
from internnav_hf.geometry import Action, wrap_angle

HORIZON = 8

TASKS_FILE = "meta/tasks.jsonl"
STATS_FILE = "meta/episodes_stats.jsonl"
EPISODES_FILE = "meta/episodes.jsonl"
SUCCESS, STUCK = "success", "stuck"

ACTION = "observation.action"
PREVIOUS_ACTION = "observation.previous_action"
EXPERT_ACTIONS = "observation.expert_actions"
EXPERT_STEPS = "observation.expert_steps"
PROGRESS = "observation.progress"
POSITION = "observation.robot_position"
YAW = "observation.robot_yaw"
COLUMNS = {
    ACTION: Column(
        (),
        np.int64,
        "the expert's at this frame: 0 stop, 1 forward 0.25 m, 2 left 15°, 3 right 15°",
    ),
    PROGRESS: Column((), np.float64, "share of the way that is done; may be negative"),
    POSITION: Column((3,), np.float64, "of the robot in the world, metres, z up"),
    YAW: Column((), np.float64, "of the robot in the world, rad"),
    PREVIOUS_ACTION: Column(
        (),
        np.int64,
        "optional: what led to this frame, -1 for nothing, where that was not the expert's action",
    ),
    EXPERT_ACTIONS: Column(
        (HORIZON,),
        np.int64,
        "optional, with the one before: the expert's next actions from this frame; 0 goes on",
    ),
    EXPERT_STEPS: Column(
        (), np.int64, "optional, with both: how many actions it needs from here, its stop included"
    ),
}
OPTIONAL_COLUMNS = (PREVIOUS_ACTION, EXPERT_ACTIONS, EXPERT_STEPS)
OTHER_COLUMNS = (
    "observation.camera_position",
    "observation.camera_orientation",
    "observation.camera_yaw",
    "observation.robot_orientation",
    "observation.step",
)
_FIRST_LINES = 2**20  # bytes
LABELS = [int(action) for action in Action if action <= Action.TURN_RIGHT]


@dataclass(frozen=True)
class WalkRecord:
    """An episode in the meta files. `instruction_tokens` are the stored word ids, one tuple per
    instruction, or none at all.
    """

    unit: Path
    episode_index: int
    instructions: tuple[str, ...]
    instruction_tokens: tuple[tuple[int, ...], ...]
    finish_status: str
    fail_reason: str

    @property
    def path(self) -> Path:
        """Its parquet file."""
        return parquet_path(self.unit, self.episode_index)


@dataclass(frozen=True, eq=False)
class WholeWalk:
    """An episode with its `columns`: those of `COLUMNS`, `PREVIOUS_ACTION` always among them,
    `EXPERT_ACTIONS` and `EXPERT_STEPS` if they are stored.
    """

    record: WalkRecord
    columns: dict[str, np.ndarray]

    @property
    def length(self) -> int:
        """Number of frames."""
        return len(self.columns[ACTION])

    @property
    def poses(self) -> np.ndarray:
        """(T, 3) x, y, yaw of the robot in the world, the yaw in [-pi, pi)."""
        return np.column_stack([self.columns[POSITION][:, :2], wrap_angle(self.columns[YAW])])


def find_units(root: Path, scans: Sequence[str] | None = None) -> list[Path]:
    """Return the sorted unit folders, scenes (v0.5) or trajectories (v0.1), of `scans` or all."""
    found = []
    for scan in named_folders(root, scans, "scan (r2r, ...)"):
        units = units_of(scan, TASKS_FILE)
        if scans and not units:
            raise _no_episodes(scan, "<scene>", archive_hint(scan))
        found += units
    if not found:
        hints = [archive_hint(folder) for folder in (root, *subfolders(root))]
        inside = f" Pass the folder above it: {root.parent}." if units_of(root, TASKS_FILE) else ""
        raise _no_episodes(root, "<scan>/<scene>", inside or "".join(hints))
    return found


def _no_episodes(folder: Path, place: str, hint: str) -> ValueError:
    expected = f"{place}/data and {place}/{TASKS_FILE}"
    return ValueError(f"{folder}: found no episodes, expected {expected}.{hint}")


def is_vln_pe(unit: Path) -> bool:
    """Return whether a folder with episodes is of this format and not a similar one: its meta files
    have finish statuses, or a parquet file has our actions.
    """
    return tells_how_it_ended(unit) or any(map(_has_actions, parquet_files(unit)[:3]))


def tells_how_it_ended(unit: Path) -> bool:
    """Return whether the meta files of a folder have the status of our episodes."""
    files = (unit / TASKS_FILE, unit / EPISODES_FILE)
    return any(mentions(path, b'"finish_status"') for path in files)


def mentions(path: Path, word: bytes) -> bool:
    """Return whether the first lines of a file, if there is one, contain a word."""
    if not path.is_file():
        return False
    with open_file(path) as stream:
        return word in stream.read(_FIRST_LINES)


def _has_actions(path: Path) -> bool:
    try:
        read_columns(path, [ACTION])
    except ValueError:
        return False
    return True


def read_records(unit: Path) -> tuple[list[WalkRecord], list[ValueError]]:
    """Return the episodes in the meta files, and the errors of others."""
    if not ((unit / STATS_FILE).is_file() or (unit / TASKS_FILE).is_file()):
        return [_parse_trajectory(unit)], []
    tasks = _read_tasks(unit)
    return episode_lines(
        unit / STATS_FILE, lambda where, _, row: _parse_walk(unit, tasks, where, row)
    )


def _read_tasks(unit: Path) -> dict[int | None, dict[str, Any] | ValueError]:
    """Return lines of the file by `task_index`, each with its place under "where"; an unusable line
    is replaced by its error, under None if its number is unknown.
    """
    tasks: dict[int | None, dict[str, Any] | ValueError] = {}
    for where, line in numbered_lines(unit / TASKS_FILE):
        try:
            row = parse_object(where, line)
            index = _task_index(where, row)
        except ValueError as error:
            tasks.setdefault(None, error)
            continue
        known = tasks.setdefault(index, row | {"where": where})
        if isinstance(known, dict) and known | {"where": where} != row | {"where": where}:
            tasks[index] = broken(where, "task_index", f"{index} again", "each once")
    return tasks


def _task_index(where: str, row: dict[str, Any]) -> int:
    try:
        return whole_number(row.get("task_index"))
    except ValueError as error:
        found = shown(row.get("task_index"))
        raise broken(where, "task_index", found, "an integer, each once") from error


def _parse_walk(
    unit: Path,
    tasks: dict[int | None, dict[str, Any] | ValueError],
    where: str,
    row: dict[str, Any],
) -> WalkRecord:
    """Parse a line of the stats file; numbers may be in lists, and below a key "stats"."""
    try:
        index = whole_number(row["episode_index"])
        limits = row.get("stats", row)["task_index"]
        first, last = (whole_number(limits[key]) for key in ("min", "max"))
    except (ValueError, KeyError, TypeError) as error:
        expected = '{"episode_index": i, "task_index": {"min": a, "max": b}}'
        raise broken(where, "line", f"{shown(row)} ({error!r})", expected) from error
    is_range = 0 <= last - first < len(tasks) and index >= 0
    if not is_range or any(number not in tasks for number in range(first, last + 1)):
        unread = f" (where {tasks[None]})" if None in tasks else ""
        expected = f"task_index of lines in {TASKS_FILE}{unread}"
        raise broken(where, "task_index", f"{first} to {last}", expected)
    rows = []
    for number in range(first, last + 1):
        task = tasks[number]
        if isinstance(task, ValueError):
            raise task
        rows.append(task)
    return _record(unit, index, "task", rows)


def _parse_trajectory(unit: Path) -> WalkRecord:
    """Read v0.1: every line is an instruction of the one episode."""
    lines = numbered_lines(unit / EPISODES_FILE)
    rows = [parse_object(where, line) | {"where": where} for where, line in lines]
    return _record(unit, 0, "instruction_text", rows)


def _record(unit: Path, index: int, text_key: str, rows: list[dict[str, Any]]) -> WalkRecord:
    """Build a record. The last line holds the finish status; if absent, the episode succeeded."""
    for row in rows:
        check_text(row["where"], text_key, row.get(text_key))
    tokens = [tuple(np.trim_zeros(word_ids(row["where"], row), "b")) for row in rows]
    if not all(tokens) and any(tokens):
        found = f"lists in {sum(map(bool, tokens))} of {len(rows)} lines"
        raise broken(rows[0]["where"], "instruction_tokens", found, "all of them or none")
    ends = [(_word(row, "finish_status"), _word(row, "fail_reason")) for row in rows]
    return WalkRecord(
        unit,
        index,
        tuple(row[text_key] for row in rows),
        tuple(filter(None, tokens)),
        ends[-1][0] or SUCCESS,
        ends[-1][1],
    )


def _word(row: dict[str, Any], field: str) -> str:
    word = row.get(field) or ""
    if not isinstance(word, str | int | float):
        raise broken(row["where"], field, shown(word), "a word")
    return str(word)


def read_walk(record: WalkRecord) -> WholeWalk:
    """Read and check the columns of one episode."""
    path = record.path
    columns = read_arrays(path, COLUMNS, OPTIONAL_COLUMNS)
    if not len(columns[ACTION]):
        raise broken(path, "length", "0 rows", "at least one frame")
    for name in (PROGRESS, POSITION, YAW):
        check_finite(columns[name], path, name)
    columns.setdefault(PREVIOUS_ACTION, previous_actions(columns[ACTION]))
    _check_actions(columns[ACTION], LABELS, path, ACTION)
    _check_actions(columns[PREVIOUS_ACTION], [-1, *LABELS], path, PREVIOUS_ACTION)
    if EXPERT_ACTIONS in columns:
        _check_actions(columns[EXPERT_ACTIONS], LABELS, path, EXPERT_ACTIONS)
        few = columns.get(EXPERT_STEPS, np.zeros(1)) < 1
        if few.any():
            found = "none, or less than 1"
            raise broken(path, EXPERT_STEPS, found, "a positive number at each frame")
    return WholeWalk(record, columns)


def _check_actions(actions: np.ndarray, known: list[int], path: Path, name: str) -> None:
    unknown = np.argwhere(~np.isin(actions, known))
    if len(unknown):
        found = f"{actions[tuple(unknown[0])]} at frame {unknown[0, 0]}"
        raise broken(path, name, found, f"one of {known}")


def previous_actions(actions: np.ndarray) -> np.ndarray:
    """Return (T,) the action that led to each frame, as commanded; -1 at the first."""
    return np.concatenate([[-1], actions[:-1]]).astype(actions.dtype)
