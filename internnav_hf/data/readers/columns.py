"""Columns of third-party parquet files as arrays: any list and number type that holds the requested
values exactly.

LeRobot and `datasets` write `Array2D` and other extension types, arrow its tensors; which of them a
process sees as such depends on what it has imported.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from internnav_hf.data.readers.errors import broken, shown
from internnav_hf.data.readers.folders import state_of, unreadable
from internnav_hf.files import raise_trouble

ORDER_COLUMNS = ("frame_index", "timestamp")  # of LeRobot; they grow from row to row
LONGEST_EPISODE = 1_000_000  # rows
LARGEST_COLUMN = 100_000_000  # numbers; a point cloud of a scene may be one


@dataclass(frozen=True)
class Column:
    """A column of an episode's parquet; `S` in a name is a camera setting such as 125cm_30deg."""

    shape: tuple[int, ...]
    dtype: type
    meaning: str


def open_parquet(path: Path) -> pq.ParquetFile:
    """Open a parquet file: its metadata, no column."""
    if not path.is_file():
        raise broken(path, "file", state_of(path), "a readable parquet file")
    try:
        return pq.ParquetFile(path)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise_trouble(error, path)
        raise unreadable(path, error, "a readable parquet file") from error


def column_names(path: Path) -> list[str]:
    """Column names in the file's order."""
    return open_parquet(path).schema_arrow.names


def read_columns(path: Path, names: Sequence[str], optional: Sequence[str] = ()) -> pa.Table:
    """Read only these columns of a parquet file, and those of `optional` that exist."""
    file = open_parquet(path)
    found = file.schema_arrow.names
    missing = [name for name in names if name not in found]
    if missing:
        raise broken(path, "columns", sorted(found), " and ".join(missing))
    names = list(dict.fromkeys([*names, *(name for name in optional if name in found)]))
    twice = [name for name in names if found.count(name) > 1]
    if twice:
        raise broken(path, "columns", f"{found.count(twice[0])} of name {twice[0]}", "one of each")
    _check_size(path, file.metadata, names)
    try:
        # `read` takes columns whose names begin alike, too.
        return file.read(columns=names, use_threads=False).select(names)
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise_trouble(error, path)
        raise broken(path, "file", f"unreadable pages ({error})", "a whole file") from error


def read_arrays(
    path: Path, kinds: Mapping[str, Column], optional: Sequence[str] = ()
) -> dict[str, np.ndarray]:
    """Read columns as (T, *shape) arrays; those of `optional` may lack. Rows must be in order of
    time, if the file has a column of `ORDER_COLUMNS`.
    """
    needed = [name for name in kinds if name not in optional]
    table = read_columns(path, needed, (*optional, *ORDER_COLUMNS))
    check_row_order(table, path)
    there = {name: kind for name, kind in kinds.items() if name in table.column_names}
    return {name: to_numpy(table[name], kind, path, name) for name, kind in there.items()}


def check_row_order(table: pa.Table, path: Path) -> None:
    """Check that rows are in order of time, by those of `ORDER_COLUMNS` that hold numbers."""
    for name in ORDER_COLUMNS:
        if name not in table.column_names:
            continue
        values = plain(table[name])
        if not _is_number(values.type):
            continue
        numbers = values.to_numpy(zero_copy_only=False)
        falls = np.flatnonzero(numbers[1:] < numbers[:-1])
        if len(falls):
            row = int(falls[0]) + 1
            found = f"{numbers[row]} at row {row}, after {numbers[row - 1]}"
            raise broken(path, name, found, "rows in the order of their frames")


def _check_size(path: Path, metadata: pq.FileMetaData, names: Sequence[str]) -> None:
    """Refuse columns too large to unpack: a few bytes may unpack to more than fits in memory."""
    if metadata.num_rows > LONGEST_EPISODE:
        found = f"{metadata.num_rows} rows"
        raise broken(path, "length", found, f"at most {LONGEST_EPISODE} in one episode")
    starts = tuple(names)
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        for column in map(group.column, range(metadata.num_columns)):
            if column.num_values > LARGEST_COLUMN and column.path_in_schema.startswith(starts):
                found = f"{column.num_values} numbers"
                raise broken(path, column.path_in_schema, found, f"at most {LARGEST_COLUMN}")


def to_numpy(column: pa.ChunkedArray, kind: Column, path: Path | str, name: str) -> np.ndarray:
    """Return a column of numbers, or of nested lists of numbers, as (T, *kind.shape) array."""
    expected = f"{np.dtype(kind.dtype).name} of shape {kind.shape} a row"
    if not len(column):
        return np.empty((0, *kind.shape), kind.dtype)
    try:
        values, lengths = flattened(column)
    except ValueError as error:
        raise broken(path, name, error, expected) from error
    if not _is_number(values.type) or lengths not in (kind.shape, _flat(kind.shape)):
        raise broken(path, name, f"{column.type} of shape {lengths} a row", expected)
    if values.null_count:
        raise broken(path, name, f"{values.null_count} empty values", expected)
    numbers = values.to_numpy(zero_copy_only=False)
    return _converted(numbers, kind, path, name).reshape(len(column), *kind.shape)


def flattened(column: pa.ChunkedArray) -> tuple[pa.Array, tuple[int, ...]]:
    """Return all values of a column, concatenated, and the shape of a row; ValueError if rows have
    no value or different lengths.
    """
    values, lengths = plain(column.combine_chunks()), []
    while _is_list(values.type):
        sizes = pc.unique(pc.list_value_length(values)).to_pylist()
        if len(sizes) > 1 or values.null_count:
            raise ValueError(f"rows of different lengths {shown(sorted(filter(None, sizes)))}")
        lengths += sizes
        values = plain(values.flatten())
    return values, tuple(lengths)


def plain(values: Any) -> pa.Array:
    """Remove extension types and encodings."""
    if isinstance(values, pa.ChunkedArray):
        values = pa.concat_arrays(values.chunks) if values.num_chunks else pa.array([], values.type)
    while True:
        kind = values.type
        if isinstance(kind, pa.FixedShapeTensorType) and _is_permuted(kind):
            raise ValueError(f"a tensor whose axes are stored as {kind.permutation}")
        if isinstance(kind, pa.BaseExtensionType):
            values = values.storage
        elif pa.types.is_dictionary(kind):
            values = values.dictionary_decode()
        elif pa.types.is_run_end_encoded(kind):
            values = pc.run_end_decode(values)
        elif pa.types.is_decimal(kind):
            values = pc.cast(values, pa.float64())
        else:
            return values


def _is_permuted(kind: pa.FixedShapeTensorType) -> bool:
    return kind.permutation is not None and list(kind.permutation) != sorted(kind.permutation)


def _is_list(kind: pa.DataType) -> bool:
    tests = ("is_list", "is_large_list", "is_fixed_size_list", "is_list_view", "is_large_list_view")
    return any(getattr(pa.types, test)(kind) for test in tests)


def _converted(numbers: np.ndarray, kind: Column, path: Path | str, name: str) -> np.ndarray:
    """Cast to the requested type if it holds every value."""
    if not np.issubdtype(kind.dtype, np.integer):
        with np.errstate(over="ignore"):  # overflow becomes infinite, and is found
            return numbers.astype(kind.dtype, copy=False)
    limits = np.iinfo(kind.dtype)
    if numbers.dtype.kind == "f":
        fits = (numbers == np.floor(numbers)) & (np.abs(numbers) <= 2.0**53)
    else:
        fits = np.ones(numbers.shape, bool)
    fits &= (numbers >= limits.min) & (numbers <= limits.max)
    if not fits.all():
        row = int(np.flatnonzero(~fits)[0])
        found = f"{numbers[row]} at row {row // max(1, int(np.prod(kind.shape)))}"
        raise broken(path, name, found, f"whole numbers of {np.dtype(kind.dtype).name}")
    return numbers.astype(kind.dtype, copy=False)


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def _flat(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (int(np.prod(shape)),) if shape else ()


def archive_hint(folder: Path) -> str:
    """Return a hint for an error message if the download was not unpacked."""
    archives = sorted(path.name for path in folder.glob("*.tar*"))
    if not archives:
        return ""
    return f" There are {len(archives)} archives such as {archives[0]}: unpack them first."
