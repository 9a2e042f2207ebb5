"""Writes recorded episodes as LeRobot datasets, v2.1 or v3.0, that `lerobot` and `datasets` open.

    v2.1   data/chunk-000/episode_000000.parquet     one file per episode
           meta/{info.json, episodes.jsonl, tasks.jsonl, episodes_stats.jsonl}
    v3.0   data/chunk-000/file-000.parquet           many episodes, a row group each
           meta/{info.json, stats.json, tasks.parquet}, meta/episodes/chunk-000/file-000.parquet

A dataset appears under its name when it is whole; an interrupted export continues. It takes two
passes over the episodes: the first decodes every image, so that a broken one is found before
anything is numbered, the second copies their bytes. `LeRobotDataset` of lerobot 0.3.3 opened the
first and that of 0.4.4 the second.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from internnav_hf.data.episode import EPISODES_PER_CHUNK, parquet_path
from internnav_hf.data.formats.lerobot.tables import (
    FRAMES_PER_SECOND,
    RGB,
    ExportEpisode,
    Statistics,
    features,
    image_statistics,
    number_episodes,
    number_statistics,
    pooled_statistics,
    tasks_of,
)
from internnav_hf.data.formats.streamvln import RecordedTrajectory
from internnav_hf.data.readers.images import open_image
from internnav_hf.data.tables import stamp

VERSIONS = ("v2.1", "v3.0")
DATA_FILE_MB = 100  # v3.0: no episode is added to a file that has more
VIDEO_FILE_MB = 200  # recorded only; not used here
_PLAN, _EXAMINED = "plan.txt", "examined"
_SHOWN = 5

Map = Callable[..., Iterable]
Files = Sequence[Sequence[ExportEpisode]]
"""The episodes of each data file."""


def export(
    folder: Path, walks: Sequence[RecordedTrajectory], version: str, num_threads: int = 1
) -> None:
    """Write one dataset of all `walks`. One ValueError names the images that cannot be read."""
    if version not in VERSIONS:
        raise ValueError(f"version: found {version!r}, expected one of {', '.join(VERSIONS)}.")
    if not walks:
        raise ValueError(f"{folder}: found no walk to write, expected one or more.")
    partial = _partial(folder, walks, version)
    tasks = list(dict.fromkeys(task for walk in walks for task in tasks_of(walk)))
    episodes = list(number_episodes(walks, {task: index for index, task in enumerate(tasks)}))
    size = open_image(walks[0].frames[0], None).size
    is_v21 = version == "v2.1"
    files = [[episode] for episode in episodes] if is_v21 else list(_files(episodes))

    def write(number: int) -> None:
        path = parquet_path(partial, number) if is_v21 else _data_file(partial, number)
        _write_parquet(path, [episode.table for episode in files[number]])

    with ThreadPoolExecutor(num_threads) as pool:
        stats = _examine(partial / _EXAMINED, episodes, size, pool.map)
        for _ in _shown(pool.map(write, range(len(files))), len(files), "writing"):
            pass
    write_meta = _write_meta_v21 if is_v21 else _write_meta_v30
    about = write_meta(partial / "meta", files, tasks, stats)
    _write_json(partial / "meta" / "info.json", _info(version, episodes, tasks, size) | about)
    shutil.rmtree(partial / _EXAMINED)
    (partial / _PLAN).unlink()
    os.replace(partial, folder)


def _partial(folder: Path, walks: Sequence[RecordedTrajectory], version: str) -> Path:
    """Return a hidden folder beside it, empty or with partial results for the same episodes."""
    plan = hashlib.sha256(version.encode())
    for walk in walks:
        plan.update(f"{walk.name} {walk.actions} {walk.instructions}".encode())
        plan.update("\n".join(stamp("", path) for path in walk.frames).encode())
    partial = folder.with_name(f".{folder.name}.partial")
    written = partial / _PLAN
    if not (written.is_file() and written.read_text() == plan.hexdigest()):
        shutil.rmtree(partial, ignore_errors=True)
        for name in ("meta", "data", _EXAMINED):
            (partial / name).mkdir(parents=True)
        written.write_text(plan.hexdigest())
    for part in [path for path in partial.rglob(".*") if path.is_file()]:
        part.unlink()  # a file that a killed run was writing
    return partial


def _examine(
    folder: Path, episodes: Sequence[ExportEpisode], size: tuple[int, int], parallel: Map
) -> list[Statistics]:
    """Return statistics of every episode; those of images are kept until the end."""

    def examine(episode: ExportEpisode) -> Statistics | ValueError:
        path = folder / f"{episode.episode_index}.json"
        if not path.exists():
            try:
                _write_json(path, image_statistics(episode.walk, size))
            except ValueError as error:
                return error
        return {RGB: json.loads(path.read_text()), **number_statistics(episode)}

    found = list(_shown(parallel(examine, episodes), len(episodes), "reading"))
    problems = [str(problem) for problem in found if isinstance(problem, ValueError)]
    if problems:
        raise ValueError(listed(f"{len(problems)} of {len(found)} walks cannot be read", problems))
    return found


def listed(what: str, problems: Sequence[str]) -> str:
    """Return the first of many problems as one message."""
    more = f"\n  and {len(problems) - _SHOWN} more" if problems[_SHOWN:] else ""
    return f"{what}:\n  " + "\n  ".join(problems[:_SHOWN]) + more


def _write_meta_v21(
    meta: Path, files: Files, tasks: Sequence[str], stats: Sequence[Statistics]
) -> dict[str, Any]:
    """Write the meta files but info.json; return further fields of it."""
    rows = [
        {"episode_index": episode.episode_index, "tasks": episode.tasks, "length": episode.length}
        for (episode,) in files
    ]
    numbered = [{"episode_index": index, "stats": values} for index, values in enumerate(stats)]
    _write_lines(meta / "episodes.jsonl", rows)
    _write_lines(meta / "episodes_stats.jsonl", numbered)
    named = [{"task_index": index, "task": task} for index, task in enumerate(tasks)]
    _write_lines(meta / "tasks.jsonl", named)
    return {
        "total_videos": 0,
        "total_chunks": (len(files) - 1) // EPISODES_PER_CHUNK + 1,
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
    }


def _write_meta_v30(
    meta: Path, files: Files, tasks: Sequence[str], stats: Sequence[Statistics]
) -> dict[str, Any]:
    rows = [
        _episode_row(episode, number, stats[episode.episode_index])
        for number, some in enumerate(files)
        for episode in some
    ]
    path = meta / "episodes" / "chunk-000" / "file-000.parquet"
    _write_parquet(path, [lambda: pa.Table.from_pylist(rows)])
    _write_parquet(meta / "tasks.parquet", [lambda: _task_table(tasks)])
    _write_json(meta / "stats.json", pooled_statistics(stats))
    return {
        "data_files_size_in_mb": DATA_FILE_MB,
        "video_files_size_in_mb": VIDEO_FILE_MB,
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
    }


def _files(episodes: Sequence[ExportEpisode]) -> Iterator[list[ExportEpisode]]:
    """Group episodes by their file."""
    some, used = [], 0
    for episode in episodes:
        if used > DATA_FILE_MB * 1e6:
            yield some
            some, used = [], 0
        some.append(episode)
        used += sum(path.stat().st_size for path in episode.walk.frames)
    yield some


def _data_file(folder: Path, number: int) -> Path:
    chunk, file = divmod(number, EPISODES_PER_CHUNK)
    return folder / "data" / f"chunk-{chunk:03d}" / f"file-{file:03d}.parquet"


def _episode_row(episode: ExportEpisode, file: int, stats: Statistics) -> dict[str, Any]:
    data_chunk, data_file = divmod(file, EPISODES_PER_CHUNK)
    return {
        "episode_index": episode.episode_index,
        "tasks": episode.tasks,
        "length": episode.length,
        "data/chunk_index": data_chunk,
        "data/file_index": data_file,
        "dataset_from_index": episode.first_index,
        "dataset_to_index": episode.first_index + episode.length,
        "meta/episodes/chunk_index": 0,
        "meta/episodes/file_index": 0,
        **{
            f"stats/{feature}/{name}": value
            for feature, numbers in stats.items()
            for name, value in numbers.items()
        },
    }


def _task_table(tasks: Sequence[str]) -> pa.Table:
    """Write tasks as the table's pandas index, in which LeRobot looks them up."""
    table = pa.table({"task_index": pa.array(range(len(tasks))), "task": pa.array(tasks)})
    kinds = {"task_index": ("int64", "int64"), "task": ("unicode", "object")}
    columns = [
        {
            "name": name,
            "field_name": name,
            "pandas_type": kind,
            "numpy_type": store,
            "metadata": None,
        }
        for name, (kind, store) in kinds.items()
    ]
    about = {"index_columns": ["task"], "column_indexes": [], "columns": columns}
    return table.replace_schema_metadata({"pandas": json.dumps(about)})


def _info(
    version: str, episodes: Sequence[ExportEpisode], tasks: Sequence[str], size: tuple[int, int]
) -> dict[str, Any]:
    return {
        "codebase_version": version,
        "robot_type": "unknown",
        "total_episodes": len(episodes),
        "total_frames": sum(episode.length for episode in episodes),
        "total_tasks": len(tasks),
        "chunks_size": EPISODES_PER_CHUNK,
        "fps": FRAMES_PER_SECOND,
        "splits": {"train": f"0:{len(episodes)}"},
        "video_path": None,
        "features": features(size),
    }


def _shown(results: Iterable, total: int, what: str) -> Iterable:
    """Iterate, with a progress bar if it is worth one."""
    return tqdm(results, total=total, desc=what, unit="file", disable=total < 2, leave=False)


def _write_parquet(path: Path, tables: Sequence[Callable[[], pa.Table]]) -> None:
    """Write a row group per table, each made in its turn; an existing file is kept."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}-{uuid4().hex}")
    first = tables[0]()
    with pq.ParquetWriter(part, first.schema) as writer:
        writer.write_table(first)
        for table in tables[1:]:
            writer.write_table(table())
    os.replace(part, path)


def _write_json(path: Path, values: dict[str, Any]) -> None:
    part = path.with_name(f".{path.name}-{uuid4().hex}")
    part.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(part, path)


def _write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(lines, encoding="utf-8")
