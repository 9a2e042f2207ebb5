"""The numbers that the demos' verdicts compare."""

import json
import math
from pathlib import Path


def read_numbers(path: str | Path, *names: str) -> list[float]:
    """The numbers under `names`, dotted as in `agents.random.sr`, of a JSON file.

    Raises ValueError that names the file for one that is missing or no JSON, and the name too where
    there is no number under it.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path}: there is no such file; the demo writes it at its end.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: found no JSON ({error}), expected what was measured.") from error
    return [_number(path, found, name) for name in names]


def _number(path: str | Path, found: object, name: str) -> float:
    for part in name.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    if isinstance(found, bool) or not isinstance(found, int | float) or not math.isfinite(found):
        raise ValueError(f"{path}, {name}: found {found!r}, expected a number.")
    return float(found)
