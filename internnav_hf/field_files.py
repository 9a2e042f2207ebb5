"""Strict reading of YAML and JSON files of fields: a run's options, a model's configuration."""

import re
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

_BYTES_AT_MOST = 1_000_000


class _StrictLoader(yaml.SafeLoader):
    """YAML in which a repeated key is an error, and 1e-3 is a number."""

    def construct_mapping(self, node, deep=False):
        """Build a mapping; only keys of a merge (<<) may be given again."""
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)  # type: ignore[no-untyped-call]
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(
                    None, None, f"found the key {key!r}, expected a name", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key} is given twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


_StrictLoader.yaml_implicit_resolvers = {
    first: list(resolvers) for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _first in "-+0123456789":
    _StrictLoader.yaml_implicit_resolvers.setdefault(_first, []).append(
        ("tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"))
    )


def read_fields(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML or JSON file.

    Raises ValueError for a file that is missing, is not text, not YAML, not a mapping, or has a key
    twice.
    """
    if not Path(path).is_file():
        what = "a folder" if Path(path).is_dir() else "there is no such file"
        expected = ", expected a YAML or JSON file" if Path(path).is_dir() else ""
        raise ValueError(f"{path}: {what}{expected}.{nearest_path(path)}")
    if Path(path).stat().st_size > _BYTES_AT_MOST:
        raise ValueError(f"{path}: found more than {_BYTES_AT_MOST:,} bytes, expected some fields.")
    try:
        fields = yaml.load(Path(path).read_text(encoding="utf-8-sig"), _StrictLoader)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: found {error.reason} at byte {error.start}, expected UTF-8 text."
        ) from error
    except RecursionError as error:
        raise ValueError(f"{path}: it is nested too deeply.") from error
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: {_one_line(error)}") from error
    fields = {} if fields is None else fields
    if not isinstance(fields, dict):
        found = type(fields).__name__
        raise ValueError(f"{path}: expected one `field: value` per line, found {found}.")
    return fields


def nearest_path(path: str | Path) -> str:
    """A hint to end an error message with: an existing path with a similar name, or nothing."""
    missing = Path(path).expanduser()
    for part in [missing, *missing.parents]:
        if part.parent.is_dir() and not part.exists():
            siblings = sorted(entry.name for entry in part.parent.iterdir())
            close = get_close_matches(part.name, siblings, n=1, cutoff=0.6)
            return f" Did you mean {str(part.parent / close[0])!r}?" if close else ""
    return ""


def _one_line(error: yaml.YAMLError) -> str:
    """The problem and its line number."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    return f"line {mark.line + 1}: {problem}." if mark else " ".join(problem.split())
