"""Renaming of weights: the parts that maps of released checkpoints are made of."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor

Names = Iterable[tuple[str, str | Callable[[re.Match[str]], str]]]
"""Patterns and their replacements, applied one after the other."""


def renamed(weights: Mapping[str, Tensor], names: Names) -> dict[str, Tensor]:
    """`weights` with `names` replaced in their keys; unknown keys stay, for strict loading."""
    found = {}
    for key, value in weights.items():
        for pattern, replacement in names:
            key = re.sub(pattern, replacement, key)
        found[key] = value
    return found


def below(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The weights whose keys start with `prefix`, without that prefix."""
    return {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}


def under(prefix: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`weights` with `prefix` before their keys."""
    return {prefix + key: value for key, value in weights.items()}


def without(weights: Mapping[str, Tensor], starts: tuple[str, ...]) -> dict[str, Tensor]:
    """`weights` but for those whose keys start with one of `starts`."""
    return {key: value for key, value in weights.items() if not key.startswith(starts)}


def in_three(weights: Mapping[str, Tensor], joint: str, parts: str) -> dict[str, Tensor]:
    """`weights` whose joint projections to queries, keys and values, with `joint` in their keys,
    are three with `parts` in its place, {} being q, k and v.
    """
    found = {}
    for key, value in weights.items():
        if joint in key:
            chunks = zip("qkv", value.chunk(3), strict=True)
            found |= {key.replace(joint, parts.format(letter)): part for letter, part in chunks}
        else:
            found[key] = value
    return found


def sizes(weights: Mapping[str, Tensor], places: Mapping[str, tuple[str, int]]) -> dict[str, Any]:
    """Fields of a configuration, each read from the shape of a tensor: key -> field, axis."""
    found = places.keys() & weights.keys()
    return {places[key][0]: weights[key].shape[places[key][1]] for key in found}


def count_layers(weights: Mapping[str, Tensor], pattern: str) -> int:
    """The number of different numbers that the group in `pattern` matches in keys."""
    return len({match[1] for key in weights if (match := re.match(pattern, key))})
