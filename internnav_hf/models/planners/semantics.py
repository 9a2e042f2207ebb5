"""ViPlanner's classes of what a robot sees: their colours in semantic images, and what they cost.

`coco_to_class` says which class stands for each panoptic class of COCO. The published table was
made by comparing parts of words, so that it holds "cardboard" for a vehicle, and cabinets for
something that moves; `by_substring` is that table, what is obviously meant is the default.
"""

import json
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

OBSTACLE_COST = 2.0
# Classes of COCO of which the published table makes something else than what the word says.
_MEANT = {
    "cabinet-merged": "furniture",
    "carrot": "dynamic",
    "cardboard": "dynamic",
    "hot dog": "dynamic",
    "teddy bear": "dynamic",
    "railroad": "on_rails",
    "sandwich": "dynamic",
    "snowboard": "dynamic",
}


class SemanticClass(NamedTuple):
    """`colour` in semantic images, `cost` of driving there, whether it is `ground`."""

    name: str
    colour: tuple[int, int, int]
    cost: float
    ground: bool


@cache
def semantic_classes() -> tuple[SemanticClass, ...]:
    """The 34 published classes; a few pairs of them share a colour and a cost."""
    return tuple(
        SemanticClass(row["name"], tuple(row["colour"]), float(row["loss"]), row["ground"])
        for row in _table()["classes"]
    )


@cache
def class_colours() -> np.ndarray:
    """(34, 3) uint8, of `semantic_classes`."""
    return np.array([one.colour for one in semantic_classes()], np.uint8)


def class_named(name: str) -> SemanticClass:
    """The class of that name."""
    return next(one for one in semantic_classes() if one.name == name)


def coco_to_class(by_substring: bool = False) -> dict[str, str]:
    """Names of COCO's 133 panoptic classes, and the class that stands for each."""
    published = _table()["coco_to_class"]
    return published if by_substring else published | _MEANT


@cache
def _table() -> dict:
    return json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
