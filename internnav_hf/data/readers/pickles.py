"""Pickled dicts of numbers, read as data: nothing in a file is imported, called or unpickled.

numpy's arrays are rebuilt from the bytes in the pickle, of the types and sizes that it gives.
"""

from pathlib import Path
from typing import Any

import numpy as np

from internnav_hf.data.readers.errors import broken, shown
from internnav_hf.data.readers.folders import open_file
from internnav_hf.weights.pickled_data import NOTHING, Name, Thing, read_pickle

MOST_BYTES = 64 << 20  # a trajectory of an hour at 4 Hz has less than one
_EXPECTED = "a pickled dict of arrays of numbers"
_BUFFER = "_frombuffer"
_ARRAY = "_reconstruct"


def read_arrays(path: Path) -> dict[str, Any]:
    """The dict in the pickle `path`: numbers, text, lists, and float64 arrays.

    Raises ValueError for a file that is no pickle, is too large, or holds another object.
    """
    with open_file(path, _EXPECTED) as stream:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise broken(path, "file", f"{size} bytes", f"at most {MOST_BYTES}")
        try:
            content = read_pickle(stream, _call, _refuse)
        except (ValueError, RecursionError, MemoryError) as error:
            raise broken(path, "file", f"{size} bytes ({error})", _EXPECTED) from error
    if not isinstance(content, dict):
        raise broken(path, "file", _kind(content), _EXPECTED)
    return {str(name): _value(path, str(name), value) for name, value in content.items()}


def _value(path: Path, name: str, value: Any) -> Any:
    if isinstance(value, list):
        return [_value(path, name, one) for one in value]
    if not isinstance(value, Thing):
        return value
    try:
        return _array(value)
    except (TypeError, ValueError) as error:
        expected = "an array of numbers"
        raise broken(path, name, f"{_kind(value)} ({error})", expected) from error


def _array(thing: Thing) -> np.ndarray:
    """The array that numpy would make; TypeError or ValueError if it is none."""
    made_by = thing.made_by.name if isinstance(thing.made_by, Name) else ""
    if made_by == _BUFFER and len(thing.arguments) == 4:
        data, kind, shape, order = thing.arguments
    elif made_by == _ARRAY and isinstance(thing.state, tuple) and len(thing.state) == 5:
        _, shape, kind, is_fortran, data = thing.state
        order = "F" if is_fortran else "C"
    else:
        raise TypeError("it is no array")
    if not isinstance(data, bytes | bytearray):
        raise TypeError("it does not have its numbers as bytes")
    return np.frombuffer(data, _type(kind)).reshape(shape, order=order).astype(np.float64)


def _type(thing: Any) -> np.dtype:
    name = thing.arguments[0] if isinstance(thing, Thing) and thing.arguments else None
    if not isinstance(name, str) or name[:1] not in ("f", "i", "u") or len(name) > 3:
        raise TypeError(f"its numbers are of type {shown(name)}")
    order = thing.state[1] if isinstance(thing.state, tuple) and len(thing.state) > 1 else "<"
    return np.dtype(name).newbyteorder(order if order in ("<", ">") else "<")


def _call(made_by: Any, arguments: tuple) -> Any:
    """Python 2's way to write bytes; everything else stays a Thing."""
    is_bytes = made_by == ("_codecs", "encode") and len(arguments) == 2
    if is_bytes and isinstance(arguments[0], str) and arguments[1] == "latin1":
        return arguments[0].encode("latin1")
    if made_by in (("__builtin__", "bytes"), ("builtins", "bytes")) and not arguments:
        return b""
    return NOTHING


def _refuse(identifier: Any) -> Any:
    raise ValueError("it refers to what is outside of the file")


def _kind(value: Any) -> str:
    return str(value) if isinstance(value, Thing) else f"a {type(value).__name__}"
