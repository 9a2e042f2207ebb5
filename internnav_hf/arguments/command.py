"""The command line of a run in a form to publish: no secrets, no paths of the machine."""

import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath, PureWindowsPath

from internnav_hf.publishing.hiding import HIDDEN, is_secret, without_secrets

_PATH = re.compile(
    r"(?<![\w./:~\\-])(?:/|~[\w.-]*/|(?:\.\./)+|[A-Za-z]:[\\/]|\\\\)[^\s,;:'\"\]})]*"
)
_FILE_ADDRESS = re.compile(r"\bfile://[^\s,;'\"\]})]+")


def publishable(arguments: Sequence[str], environ: Mapping[str, str] = os.environ) -> str:
    """Return `arguments`, a program and its options, as one line."""
    told, hide_next = [], False
    for position, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if hide_next and not argument.startswith("--"):
            told.append(HIDDEN)
        elif argument.startswith("-") and is_secret(name):
            told.append(f"{name}={HIDDEN}" if equals else argument)
        elif position == 0:
            told.append(_program(argument))
        elif argument.startswith("-") and equals:
            told.append(f"{name}={without_paths(without_secrets(value, environ))}")
        else:
            told.append(without_paths(without_secrets(argument, environ)))
        hide_next = argument.startswith("-") and not equals and is_secret(name)
    return shlex.join(told)


def without_paths(text: str) -> str:
    """Return `text` with each path of this machine cut to its last name."""
    if _PATH.match(text) and not re.search(r"[,{}\[\]\"']|\s[/~]", text):
        return _last_name(text)  # contains blanks
    text = _FILE_ADDRESS.sub(lambda found: _last_name(found[0]), text)
    return _PATH.sub(lambda found: _last_name(found[0]), text)


def hide_secrets(arguments: Iterable[str]) -> list[str]:
    """Return `arguments` of a program with secrets hidden, for trackers that publish them."""
    told, hide_next = [], False
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        secret = argument.startswith("-") and is_secret(name)
        if hide_next and not argument.startswith("--"):
            told.append(HIDDEN)
        else:
            told.append(f"{name}={HIDDEN}" if secret and equals else without_secrets(argument))
        hide_next = secret and not equals
    return told


def _program(path: str) -> str:
    """Return the program relative to the project's root: folder of recipes, and file."""
    return "/".join(PurePosixPath(path.replace("\\", "/")).parts[-2:]).lstrip("/")


def _last_name(path: str) -> str:
    kind = PureWindowsPath if "\\" in path or re.match(r"[A-Za-z]:", path) else PurePosixPath
    parts = [part for part in kind(path).parts if part not in ("..", "~", "/", "\\")]
    return parts[-1] if parts else "."
