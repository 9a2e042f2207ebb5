"""Pickles are read as data: their arrays are numpy's, and nothing in them happens."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from internnav_hf.data.readers.pickles import read_arrays


class Touch:
    """A pickle that makes a file when it is unpickled."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


ARRAYS = {
    "float64": np.linspace(0, 1, 6).reshape(3, 2),
    "float32": np.arange(3, dtype=np.float32),
    "big-endian": np.arange(4, dtype=">f8"),
    "integers": np.arange(4),
    "Fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "empty": np.zeros((0, 2)),
}


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_are_numpys(tmp_path, protocol):
    file = tmp_path / "a.pkl"
    file.write_bytes(pickle.dumps(ARRAYS | {"name": "a", "list": [1.0, 2.0]}, protocol))
    found = read_arrays(file)
    assert found.pop("name") == "a"
    assert found.pop("list") == [1.0, 2.0]
    for name, expected in ARRAYS.items():
        assert found[name].dtype == np.float64
        np.testing.assert_array_equal(found[name], expected)


def test_a_hostile_pickle_does_nothing(tmp_path):
    file, mark = tmp_path / "a.pkl", tmp_path / "mark"
    file.write_bytes(pickle.dumps({"position": Touch(mark)}))
    with pytest.raises(ValueError, match=r"a.pkl: position: found a pathlib.*expected an array"):
        read_arrays(file)
    file.write_bytes(pickle.dumps(Touch(mark)))
    with pytest.raises(ValueError, match=r"a.pkl: file: found a pathlib.*expected a pickled dict"):
        read_arrays(file)
    assert not mark.exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"no pickle", b"\x80\x04]\x94.", b"\x80\x04}\x94(", b"\x80\x02]q\x00(K\x01", b"P1\n."],
)
def test_what_is_no_pickle_is_one_error(tmp_path, content):
    file = tmp_path / "a.pkl"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"a.pkl: file: found .*, expected a pickled dict"):
        read_arrays(file)


@pytest.mark.parametrize(
    "array",
    [np.array([object()]), np.array(["a"]), np.array([1 + 2j]), np.zeros(2, "f4,i4")],
    ids=["objects", "text", "complex", "records"],
)
def test_an_array_of_other_things_is_one_error(tmp_path, array):
    file = tmp_path / "a.pkl"
    file.write_bytes(pickle.dumps({"yaw": array}))
    with pytest.raises(ValueError, match=r"a.pkl: yaw: found .*, expected an array of numbers"):
        read_arrays(file)


def test_an_array_that_claims_more_than_it_brings_is_one_error(tmp_path):
    file = tmp_path / "a.pkl"
    pickled = pickle.dumps({"yaw": np.arange(3.0)}, 4)
    assert pickled.count(b"K\x03\x85") == 1
    file.write_bytes(pickled.replace(b"K\x03\x85", b"K\xff\x85"))
    with pytest.raises(ValueError, match=r"a.pkl: yaw: found .*, expected an array of numbers"):
        read_arrays(file)
