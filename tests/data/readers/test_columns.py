import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.testing import assert_array_equal

from internnav_hf.data.readers.columns import (
    LONGEST_EPISODE,
    Column,
    check_row_order,
    read_columns,
    to_numpy,
)

ACTION = Column((), np.int32, "")
POSE = Column((2, 2), np.float32, "")
NUMBERS = np.arange(12, dtype=np.float32).reshape(3, 2, 2)


def column(values) -> pa.ChunkedArray:
    return pa.chunked_array([values])


def array2d() -> pa.ChunkedArray:
    features = datasets.Features({"pose": datasets.Array2D((2, 2), "float32")})
    return datasets.Dataset.from_dict({"pose": NUMBERS}, features=features).data["pose"]


@pytest.mark.parametrize(
    "poses",
    [
        array2d(),
        column(pa.FixedShapeTensorArray.from_numpy_ndarray(NUMBERS)),
        column(pa.array(NUMBERS.tolist(), pa.list_(pa.list_(pa.float64(), 2), 2))),
        column(pa.array(NUMBERS.tolist(), pa.large_list(pa.list_(pa.float16())))),
        column(pa.array(NUMBERS.reshape(3, 4).tolist(), pa.list_(pa.int64(), 4))),
        pa.chunked_array([pa.array(part.tolist()) for part in (NUMBERS[:1], NUMBERS[1:])]),
    ],
    ids=["Array2D", "tensor", "fixed lists", "large lists", "flat integers", "chunks"],
)
def test_any_kind_of_list_holds_the_same_numbers(poses):
    found = to_numpy(poses, POSE, "file", "pose")
    assert found.dtype == np.float32
    assert_array_equal(found, NUMBERS)


@pytest.mark.parametrize(
    "kind", [pa.uint64(), pa.int8(), pa.float32(), pa.float16(), pa.decimal128(5, 1)], ids=str
)
def test_any_kind_of_number_that_is_whole_is_an_action(kind):
    exact = pa.decimal128(20) if pa.types.is_decimal(kind) else pa.float32()
    actions = pa.array([1, 2, 3]).cast(exact).cast(kind)
    for values in (actions, actions.dictionary_encode()):
        found = to_numpy(column(values), ACTION, "file", "action")
        assert found.dtype == np.int32
        assert_array_equal(found, [1, 2, 3])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1, 2**32 + 1], f"file: action: found {2**32 + 1} at row 1, expected whole numbers"),
        ([1, -(2**31) - 1], "at row 1, expected whole numbers of int32"),
        ([1, 1.5], "found 1.5 at row 1"),
        ([1, float("nan")], "found nan at row 1"),
        ([1, 1e300], "found 1e.300 at row 1"),
        ([1, None], "found 1 empty values"),
        (["1", "2"], "found string of shape"),
        ([True, False], "found bool of shape"),
        ([{"a": 1}, {"a": 2}], "found struct"),
    ],
)
def test_numbers_that_are_no_action_are_named(values, message):
    with pytest.raises(ValueError, match=message):
        to_numpy(column(pa.array(values)), ACTION, "file", "action")


def test_a_tensor_with_turned_axes_is_refused():
    kind = pa.fixed_shape_tensor(pa.float32(), (2, 2), permutation=[1, 0])
    storage = pa.array(NUMBERS.reshape(3, 4).tolist(), pa.list_(pa.float32(), 4))
    with pytest.raises(ValueError, match="pose: found a tensor whose axes are stored as"):
        to_numpy(column(pa.ExtensionArray.from_storage(kind, storage)), POSE, "file", "pose")


def test_two_columns_of_one_name_are_refused_and_longer_names_left_alone(tmp_path):
    path = tmp_path / "a.parquet"
    names = ["action", "action", "pose", "pose.old"]
    pq.write_table(pa.Table.from_arrays([pa.array([1])] * 4, names=names), path)
    assert read_columns(path, ["pose"]).column_names == ["pose"]
    with pytest.raises(ValueError, match="columns: found 2 of name action, expected one of each"):
        read_columns(path, ["action"])


def test_more_rows_than_an_episode_has_are_refused_unread(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"action": np.zeros(LONGEST_EPISODE + 1, np.int8)}), path)
    with pytest.raises(ValueError, match="length: found 1000001 rows"):
        read_columns(path, ["action"])


def test_rows_out_of_order_are_named():
    for name, values in (("frame_index", [0, 2, 1]), ("timestamp", [0.0, 0.2, 0.1])):
        with pytest.raises(ValueError, match=f"file: {name}: found .* at row 2, after .*2"):
            check_row_order(pa.table({name: values}), "file")
    for values in ([0, 0, 0], [7, 8, 9], pa.array([1, 2, 5], pa.uint8()), ["c", "b", "a"]):
        check_row_order(pa.table({"frame_index": values}), "file")
    check_row_order(pa.table({"action": [3, 2, 1]}), "file")
