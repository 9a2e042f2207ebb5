"""The command line of programs: help, and one line where something cannot be done."""

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
from os.path import exists
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, NoReturn

from safetensors import SafetensorError

from internnav_hf.files import storage_error
from internnav_hf.signals import ending_on_signals


class HelpFormatter(ArgumentDefaultsHelpFormatter, RawDescriptionHelpFormatter):
    """Defaults beside the options, and the description as it is written."""


class LineParser(ArgumentParser):
    """The parser of a script without dataclasses; its errors are one line, without all options."""

    def __init__(self, description: str | None, **options: Any):
        options = {"formatter_class": HelpFormatter, "allow_abbrev": False, **options}
        super().__init__(description=description, **options)

    def parse_args(self, args=None, namespace=None) -> Any:
        """As argparse's; an option that there is not is named before what is missing."""
        for word in sys.argv[1:] if args is None else args:
            if word.startswith("--") and word.split("=")[0] not in self._option_string_actions:
                self.error(f"there is no option {word}")
        return super().parse_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """End the program."""
        self.exit(2, f"{_program()}: {message} (--help lists the options)\n")


def whole_number(low: int) -> Callable[[str], int]:
    """A `type` for argparse: whole numbers from `low` on."""

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
    """A ValueError in the block, or a file that cannot be read or written, ends the program with
    its name and what was wrong; a signal ends it at once.
    """
    try:
        with ending_on_signals(_program(), "start it again to go on."):
            yield
    except ValueError as error:
        sys.exit(f"{_program()}: {error}")
    except (OSError, RuntimeError, SafetensorError) as error:
        told = storage_error(error)
        if told is None and not isinstance(error, OSError):
            raise
        sys.exit(f"{_program()}: {told or ' '.join(str(error).split())}")


def output_folder(option: str, path: str | Path) -> Path:
    """`path`, which `option` names, if a folder can be made and written to there; nothing is made.

    Raises ValueError otherwise.
    """
    there = next(place for place in (Path(path), *Path(path).absolute().parents) if exists(place))
    try:
        with TemporaryFile(dir=there) as probe:
            probe.write(b"can be written")
    except OSError as error:
        found = f"what cannot be written to ({there}: {error.strerror})"
        raise ValueError(
            f"{option} {path}: found {found}, expected a folder of yours; choose another."
        ) from error
    return Path(path)


def _program() -> str:
    return Path(sys.argv[0]).stem
