"""Arrow tables in cache folders: built once, then memory-mapped by every process."""

import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
from filelock import FileLock
from huggingface_hub.constants import HF_HOME

logger = logging.getLogger(__name__)

NUM_THREADS = min(16, os.cpu_count() or 1)
DEFAULT_CACHE = Path(HF_HOME) / "internnav_hf" / "index"


def described(name: str, kind: pa.DataType, meaning: str) -> pa.Field:
    """A column with its meaning, which docs/DATA.md prints."""
    return pa.field(name, kind, metadata={"meaning": meaning})


def table_of(rows: Sequence[tuple], schema: pa.Schema) -> pa.Table:
    """Rows in the order of the schema's columns."""
    columns = zip(*rows, strict=True) if rows else [[] for _ in schema]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def write_table(table: pa.Table, path: Path) -> None:
    """One record batch, so that a row is found without search."""
    with pa.OSFile(str(path), "wb") as sink:
        whole = table.combine_chunks()
        with pa.ipc.new_file(sink, whole.schema) as writer:
            writer.write_table(whole)


def open_table(path: Path) -> pa.Table:
    """Memory-mapped: rows cost nothing until they are read, and all processes share them."""
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def row_of(table: pa.Table, row: int) -> dict:
    """One row as Python values, by column."""
    return table.slice(row, 1).to_pylist()[0]


def build_once(folder: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a folder, unless it exists; a half-written one is never found.

    One process builds while the others wait; the folder appears under its name when it is whole.
    """
    if folder.is_dir():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if folder.is_dir():
            return
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
        try:
            write(temporary)
            temporary.rename(folder)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def stamp(label: str, path: Path) -> str:
    """Name, size and time of change, for a fingerprint."""
    if not path.exists():
        return f"{label} none"
    stat = path.stat()
    return f"{label}/{path.name} {stat.st_size} {stat.st_mtime_ns}"


def folder_stamps(folder: Path) -> list[str]:
    """A line for each file of a folder."""
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    return [f"{folder.name}/{entry.name} {_stamp(entry)}" for entry in found]


def _stamp(entry: os.DirEntry) -> str:
    try:
        stat = entry.stat()
    except OSError:  # a link that leads nowhere
        return "none"
    return f"{stat.st_size} {stat.st_mtime_ns}"


def refuse_too_many_broken(
    what: str, problems: Sequence[str], num_episodes: int, max_broken_fraction: float
) -> None:
    """One ValueError with the first problems where more than the allowed share is broken."""
    if len(problems) <= max_broken_fraction * num_episodes:
        return
    shown = "\n  ".join(problems[:5])
    more = f"\n  and {len(problems) - 5} more" if problems[5:] else ""
    raise ValueError(
        f"{what}: {len(problems)} of {num_episodes} episodes are broken, more than"
        f" max_broken_fraction={max_broken_fraction:g} allows:\n  {shown}{more}"
    )


def report_broken(
    what: str,
    problems: Sequence[str],
    num_episodes: int,
    max_broken_fraction: float,
    folder: Path,
) -> None:
    """A warning for each broken episode, also when the index comes from the cache."""
    refuse_too_many_broken(what, problems, num_episodes, max_broken_fraction)
    for problem in problems:
        logger.warning("%s: episode left out: %s", what, problem)
    if problems:
        logger.warning(
            "%s: %d of %d episodes are broken and left out (images repaired in place are noticed"
            " when %s is removed)",
            what,
            len(problems),
            num_episodes,
            folder,
        )
