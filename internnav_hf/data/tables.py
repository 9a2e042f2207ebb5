"""Arrow tables in cache folders: built once, then memory-mapped by every process."""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from filelock import FileLock

from internnav_hf.files import atomic_folder, remove_stale, writing

_OF_THIS_DISK = ("frames_key", "field")  # from stamps and cache folders


def described(name: str, kind: pa.DataType, meaning: str, counted: bool = True) -> pa.Field:
    """Return a column with its meaning, which docs/DATA.md prints. `content_digest` omits a column
    that is not `counted`: it repeats what the data's files say, and came after runs had begun.
    """
    told = {"meaning": meaning} | ({} if counted else {"counted": "no"})
    return pa.field(name, kind, metadata=told)


def table_of(rows: Sequence[tuple], schema: pa.Schema) -> pa.Table:
    """Rows in the order of the schema's columns."""
    columns = zip(*rows, strict=True) if rows else [[] for _ in schema]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def write_table(table: pa.Table, path: Path) -> None:
    """Write one record batch, so that a row is found without search."""
    with pa.OSFile(str(path), "wb") as sink:
        whole = table.combine_chunks()
        with pa.ipc.new_file(sink, whole.schema) as writer:
            writer.write_table(whole)


def open_table(path: Path) -> pa.Table:
    """Map a table into memory: rows cost nothing until read, and all processes share them."""
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def row_of(table: pa.Table, row: int) -> dict:
    """Return one row as Python values, by column."""
    return table.slice(row, 1).to_pylist()[0]


def array_of(table: pa.Table, row: int, name: str, *shape: int) -> np.ndarray:
    """Return (T, *shape) of one row of a column of lists of numbers, without Python objects."""
    return table[name][row].values.to_numpy().reshape(-1, *shape)


def build_once(folder: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a folder, unless it exists; a half-written one is never found.

    One process builds while the others wait; the folder appears under its name when it is whole.
    """
    if folder.is_dir():
        return
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        # other users with write access may also wait here
        with FileLock(f"{folder}.lock", mode=0o666):
            remove_stale(folder.parent)
            if folder.is_dir():
                return
            with atomic_folder(folder) as new:
                write(new)


def content_digest(tables: Iterable[pa.Table]) -> str:
    """Digest of the content of tables, the same for a copy of the data on another disk."""
    digest = hashlib.blake2b(digest_size=8)
    for table in tables:
        for field in table.schema:
            if field.name not in _OF_THIS_DISK and b"counted" not in (field.metadata or {}):
                digest.update(field.name.encode())
                _add_column(digest, table[field.name].combine_chunks())
    return digest.hexdigest()


def _add_column(digest, column: pa.Array) -> None:
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks)
    if pa.types.is_list(column.type):
        _add_column(digest, pc.list_value_length(column))
        _add_column(digest, pc.list_flatten(column))
    elif pa.types.is_primitive(column.type):
        digest.update(np.ascontiguousarray(column.to_numpy(zero_copy_only=False)).tobytes())
    else:
        digest.update(repr(column.to_pylist()).encode())


def stamp(label: str, path: Path) -> str:
    """Return name, size and modification time, for a fingerprint."""
    found = _stamp(path)
    return f"{label} none" if found is None else f"{label}/{path.name} {found}"


def folder_stamps(folder: Path) -> list[str]:
    """Return a line for each file of a folder."""
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    return [f"{folder.name}/{entry.name} {_stamp(entry) or 'none'}" for entry in found]


def data_stamps(folder: Path, meta_files: Iterable[str]) -> Iterator[str]:
    """Yield a line for each of some meta files and for each parquet file of a scene."""
    for file in meta_files:
        yield stamp(folder.name, folder / file)
    for chunk in sorted(folder.glob("data/chunk-*")):
        yield from folder_stamps(chunk)


def _stamp(entry: os.DirEntry | Path) -> str | None:
    try:
        stat = entry.stat()
    except OSError:  # no file, or a dead link
        return None
    return f"{stat.st_size} {stat.st_mtime_ns}"
