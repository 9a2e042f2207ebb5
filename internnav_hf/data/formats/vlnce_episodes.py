"""Reader of VLN-CE's raw episodes, `train.json.gz` and its like, of R2R and RxR: where to start,
the instruction, the path that it describes. Nothing recorded.

    {"episodes": [{"episode_id": 7, "trajectory_id": 3, "scene_id": "mp3d/X/X.glb",
                   "start_position": [x, y, z], "start_rotation": [x, y, z, w],
                   "goals": [{"position": [x, y, z], "radius": 3.0}], "reference_path": [...],
                   "info": {"geodesic_distance": 9.1},
                   "instruction": {"instruction_text": "...", "instruction_tokens": [...]}}],
     "instruction_vocab": {"word_list": [...]}}

RxR's instructions have an id, a language and timed words (not read), and no ids of words. Frames
are Habitat's: x right, y up, z back, metres. Test splits have neither goal nor path.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from internnav_hf.data.readers.errors import broken, shown
from internnav_hf.data.readers.json_files import check_text, read_json, word_ids


@dataclass(frozen=True, eq=False)
class VLNCEEpisode:
    """`start_rotation` is a quaternion (x, y, z, w); `reference_path` (N, 3) and the goal are None
    in a test split. `instruction_id` and `language` are RxR's, `instruction_tokens` R2R's.
    """

    episode_id: str
    trajectory_id: str
    scene_id: str
    instruction: str
    start_position: np.ndarray
    start_rotation: np.ndarray
    goal_position: np.ndarray | None = None
    goal_radius: float | None = None
    geodesic_distance: float | None = None
    reference_path: np.ndarray | None = None
    instruction_tokens: tuple[int, ...] = ()
    instruction_id: str | None = None
    language: str | None = None


def read_vlnce_episodes(path: str | Path) -> list[VLNCEEpisode]:
    """Return all episodes of a file, in its order."""
    path = Path(path)
    episodes = read_json(path).get("episodes")
    if not isinstance(episodes, list) or not episodes:
        raise broken(path, "episodes", shown(episodes), "a list of episodes")
    return [_parsed(f"{path}, episode {i}", entry) for i, entry in enumerate(episodes)]


def _parsed(where: str, entry: Any) -> VLNCEEpisode:
    if not isinstance(entry, dict):
        raise broken(where, "episode", shown(entry), "a JSON object")
    instruction = entry.get("instruction")
    text = instruction.get("instruction_text") if isinstance(instruction, dict) else None
    check_text(where, "instruction_text", text)
    goals, info = entry.get("goals") or [{}], entry.get("info") or {}
    if not isinstance(goals, list) or not isinstance(goals[0], dict):
        raise broken(where, "goals", shown(goals), "a list of objects")
    if not isinstance(info, dict):
        raise broken(where, "info", shown(info), "an object")
    goal, path = goals[0], entry.get("reference_path")
    return VLNCEEpisode(
        episode_id=_word(where, entry, "episode_id"),
        trajectory_id=_word(where, entry, "trajectory_id"),
        scene_id=_word(where, entry, "scene_id"),
        instruction=text,
        start_position=_numbers(where, entry, "start_position", (3,)),
        start_rotation=_numbers(where, entry, "start_rotation", (4,)),
        goal_position=_numbers(where, goal, "position", (3,)) if goal else None,
        goal_radius=_metres(where, goal, "radius"),
        geodesic_distance=_metres(where, info, "geodesic_distance"),
        reference_path=_numbers(where, entry, "reference_path", (-1, 3)) if path else None,
        instruction_tokens=tuple(word_ids(where, instruction)),
        instruction_id=_optional(instruction, "instruction_id"),
        language=_optional(instruction, "language"),
    )


def _word(where: str, entry: Mapping[str, Any], field: str) -> str:
    if not isinstance(entry.get(field), str | int):
        raise broken(where, field, shown(entry.get(field)), "a name or number")
    return str(entry[field])


def _metres(where: str, entry: Mapping[str, Any], field: str) -> float | None:
    value = entry.get(field)
    if value is not None and not (type(value) in (int, float) and value >= 0):
        raise broken(where, field, shown(value), "metres, or nothing")
    return value


def _optional(instruction: Mapping[str, Any], field: str) -> str | None:
    return None if instruction.get(field) is None else str(instruction[field])


def _numbers(
    where: str, entry: Mapping[str, Any], field: str, shape: tuple[int, ...]
) -> np.ndarray:
    try:
        values = np.asarray(entry[field], dtype=np.float64)
        fits = values.reshape(shape).shape == values.shape and np.isfinite(values).all()
    except (KeyError, ValueError, TypeError) as error:
        found = f"{shown(entry.get(field))} ({error!r})"
        raise broken(where, field, found, f"numbers of shape {shape}") from error
    if not fits:
        raise broken(where, field, shown(entry[field]), f"numbers of shape {shape}")
    return values
