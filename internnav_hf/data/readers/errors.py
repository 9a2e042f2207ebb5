"""Errors about data: one message with file, field, what was found and what was expected."""

import reprlib
from pathlib import Path

_LONGEST_FOUND = 600  # characters of a message
_SHORT = reprlib.Repr()


def broken(file: Path | str, field: str, found: object, expected: object) -> ValueError:
    """The one form of every complaint about a file: one line that can be printed anywhere."""
    told = str(found)
    if len(told) > _LONGEST_FOUND:
        told = f"{told[:_LONGEST_FOUND]}..."
    message = f"{file}: {field}: found {told}, expected {expected}"
    return ValueError(printable(" ".join(message.splitlines())))


def shown(value: object) -> str:
    """A short form of what data holds, however long or deep it is."""
    return _SHORT.repr(value)


def printable(name: object) -> str:
    """A name of a file with bytes that are no UTF-8, or a text with half a character, for a
    message.
    """
    return str(name).encode("utf-8", "backslashreplace").decode("utf-8")
