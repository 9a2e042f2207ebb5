"""Mutations of columns and images."""

import io
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from benchmarks.mutations.common import ACTION, Mutation, image_of, replace_file


def column_mutations(kind: str) -> Iterator[Mutation]:
    """The parquet file of episode 1."""
    for name in ("missing", "a folder", "a pipe", "a link in a circle", "a device", "empty"):
        file = "data/chunk-000/episode_000001.parquet"
        yield Mutation(kind, f"parquet: {name}", partial(replace_file, file, name))
    changes = {
        "two columns of one name": _twice,
        "action 2**32 + 1": partial(_cast_action, add=2**32),
        "action as text": partial(_cast_action, kind=pa.string()),
        "no action": lambda table, name: table.drop_columns([name]),
        "one row less": lambda table, name: table.slice(0, table.num_rows - 1),
        "no row": lambda table, name: table.slice(0, 0),
        "rows doubled": lambda table, name: pa.concat_tables([table, table]),
        "empty values": _empty_value,
        "a million rows more": _many_rows,
    }
    for name, change in changes.items():
        if kind != "vln_n1" or "action " not in name:
            yield Mutation(kind, f"parquet: {name}", partial(_edit_table, kind, change))
    harmless = {
        "columns as dictionaries": _dictionaries,
        "fixed and large lists": _other_lists,
        "unsigned and small numbers": _other_numbers,
        "columns more": lambda table, name: table.append_column(f"{name}.old", table[name]),
        "other order of columns": lambda table, name: table.select(table.column_names[::-1]),
    }
    for name, change in harmless.items():
        damage = partial(_edit_table, kind, change)
        yield Mutation(kind, f"parquet: {name}", damage, (), True)


def _edit_table(kind: str, change: Callable, scene: Path) -> None:
    path = scene / "data/chunk-000/episode_000001.parquet"
    pq.write_table(change(pq.read_table(path), ACTION[kind]), path)


def _twice(table: pa.Table, name: str) -> pa.Table:
    return table.append_column(name, table[name])


def _cast_action(table: pa.Table, name: str, add: int = 0, kind=None) -> pa.Table:
    values = pa.array(table[name].to_numpy().astype(np.int64) + add)
    return table.set_column(table.column_names.index(name), name, values.cast(kind or pa.int64()))


def _empty_value(table: pa.Table, name: str) -> pa.Table:
    values = [None, *table[name].to_pylist()[1:]]
    return table.set_column(table.column_names.index(name), name, pa.array(values))


def _many_rows(table: pa.Table, name: str) -> pa.Table:
    return pa.concat_tables([table, *[table.slice(0, 1)] * 1_000_001])


def _dictionaries(table: pa.Table, name: str) -> pa.Table:
    return _mapped(table, lambda v: v.dictionary_encode() if not pa.types.is_nested(v.type) else v)


def _other_lists(table: pa.Table, name: str) -> pa.Table:
    return _mapped(table, lambda v: v.cast(_other_list(v.type)))


def _other_list(kind: pa.DataType) -> pa.DataType:
    return pa.large_list(_other_list(kind.value_type)) if pa.types.is_nested(kind) else kind


def _other_numbers(table: pa.Table, name: str) -> pa.Table:
    wider = {pa.int32(): pa.int64(), pa.int64(): pa.int16(), pa.float32(): pa.float64()}

    def other(values):
        kind = wider.get(values.type)
        return values.cast(kind, safe=False) if kind and "index" not in str(values) else values

    return _mapped(table, other)


def _mapped(table: pa.Table, change: Callable) -> pa.Table:
    return pa.table({name: change(table[name]) for name in table.column_names})


def image_mutations(kind: str) -> Iterator[Mutation]:
    """Frame 3 of episode 1 (`vln_pe`: its array)."""
    for images in ("rgb", "depth"):
        for name in ("missing", "a folder", "a pipe", "a link in a circle", "a device", "empty"):
            yield Mutation(kind, f"{images}: {name}", partial(_damage_image, kind, images, name))
        for name, data in (_arrays() if kind == "vln_pe" else _pictures()).items():
            damage = partial(_write_image, kind, images, data)
            yield Mutation(kind, f"{images}: {name}", damage)
    for name in ("._{}", "{}~", ".DS_Store", "Thumbs.db", "desktop.ini"):
        yield Mutation(
            kind, f"{name.format('NAME')} beside images", partial(_foreign, name), (), True
        )


def _damage_image(kind: str, images: str, name: str, scene: Path) -> None:
    replace_file(str(image_of(kind, scene, images).relative_to(scene)), name, scene)


def _write_image(kind: str, images: str, data, scene: Path) -> None:
    path = image_of(kind, scene, images)
    path.write_bytes(data(path.read_bytes()))


def _pictures() -> dict[str, Callable[[bytes], bytes]]:
    return {
        "cut in half": lambda data: data[: len(data) // 2],
        "text": lambda data: b"no image",
        "a bomb": lambda data: _bomb(),
        "another size": lambda data: _saved(Image.new("RGB", (31, 17))),
        "a zip": lambda data: b"PK\x03\x04" + bytes(100),
    }


def _bomb() -> bytes:
    """A PNG of a few bytes whose header has 50,000 x 50,000 pixels."""
    data = bytearray(_saved(Image.new("RGB", (1, 1))))
    data[16:24] = (50_000).to_bytes(4, "big") * 2
    return bytes(data)


def _saved(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def _arrays() -> dict[str, Callable[[bytes], bytes]]:
    def rewritten(change: Callable[[np.ndarray], object]) -> Callable[[bytes], bytes]:
        def write(data: bytes) -> bytes:
            stream = io.BytesIO()
            np.save(stream, change(np.load(io.BytesIO(data))), allow_pickle=True)
            return stream.getvalue()

        return write

    return {
        "cut in half": lambda data: data[: len(data) // 2],
        "an npz": lambda data: _npz(np.load(io.BytesIO(data))),
        "a pickle": lambda data: b"\x80\x04N.",
        "objects": rewritten(lambda array: array.astype(object)),
        "one frame less": rewritten(lambda array: array[:-1]),
        "another type": rewritten(lambda array: array.astype(np.int32)),
        "an absurd shape": lambda data: data.replace(b"'shape': (", b"'shape': (9", 1),
        "a deep head": lambda data: data[:10] + b"(" * 64 + data[74:],
    }


def _npz(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, array)
    return stream.getvalue()


def _foreign(name: str, scene: Path) -> None:
    folders = {path.parent for path in scene.rglob("*") if path.is_file()}
    for folder in folders:
        first = min(path for path in folder.iterdir() if path.is_file())
        first.with_name(name.format(first.name)).write_bytes(b"\x00\x05\x16\x07" + bytes(60))
