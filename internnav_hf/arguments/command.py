"""The command line of a run in a form to publish: no secrets, no paths of the machine."""

import os
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import PurePosixPath, PureWindowsPath

from internnav_hf.publishing.hiding import HIDDEN, is_secret, without_secrets

_PATH = re.compile(
    r"(?<![\w./:~\\-])(?:/|~[\w.-]*/|(?:\.\./)+|[A-Za-z]:[\\/]|\\\\)[^\s,;:'\"\]})]*"
)
_FILE_ADDRESS = re.compile(r"\bfile://[^\s,;'\"\]})]+")


def publishable(arguments: Sequence[str], environ: Mapping[str, str] = os.environ) -> str:
    """Return `arguments`, a program and its options, as one line."""

    def shown(text: str) -> str:
        return without_paths(without_secrets(text, environ))

    return shlex.join([*map(_program, arguments[:1]), *hide_secrets(arguments[1:], shown)])


def without_paths(text: str) -> str:
    """Return `text` with each path of this machine cut to its last name."""
    if _PATH.match(text) and not re.search(r"[,{}\[\]\"']|\s[/~]", text):
        return _last_name(text)  # contains blanks
    text = _FILE_ADDRESS.sub(lambda found: _last_name(found[0]), text)
    return _PATH.sub(lambda found: _last_name(found[0]), text)


def hide_secrets(
    arguments: Iterable[str], shown: Callable[[str], str] = without_secrets
) -> list[str]:
    """Return `arguments` of a program with secrets hidden, for trackers that publish them."""
    told, hide_next = [], False
    for argument in arguments:
        name, equals, value = argument.partition("=")
        is_option = argument.startswith("-")
        secret = is_option and is_secret(name)
        if hide_next and not argument.startswith("--"):
            told.append(HIDDEN)
        elif is_option and equals:
            told.append(f"{name}={HIDDEN if secret else shown(value)}")
        else:
            told.append(argument if secret else shown(argument))
        hide_next = secret and not equals
    return told


def _program(path: str) -> str:
    """Return the program relative to the project's root: folder of recipes, and file."""
    return "/".join(PurePosixPath(path.replace("\\", "/")).parts[-2:]).lstrip("/")


def _last_name(path: str) -> str:
    kind = PureWindowsPath if "\\" in path or re.match(r"[A-Za-z]:", path) else PurePosixPath
    parts = [part for part in kind(path).parts if part not in ("..", "~", "/", "\\")]
    return parts[-1] if parts else "."
