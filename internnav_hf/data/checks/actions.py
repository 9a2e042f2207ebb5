"""Checks that an episode's actions can have led to its frames, as the poses show the real motions.

Between two frames a robot went forward, turned left, turned right, or did nothing clear (it stood,
slid along a wall, was pushed); only clear motions count. If the actions contradict them, other
readings are tried: shifted by a frame either way, and other numbers for the same motions. One that
explains nearly all of what the documented reading does not is named in the error; if there is none,
the documented one must fit most motions. So a few odd frames, collisions, turns of 15 or 30 degrees
and robots that move unevenly pass.

Decided for each episode, and for all of a scene together, as an episode of few turns proves little.
An error of all together does not apply to an episode that proves its own reading.

T frames; N transitions from a frame to the next.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

import numpy as np

from internnav_hf.data.readers.errors import Key, broken
from internnav_hf.geometry import FORWARD_STEP_M, TURN_STEP, Action, wrap_angle

START = -1
MOVES = np.array([Action.FORWARD, Action.TURN_LEFT, Action.TURN_RIGHT])
MOVE_NAMES = ("forward", "left", "right")
CLEAR = 0.4  # share of a step or of a turn of 15 degrees
CLEARER = 2.0  # times the other kind of motion
EXPLAINED = 0.85  # share of clear motions that an accepted reading explains
LEAST_GAINED = 4  # motions that only the other reading explains; five times those it loses
FITS_BADLY, ENOUGH = 0.6, 8  # share of how many clear motions that must fit at least
SHIFTS = (0, -1, 1)
NUM_LABELS = 6

AT_FRAME = "these are the actions taken AT each frame"
LED_TO_FRAME = "these are the actions that LED TO each frame"
TOO_EARLY, TOO_LATE = "each stands a frame too early", "each stands a frame too late"


@dataclass(frozen=True, eq=False)
class Transitions:
    """`labels` (3, N): the action between two frames at each of `SHIFTS`; `moves` (N,): 0, 1, 2 for
    forward, left, right, -1 if not clear; `frames` (N,): the later frame of each transition.
    """

    labels: np.ndarray
    moves: np.ndarray
    frames: np.ndarray

    @classmethod
    def of(cls, led: np.ndarray, poses: np.ndarray) -> "Transitions":
        """Build from actions (T,) that led to frames with poses (T, 3): x, y, yaw of the robot."""
        moves = clear_moves(poses)
        padded = np.concatenate([led, [START]])
        frames = np.arange(1, len(led))
        labels = np.stack([padded[frames + shift] for shift in SHIFTS])
        return cls(labels, moves, frames)

    def clear(self) -> "Transitions":
        """Return the transitions whose motion is clear."""
        is_clear = self.moves >= 0
        if is_clear.all():
            return self
        return Transitions(self.labels[:, is_clear], self.moves[is_clear], self.frames[is_clear])

    @classmethod
    def joined(cls, parts: "Iterable[Transitions]") -> "Transitions":
        """Concatenate the transitions of several episodes."""
        parts = list(parts)
        names = ("labels", "moves", "frames")
        arrays = [np.concatenate([getattr(p, n) for p in parts], axis=-1) for n in names]
        return cls(*arrays)


@dataclass(frozen=True)
class Reading:
    """A reading of the actions: shift in frames, and the numbers for forward, left and right."""

    shift: int
    numbers: tuple[int, int, int]

    def explains(self, transitions: Transitions) -> np.ndarray:
        """Return (N,) bool: which clear transitions this reading explains."""
        meant = np.array(self.numbers)[transitions.moves]
        return transitions.labels[SHIFTS.index(self.shift)] == meant

    def words(self, shifts: Mapping[int, str]) -> str:
        """Describe this reading for a message."""
        told = []
        if self.shift:
            told.append(f"shifted by one: {shifts[self.shift]}")
        if self.numbers == (Action.FORWARD, Action.TURN_RIGHT, Action.TURN_LEFT):
            told.append("with left and right swapped")
        elif self.numbers != AS_DOCUMENTED.numbers:
            pairs = zip(self.numbers, MOVE_NAMES, strict=True)
            told.append("if " + ", ".join(f"{number} is {name}" for number, name in pairs))
        return "they fit " + " and ".join(told)


AS_DOCUMENTED = Reading(0, (1, 2, 3))
_NUMBERS = np.array(list(permutations(range(NUM_LABELS), 3)))


def clear_moves(poses: np.ndarray) -> np.ndarray:
    """Return (N,) 0, 1, 2 for forward, left, right between poses (T, 3) x, y, yaw; else -1."""
    went = np.linalg.norm(np.diff(poses[:, :2], axis=0), axis=1) / FORWARD_STEP_M
    turned = np.asarray(wrap_angle(np.diff(poses[:, 2]))) / TURN_STEP
    forward = (went > CLEAR) & (went > CLEARER * np.abs(turned))
    turns = (np.abs(turned) > CLEAR) & (np.abs(turned) > CLEARER * went)
    moves = np.where(turns, np.where(turned > 0, 1, 2), -1)
    return np.where(forward, 0, moves)


def better_reading(transitions: Transitions) -> Reading | None:
    """Return a reading that explains nearly all, and much that the documented one does not."""
    some = transitions.clear()
    right = AS_DOCUMENTED.explains(some)
    if (~right).sum() < LEAST_GAINED:
        return None
    for reading in _readings(some):
        explained = reading.explains(some)
        gained, lost = (explained & ~right).sum(), (right & ~explained).sum()
        is_better = gained >= max(LEAST_GAINED, 5 * lost)
        if is_better and explained.mean() >= EXPLAINED:
            return reading
    return None


def _readings(some: Transitions) -> Iterable[Reading]:
    """Yield shifts, then swapped turns, then the best numbers at each shift."""
    for numbers in ((1, 2, 3), (1, 3, 2)):
        yield from (Reading(shift, numbers) for shift in SHIFTS)
    for shift, labels in zip(SHIFTS, some.labels, strict=True):
        inside = (labels >= 0) & (labels < NUM_LABELS)
        counts = np.zeros((NUM_LABELS, len(MOVES)), int)
        np.add.at(counts, (labels[inside], some.moves[inside]), 1)
        best = _NUMBERS[counts[_NUMBERS, range(len(MOVES))].sum(axis=1).argmax()]
        used = [number for number, move in zip(best, counts.T, strict=True) if move.any()]
        if len(used) == len(MOVES):
            yield Reading(shift, tuple(best.tolist()))


def hint(led: np.ndarray, poses: np.ndarray, shifts: Mapping[int, str]) -> str:
    """Return the end of an error about single actions: the reading that fits, if any."""
    reading = better_reading(Transitions.of(led, poses))
    return f"; {reading.words(shifts)}" if reading else ""


def check_agreement(
    transitions: Transitions, shifts: Mapping[int, str], path: Path | str, field: str
) -> None:
    """Raise ValueError if poses contradict the actions; `shifts` has a meaning for each shift."""
    some = transitions.clear()
    right = AS_DOCUMENTED.explains(some)
    reading = better_reading(some)
    if reading is None and (len(right) < ENOUGH or right.mean() >= FITS_BADLY):
        return
    first = int(np.argmin(right))
    label, move = some.labels[0, first], MOVE_NAMES[some.moves[first]]
    found = (
        f"{(~right).sum()} of {len(right)} actions that the poses contradict (to frame"
        f" {some.frames[first]} led {label}, and the robot went {move})"
    )
    expected = f"what the robot did; {reading.words(shifts) if reading else 'no shift fits'}"
    raise broken(path, field, found, expected)


def wrong_together(
    walks: Mapping[Key, Transitions],
    shifts: Mapping[int, str],
    path: Path | str,
    field: str,
) -> dict[Key, str]:
    """Return problems by episode if the poses contradict all of a scene taken together."""
    joined = Transitions.joined(walks.values()) if walks else None
    try:
        if joined is not None:
            check_agreement(joined, shifts, path, field)
        return {}
    except ValueError as error:
        reading = better_reading(joined)
        doubtful = [walk for walk, part in walks.items() if not _is_as_documented(part, reading)]
        return dict.fromkeys(doubtful, str(error))


def _is_as_documented(transitions: Transitions, other: Reading | None) -> bool:
    """Return whether an episode alone distinguishes the documented reading from the other."""
    some = transitions.clear()
    right = AS_DOCUMENTED.explains(some)
    explained = other.explains(some) if other else np.zeros_like(right)
    gained, lost = (right & ~explained).sum(), (explained & ~right).sum()
    return bool(gained >= max(LEAST_GAINED, 5 * lost) and right.mean() >= EXPLAINED)
