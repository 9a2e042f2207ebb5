"""Errors about data: one message with file, field, what was found and what was expected."""

import reprlib
import struct
import zlib
from collections.abc import Callable, Hashable, Iterable
from pathlib import Path
from tokenize import TokenError
from typing import TypeVar

PARSE_ERRORS = (
    *(OSError, ValueError, SyntaxError, LookupError, TypeError, AttributeError, ArithmeticError),
    *(EOFError, MemoryError, RecursionError, TokenError, struct.error, zlib.error),
)
"""Errors of numpy, Pillow and trimesh for bytes that are not what they should be."""
_LONGEST_FOUND = 600  # characters of a message
Key = TypeVar("Key", bound=Hashable)
_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 3, 80, 80


def broken(file: Path | str, field: str, found: object, expected: object) -> ValueError:
    """Return the error for a file, in the form of all: one line that can be printed anywhere."""
    told = str(found)
    if len(told) > _LONGEST_FOUND:
        told = f"{told[:_LONGEST_FOUND]}..."
    message = f"{file}: {field}: found {told}, expected {expected}"
    return ValueError(printable(" ".join(message.splitlines())))


def problems_of(episodes: Iterable[Key], check: Callable[[Key], object]) -> dict[Key, str]:
    """Return, by episode, the message of the ValueError that `check` raises."""
    problems = {}
    for episode in episodes:
        try:
            check(episode)
        except ValueError as error:
            problems[episode] = str(error)
    return problems


def shown(value: object) -> str:
    """Return a short form of a value, however long or deep it is."""
    return _SHORT.repr(value)


def printable(name: object) -> str:
    """Return a printable form of a file name with bytes that are no UTF-8, or of a text with half a
    character, for a message.
    """
    return str(name).encode("utf-8", "backslashreplace").decode("utf-8")
