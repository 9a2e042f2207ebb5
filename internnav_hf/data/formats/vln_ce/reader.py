"""Reader of InternData-N1's `vln_ce` folders, a dialect of LeRobot v2.1.

One dataset per scene; one parquet per episode; images as single files; several instructions in one
string:

    <scene>/meta/episodes.jsonl                     {"episode_index", "tasks": [str], "length"}
    <scene>/data/chunk-000/episode_000000.parquet   one row per frame, columns as in `COLUMNS`
    <scene>/videos/chunk-000/observation.images.rgb.125cm_30deg/episode_000000_0.jpg   frame 0

Differs from LeRobot: no video files, no `stats`, and `action` is the one that led to a frame.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from internnav_hf.data.episode import Episode, parquet_path
from internnav_hf.data.readers.columns import (
    Column,
    archive_hint,
    column_names,
    read_arrays,
    read_columns,
)
from internnav_hf.data.readers.errors import broken, shown
from internnav_hf.data.readers.folders import each_once, walk_folders
from internnav_hf.data.readers.json_files import LARGEST_NUMBER, check_text, episode_lines

EPISODES_FILE = "meta/episodes.jsonl"
INSTRUCTION_SEPARATOR = "<INSTRUCTION_SEP>"
MOST_INSTRUCTIONS = 10_000  # of an episode: it is sampled once for each


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
    """Yield episodes of a scene folder, or of every scene below a folder, in sorted order.

    `settings` such as ["125cm_30deg"] limits the pose and goal columns to read (all by default);
    `extra_columns` are also read, as they are. The first broken episode raises;
    `scripts/check_dataset.py` lists all of them.
    """
    for scene in find_scenes(root):
        records, wrong = read_records(scene)
        if wrong:
            raise wrong[0]
        for record in records:
            found = settings if settings is not None else settings_of(record)
            yield read_episode(record, found, extra_columns)


def find_scenes(root: str | Path) -> list[Path]:
    """Return scene folders at or below `root`, sorted by path. Links are followed, hidden folders
    are not; of two links to one folder the first counts.
    """
    root = Path(root)
    if not root.is_dir():
        raise ValueError(f"{root}: no such folder. It should be a scene or a folder with scenes.")
    folders = walk_folders(root, lambda folder: _is_scene(folder) or _is_inside_scene(folder))
    scenes = [scene for scene, other in each_once(filter(_is_scene, folders)) if other is None]
    if not scenes:
        raise ValueError(
            f"{root}: no scene found: no folder below holds {EPISODES_FILE}.{archive_hint(root)}"
        )
    return scenes


def _is_scene(folder: Path) -> bool:
    return (folder / EPISODES_FILE).is_file()


def _is_inside_scene(folder: Path) -> bool:
    """Detect a scene by its content: a folder of scenes may also be called `data`."""
    return next(folder.glob("chunk-*"), None) is not None


def read_records(scene: Path) -> tuple[list[EpisodeRecord], list[ValueError]]:
    """Return the episodes in `meta/episodes.jsonl`, and the error of each broken line."""
    if not (scene / EPISODES_FILE).is_file():
        raise ValueError(f"{scene}: empty scene folder: {EPISODES_FILE} is missing")
    return episode_lines(
        scene / EPISODES_FILE, lambda where, _, record: parse_record(scene, where, record)
    )


def parse_record(scene: Path, where: str, record: dict[str, Any]) -> EpisodeRecord:
    """Check one line of `meta/episodes.jsonl`."""
    for field in ("episode_index", "length"):
        value = record.get(field)
        if type(value) is not int or not 0 <= value <= LARGEST_NUMBER:
            raise broken(where, field, shown(value), "an integer >= 0")
    instructions = split_instructions(record.get("tasks"), where)
    return EpisodeRecord(scene, record["episode_index"], instructions, record["length"])


def split_instructions(tasks: object, where: str = "tasks") -> tuple[str, ...]:
    """All instructions, verbatim (R2R's end in a blank, and checkpoints were trained with it)."""
    if not isinstance(tasks, list) or not tasks or not all(isinstance(t, str) for t in tasks):
        raise broken(where, "tasks", shown(tasks), "a list of strings")
    instructions = tuple(part for task in tasks for part in task.split(INSTRUCTION_SEPARATOR))
    if len(instructions) > MOST_INSTRUCTIONS:
        found = f"{len(instructions)} instructions: {shown(tasks)}"
        raise broken(where, "tasks", found, f"at most {MOST_INSTRUCTIONS}")
    return tuple(check_text(where, "tasks", text, "no empty instruction") for text in instructions)


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
    columns = read_arrays(path, wanted)
    length = len(columns["action"])
    if length != record.length:
        expected = f"{record.length} as in {EPISODES_FILE}"
        raise broken(path, "length", f"{length} rows", expected)
    if extra_columns:
        extra = read_columns(path, extra_columns)
        columns |= {name: extra[name].to_numpy() for name in extra_columns}
    return Episode(record.root, record.episode_index, record.instructions, columns)


def settings_of(record: EpisodeRecord) -> list[str]:
    """Return camera settings with a pose column in the episode's parquet, sorted."""
    names = column_names(parquet_path(record.root, record.episode_index))
    return sorted(name.removeprefix("pose.") for name in names if name.startswith("pose."))
