import pyarrow as pa
import pytest
from numpy.testing import assert_array_equal

from internnav_hf.data.tables import (
    array_of,
    build_once,
    content_digest,
    described,
    open_table,
    row_of,
    table_of,
    write_table,
)

SCHEMA = pa.schema([described("name", pa.string(), "a word"), described("size", pa.int8(), "px")])


def test_a_table_comes_back_as_it_was_written(tmp_path):
    table = table_of([("a", 1), ("b", 2)], SCHEMA)
    write_table(table, tmp_path / "t.arrow")
    found = open_table(tmp_path / "t.arrow")
    assert found.equals(table)
    assert row_of(found, 1) == {"name": "b", "size": 2}
    assert found.schema.field("size").metadata == {b"meaning": b"px"}
    assert table_of([], SCHEMA).num_rows == 0


def test_a_folder_is_built_once_or_not_at_all(tmp_path):
    folder = tmp_path / "cache" / "built"
    with pytest.raises(ZeroDivisionError):
        build_once(folder, lambda new: (new / "half").touch() or 1 / 0)
    assert [path.name for path in folder.parent.iterdir()] == ["built.lock"]
    calls = []
    for _ in range(2):
        build_once(folder, lambda new: calls.append((new / "whole").touch()))
    assert len(calls) == 1
    assert [path.name for path in folder.iterdir()] == ["whole"]


def test_columns_that_came_later_change_no_digest():
    first, later = SCHEMA, SCHEMA.append(described("poses", pa.list_(pa.float64()), "m", False))
    tables = [table_of([("a", 1)], first), table_of([("a", 1, [0.5, 1.5])], later)]
    assert len({content_digest([table]) for table in tables}) == 1
    assert_array_equal(array_of(tables[1], 0, "poses", 2), [[0.5, 1.5]])
