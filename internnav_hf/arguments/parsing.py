"""The command line of a recipe, and the YAML file before it: each value of the type of its field.

An error is one `ValueError` in one line; unknown options are reported before missing ones.
"""

import copy
import json
import logging
import types
from argparse import Action, ArgumentTypeError
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from enum import Enum
from typing import Any, Literal, NoReturn, Union, get_args, get_origin, get_type_hints

from transformers import HfArgumentParser
from transformers.hf_argparser import string_to_bool

from internnav_hf.arguments.documented import hint_of
from internnav_hf.arguments.ranges import check_numbers
from internnav_hf.command_line import HelpFormatter
from internnav_hf.field_files import read_fields

logger = logging.getLogger(__name__)

_OURS = ("range",)  # in a field's metadata, and not for argparse
_WORDS = ("_strategy", "resume_from_checkpoint")  # `no`, `true`: YAML reads them as false, true


def read_arguments(
    dataclass_types: Iterable[type], arguments: Sequence[str], description: str | None = None
) -> tuple:
    """Return one instance of each dataclass from `arguments`: a YAML file, if any, then options.

    A field that none of them has, or a value that does not fit, is a ValueError that names the file
    or the command line, the field and what was expected.
    """
    parsed = RecipeParser(dataclass_types, description).read(arguments)
    for options in parsed:
        check_numbers(options)
    return parsed


class RecipeParser(HfArgumentParser):
    """transformers' parser of dataclasses, whose errors are `ValueError`s of one line."""

    def __init__(self, dataclass_types: Iterable[type], description: str | None = None):
        super().__init__(
            dataclass_types,  # type: ignore[arg-type]  (any dataclasses)
            description=description,
            allow_abbrev=False,
            formatter_class=HelpFormatter,
        )
        self.kinds: dict[str, set[Any]] = {}
        for kind in self.dataclass_types:
            hints = get_type_hints(kind)
            self.kinds |= {name: _kinds(hints[name]) for name in kind.__dataclass_fields__}

    @staticmethod
    def _parse_dataclass_field(parser, field):
        field = copy.copy(field)
        metadata = field.metadata.items()
        field.metadata = {k: v for k, v in metadata if k not in _OURS and v != ()}
        HfArgumentParser._parse_dataclass_field(parser, field)

    def error(self, message: str) -> NoReturn:
        """Raise ValueError instead of printing a page of usage."""
        raise ValueError(f"Command line: {' '.join(message.split())}")

    @property
    def names(self) -> set[str]:
        """Names of all options."""
        return {action.dest for action in self._actions} - {"help"}

    def unknown(self, name: str) -> str:
        """Return the message for an option that does not exist."""
        name = name.split("=")[0]
        plain = name.replace("-", "_")
        hint = hint_of(plain, self.names)
        close = get_close_matches(plain, sorted(self.names), n=1)
        hint = hint or (f"did you mean {close[0]!r}?" if close else None)
        return f"unknown field {name!r}" + (f"; {hint}" if hint else ".")

    def read(self, arguments: Sequence[str]) -> tuple:
        """One instance of each dataclass from `arguments`: a YAML file, if any, then options."""
        options = list(arguments)
        if {"-h", "--help"} & set(options):
            self.parse_args(["--help"])
        from_file = []
        if options and not options[0].startswith("-"):
            from_file = self._options_of(options.pop(0))
        self._check_words(options)
        *parsed, rest = self.parse_args_into_dataclasses(
            from_file + options, return_remaining_strings=True, look_for_args_file=False
        )
        if rest:
            self.error(f"found {rest[0]!r}, expected an option (--name value).")
        return tuple(parsed)

    def _check_words(self, options: Sequence[str]) -> None:
        """Refuse unknown options before missing ones; warn of an option given twice."""
        given: dict[str, str] = {}
        for word in options:
            if not word.startswith("--"):
                continue
            action: Action | None = self._option_string_actions.get(word.split("=")[0])
            if action is None:
                raise ValueError(f"Command line: {self.unknown(word.lstrip('-'))}")
            if action.dest in given:
                logger.warning("--%s is given twice: the last one counts.", action.dest)
            given[action.dest] = word

    def _options_of(self, path: str) -> list[str]:
        """Return the fields of a YAML file as options, so that both get the same checks."""
        if not path.endswith((".yaml", ".yml")):
            self.error(f"found {path!r}, expected an option (--name value) or, first, a YAML file.")
        options: list[str] = []
        for name, value in read_fields(path).items():
            if name not in self.names:
                raise ValueError(f"{path}: {self.unknown(name)}")
            if isinstance(value, bool) and name.endswith(_WORDS):
                value = "no" if name.endswith(_WORDS[0]) and not value else str(value)
            expected = _misfit(value, self.kinds[name])
            if expected is not None:
                shown = "null" if value is None else repr(value)
                quotes = " (in quotes: it was read as true or false)" if _is_word(value) else ""
                raise ValueError(f"{path}: {name}: found {shown}, expected {expected}{quotes}.")
            action = next(action for action in self._actions if action.dest == name)
            if value is None or (isinstance(value, list) and action.nargs != "+"):
                self.set_defaults(**{name: value})
            elif isinstance(value, list):
                options += [f"--{name}", *map(_word, value)]
            else:
                options.append(f"--{name}={_word(value)}")
        return options


def _is_word(value: Any) -> bool:
    """Return whether YAML read a word such as no, on or yes as true or false."""
    return any(isinstance(part, bool) for part in (value if isinstance(value, list) else [value]))


def _word(value: Any) -> str:
    if isinstance(value, dict):
        return json.dumps(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))  # also what a field of whole numbers takes
    return str(value)


def _kinds(hint: Any) -> set[Any]:
    """The types that `hint` allows; a list of type X is (list, X)."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return {kind for part in get_args(hint) for kind in _kinds(part)}
    if origin is Literal:
        return {type(word) for word in get_args(hint)}
    if origin in (list, tuple):
        return {(list, *(get_args(hint)[:1] or (str,)))}
    if origin is dict:
        return {dict}
    if isinstance(hint, type) and issubclass(hint, Enum):
        return {str}
    return {hint}


def _misfit(value: Any, kinds: set[Any]) -> str | None:
    """Return what was expected instead of `value`, None if it fits."""
    listed = next((kind[1] for kind in kinds if isinstance(kind, tuple)), None)
    if value is None:
        return (
            None if type(None) in kinds else f"{_told(kinds)}; leave the line out for the default"
        )
    if isinstance(value, dict):
        return None if dict in kinds else _told(kinds)
    if isinstance(value, list):
        if listed is None:
            return _told(kinds)
        if not value:
            return f"{_told(kinds)}; it is empty"
        return next((w for part in value if (w := _misfit(part, {listed}))), None)
    plain = {listed} if listed is not None and len(kinds - {type(None)}) == 1 else kinds
    return None if any(_fits(value, kind) for kind in plain) else _told(kinds)


def _fits(value: Any, kind: Any) -> bool:
    if kind is bool:
        try:
            string_to_bool(value if isinstance(value, bool) else str(value))
        except ArgumentTypeError:
            return False
        return True
    if kind in (int, float):
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            return False
        try:
            number = float(value)
        except ValueError:
            return False
        return kind is float or number.is_integer()
    return kind is str and not isinstance(value, bool)


def _told(kinds: set[Any]) -> str:
    """The types in words."""
    words = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
    words |= {dict: "a mapping", type(None): "null"}
    order = [bool, int, float, str, dict, type(None)]
    plain = [words[kind] for kind in order if kind in kinds]
    lists = [f"a list of {words.get(k[1], 'values')}" for k in kinds if isinstance(k, tuple)]
    return " or ".join(lists + plain) or "another value"
