"""Templated instructions: a first turn, the route, the object to stop at.

They mention what is visible: the named object, doors on the path, furniture that is passed. Words
are few and common, so that a small model can learn them from a small dataset.
"""

import numpy as np

from internnav_hf.geometry import wrap_angle
from internnav_hf.sim.scenes import Scene, SceneObject
from internnav_hf.trajectory import chord_length

_FACING = np.radians(35.0)
"""Within this angle of the heading the path lies ahead, and the instruction has no turn."""
_BEHIND = np.radians(150.0)
_PASSED_WITHIN_M = 1.2
_PATH_SPACING_M = 0.2

_ENDINGS = (
    "{walk} to the {goal} and stop",
    "{walk} to the {goal}, then wait there",
    "{walk} towards the {goal} and stop in front of it",
)
_WALKS = ("walk", "go")


def describe(
    scene: Scene,
    path: np.ndarray,
    yaw: float,
    goal: SceneObject | None,
    rng: np.random.Generator,
    num_instructions: int = 2,
) -> tuple[str, ...]:
    """At most `num_instructions` (up to 3) for `path` (N, 2), starting with heading `yaw`.

    The first is the plainest; the others also name furniture that is passed.
    """
    if goal is None:
        return (_sentence([*_turn(path, yaw), *_route(path)]),)
    doors, passed = _through_doors(scene, path), _past_furniture(scene, path, goal)
    texts: list[str] = []
    for number, ending in enumerate(rng.permutation(len(_ENDINGS))[:num_instructions]):
        walk = _WALKS[int(rng.integers(len(_WALKS)))]
        last = _ENDINGS[ending].format(walk=walk, goal=goal.name)
        texts.append(_sentence([*_turn(path, yaw), *(doors or (passed if number else [])), last]))
    return tuple(texts)


def _sentence(parts: list[str]) -> str:
    text = parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + f", then {parts[-1]}"
    return f"{text[0].upper()}{text[1:]}."


def _turn(path: np.ndarray, yaw: float) -> list[str]:
    ahead = path[1] - path[0] if len(path) > 1 else np.array([np.cos(yaw), np.sin(yaw)])
    bearing = float(wrap_angle(np.arctan2(ahead[1], ahead[0]) - yaw))
    if abs(bearing) <= _FACING:
        return []
    if abs(bearing) >= _BEHIND:
        return [f"turn around to the {'left' if bearing > 0 else 'right'}"]
    return [f"turn {'left' if bearing > 0 else 'right'}"]


def _through_doors(scene: Scene, path: np.ndarray) -> list[str]:
    crossed = sum(
        bool((np.linalg.norm(_densify(path) - np.array(door.center), axis=1) < 0.6).any())
        for door in scene.doors
    )
    starts, ends = scene.room_at(path[0]), scene.room_at(path[-1])
    if not crossed or starts == ends:
        return []
    number = _NUMBERS.get(crossed, "several")
    return ["go through the door"] if crossed == 1 else [f"go through {number} doors"]


_NUMBERS = {2: "two", 3: "three", 4: "four", 5: "five"}


def _past_furniture(scene: Scene, path: np.ndarray, goal: SceneObject) -> list[str]:
    """The piece of furniture closest to the middle of a long path."""
    dense = _densify(path)
    middle = dense[len(dense) // 4 : 3 * len(dense) // 4]
    others = [thing for thing in scene.objects if thing.instance_id != goal.instance_id]
    if len(middle) * _PATH_SPACING_M < 1.5 or not others:
        return []
    distances = [float(thing.distance(middle).min()) for thing in others]
    nearest = int(np.argmin(distances))
    return [f"pass the {others[nearest].name}"] if distances[nearest] < _PASSED_WITHIN_M else []


def _route(path: np.ndarray) -> list[str]:
    """Metres and turns, for a scene without named objects."""
    parts, legs = [], np.diff(path, axis=0)
    headings = np.arctan2(legs[:, 1], legs[:, 0])
    for index, leg in enumerate(legs):
        if index:
            turn = float(wrap_angle(headings[index] - headings[index - 1]))
            parts.append(f"turn {'left' if turn > 0 else 'right'}")
        parts.append(f"walk {max(1, round(float(np.linalg.norm(leg))))} meters")
    return [*parts, "stop"]


def _densify(path: np.ndarray) -> np.ndarray:
    """Points (M, 2) every `_PATH_SPACING_M` along the path."""
    if len(path) < 2:
        return path
    lengths = chord_length(path)
    at = np.arange(0, lengths[-1], _PATH_SPACING_M)
    return np.stack([np.interp(at, lengths, path[:, axis]) for axis in (0, 1)], axis=1)
