"""The command line of programs: help texts, and errors in one line."""

import math
import re
import sys
from argparse import (
    ArgumentDefaultsHelpFormatter,
    ArgumentParser,
    ArgumentTypeError,
    RawDescriptionHelpFormatter,
)
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from os.path import exists
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, NoReturn

from safetensors import SafetensorError

from internnav_hf.files import storage_error
from internnav_hf.signals import ending_on_signals


class HelpFormatter(ArgumentDefaultsHelpFormatter, RawDescriptionHelpFormatter):
    """Shows defaults with the options, and the description as it is written."""


class LineParser(ArgumentParser):
    """The parser of a script without dataclasses; its errors are one line, without the usage."""

    def __init__(self, description: str | None, **options: Any):
        options = {"formatter_class": HelpFormatter, "allow_abbrev": False, **options}
        super().__init__(description=description, **options)

    def parse_args(self, args=None, namespace=None) -> Any:
        """Like argparse's, but an unknown option is reported before missing ones."""
        for word in sys.argv[1:] if args is None else args:
            if word.startswith("--") and word.split("=")[0] not in self._option_string_actions:
                close = get_close_matches(word.split("=")[0], self._option_string_actions, n=1)
                hint = f"; did you mean {close[0]}?" if close else ""
                self.error(f"there is no option {word}{hint}")
        return super().parse_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """End the program with one line."""
        self.exit(2, f"{_program()}: {message} (--help lists the options)\n")


def whole_number(low: int) -> Callable[[str], int]:
    """A `type` for argparse: whole numbers of at least `low`."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"[+-]?\d{1,18}", text) or int(text) < low:
            raise ArgumentTypeError(f"found {text!r}, expected a whole number, {low} or more")
        return int(text)

    return parse


def positive_number(text: str) -> float:
    """A `type` for argparse: finite numbers above 0."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise ArgumentTypeError(f"found {text!r}, expected a number above 0")
    return number


@contextmanager
def ends_in_one_line() -> Iterator[None]:
    """A ValueError or file error in the block ends the program with one line, a signal at once."""
    try:
        with ending_on_signals(_program(), "start it again to go on."):
            yield
    except ValueError as error:
        sys.exit(f"{_program()}: {error}")
    except (OSError, RuntimeError, SafetensorError) as error:
        message = storage_error(error)
        if message is None and not isinstance(error, OSError):
            raise
        sys.exit(f"{_program()}: {message or ' '.join(str(error).split())}")


def output_folder(option: str, path: str | Path) -> Path:
    """`path`, the value of `option`, if a folder can be created and written there; creates nothing.

    Raises ValueError otherwise.
    """
    there = next(place for place in (Path(path), *Path(path).absolute().parents) if exists(place))
    try:
        with TemporaryFile(dir=there) as probe:
            probe.write(b"can be written")
    except OSError as error:
        found = f"a place that cannot be written to ({there}: {error.strerror})"
        raise ValueError(
            f"{option} {path}: found {found}, expected a folder of yours; choose another."
        ) from error
    return Path(path)


def _program() -> str:
    return Path(sys.argv[0]).stem
