"""Whether the model of a demo has learnt: what it measured against limits in a YAML file.

`recipes/demo_*_learnt.yaml` name each comparison and say what it compares:

    Success:
      number: agents.system2.sr        # dotted, in metrics.json; `file` names another
      unit: "%"
      at_least: 3                      # times the largest of these, names or plain numbers;
      of: {random walker: agents.random.sr, floor: 0.01}   # at_most and below: the smallest
"""

import math
import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any

from internnav_hf.data.readers.json_files import read_json
from internnav_hf.field_files import read_fields

BOUNDS: dict[str, tuple[Callable[..., bool], Callable[..., float], str]] = {
    "at_most": (operator.le, min, "{} or less"),
    "below": (operator.lt, min, "less than {}"),
    "at_least": (operator.ge, max, "{} or more"),
}
UNITS = {"px": "{:.1f} px", "m": "{:.2f} m", "%": "{:.1%}", "": "{:.2f}"}
_FIELDS = {"number", "unit", "of", "file", *BOUNDS}


def judge(limits: str | Path, folder: str | Path) -> list[tuple[bool, str]]:
    """Whether each comparison of the file `limits` holds in `folder`, which a demo wrote, and what
    was compared, in a line.

    Raises ValueError that names the file for one that is missing or says something else, and for a
    number that is not there.
    """
    comparisons = read_fields(limits)
    if not comparisons:
        raise ValueError(f"{limits}: found no comparison, expected what learnt means.")
    for what, comparison in comparisons.items():
        _check(f"{limits}, {what}", comparison)
    return [_judge(Path(folder), what, asked) for what, asked in comparisons.items()]


def _check(where: str, asked: Any) -> None:
    is_right = (
        isinstance(asked, dict)
        and set(asked) <= _FIELDS
        and isinstance(asked.get("number"), str)
        and asked.get("unit", "") in UNITS
        and isinstance(asked.get("of", {}), dict)
        and [_is_number(asked[name]) for name in BOUNDS if name in asked] == [True]
    )
    if not is_right:
        raise ValueError(
            f"{where}: found {asked!r}, expected number, one of {', '.join(BOUNDS)} with a number, "
            f"and at will of (a mapping), file, and unit ({', '.join(filter(None, UNITS))})."
        )


def _judge(folder: Path, what: str, asked: dict[str, Any]) -> tuple[bool, str]:
    path, shown = folder / asked.get("file", "metrics.json"), UNITS[asked.get("unit", "")]
    bound = next(name for name in BOUNDS if name in asked)
    holds, strictest, words = BOUNDS[bound]
    value = read_number(path, asked["number"])
    limit, product = float(asked[bound]), ""
    if asked.get("of"):
        others = {
            label: read_number(path, other) if isinstance(other, str) else float(other)
            for label, other in asked["of"].items()
        }
        beside = ", ".join(f"{label} {shown.format(other)}" for label, other in others.items())
        product = f" ({limit:g} x {beside})"
        limit *= strictest(others.values())
    line = f"{what}: {shown.format(value)}; learnt is {words.format(shown.format(limit))}{product}."
    return holds(value, limit), line


def read_number(path: str | Path, name: str) -> float:
    """The number under `name`, dotted as in `agents.random.sr`, of a JSON file.

    Raises ValueError that names the file for one that is missing or no JSON, and also the name if
    there is no number under it.
    """
    found: Any = read_json(Path(path), dict, "what a demo measured, written at its end")
    for part in name.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    if not _is_number(found):
        raise ValueError(f"{path}, {name}: found {found!r}, expected a number.")
    return float(found)


def _is_number(found: object) -> bool:
    is_one = isinstance(found, int | float) and not isinstance(found, bool)
    return is_one and math.isfinite(found)
