"""A pickle is read as data, in every protocol, and what it would call stays a description."""

import pickle
from collections import OrderedDict
from io import BytesIO
from pathlib import PurePosixPath

import pytest

from internnav_hf.weights.pickled_data import NOTHING, Name, Thing, read_pickle

PLAIN = {
    "numbers": [0, -1, 255, 2**40, -(2**70), 1.5, True, None],
    "texts": ["", "ä", "x" * 300],
    "bytes": [b"", b"\x00" * 300],
    "nested": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), {"a": {"b": []}}),
    3: {(1, "a"): 2},
}


def read(pickled: bytes, call=lambda made_by, arguments: NOTHING):
    return read_pickle(BytesIO(pickled), call, lambda identifier: ("stands for", identifier))


@pytest.mark.parametrize("protocol", range(2, 6))
def test_plain_values_are_what_they_were(protocol):
    plain = {k: v for k, v in PLAIN.items() if k != "bytes" or protocol > 2}  # 2 calls for them
    stream = BytesIO(pickle.dumps(plain, protocol) + b"behind")
    assert read_pickle(stream, lambda *_: NOTHING, lambda _: None) == plain
    assert stream.read() == b"behind"


@pytest.mark.parametrize("protocol", [0, 1])
def test_old_protocols_are_read(protocol):
    plain = {"numbers": [0, -1, 2**70, 1.5, None], "text": "ä", "nested": ((), (1, 2, 3, 4))}
    assert read(pickle.dumps(plain, protocol)) == plain


def test_sets_are_lists():
    assert read(pickle.dumps({"a": {1}, "b": frozenset([2])})) == {"a": [1], "b": [2]}


class Held:
    def __init__(self):
        self.inside = {"a": 1}


@pytest.mark.parametrize("protocol", range(6))
def test_objects_keep_what_they_held(protocol):
    found = read(pickle.dumps([Held(), PurePosixPath("a")], protocol))
    assert found[0].state == {"inside": {"a": 1}}
    assert all(isinstance(thing, Thing) for thing in found)


def test_what_is_called_is_asked_for_by_name():
    asked = []

    def call(made_by, arguments):
        asked.append((str(made_by), arguments))
        return NOTHING

    thing = read(pickle.dumps(OrderedDict(a=1), 2), call)
    assert asked == [("collections.OrderedDict", ())]
    assert thing.items == [("a", 1)]
    assert str(thing) == "a collections.OrderedDict"
    assert thing.made_by == Name("collections", "OrderedDict")


@pytest.mark.parametrize(
    "pickled",
    [b"", b"\x80\x02", b"\x80\x02.", b"}a.", b"0.", b"(.", b"h\x00.", b"\x82\x01.", b"\xff"],
)
def test_what_is_no_pickle_is_an_error(pickled):
    with pytest.raises(ValueError, match=r"\w"):
        read(pickled)
