"""The numbers that the demos' verdicts compare."""

import math
from pathlib import Path

from internnav_hf.data.readers.json_files import read_json


def read_numbers(path: str | Path, *names: str) -> list[float]:
    """The numbers under `names`, dotted as in `agents.random.sr`, of a JSON file.

    Raises ValueError that names the file for one that is missing or no JSON, and the name too where
    there is no number under it.
    """
    found = read_json(Path(path), dict, "what a demo measured, written at its end")
    return [_number(path, found, name) for name in names]


def _number(path: str | Path, found: object, name: str) -> float:
    for part in name.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    if isinstance(found, bool) or not isinstance(found, int | float) or not math.isfinite(found):
        raise ValueError(f"{path}, {name}: found {found!r}, expected a number.")
    return float(found)
