"""Errors about data: one message with file, field, what was found and what was expected."""

import reprlib
from pathlib import Path

_LONGEST_FOUND = 600  # characters of a message
_SHORT = reprlib.Repr()


def broken(file: Path | str, field: str, found: object, expected: object) -> ValueError:
    """Return the error for a file, in the form of all: one line that can be printed anywhere."""
    told = str(found)
    if len(told) > _LONGEST_FOUND:
        told = f"{told[:_LONGEST_FOUND]}..."
    message = f"{file}: {field}: found {told}, expected {expected}"
    return ValueError(printable(" ".join(message.splitlines())))


def shown(value: object) -> str:
    """Return a short form of a value, however long or deep it is."""
    return _SHORT.repr(value)


def printable(name: object) -> str:
    """Return a printable form of a file name with bytes that are no UTF-8, or of a text with half a
    character, for a message.
    """
    return str(name).encode("utf-8", "backslashreplace").decode("utf-8")
