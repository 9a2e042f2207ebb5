"""Which decisions System2 learns from an episode: the published rules as pure functions of its
columns.

Every `sample_step` frames the expert is asked what to do. Where the data names a waypoint at least
three frames ahead, the answer is its pixel; where it names none and the next action is a turn, the
answer is the turns up to the next step forward; at the last frame the answer is STOP. All other
frames are passed over, and so are episodes of fewer than four frames.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from internnav_hf.geometry import Action

MIN_EPISODE_LENGTH = 4
MIN_GOAL_DISTANCE_FRAMES = 3

PIXEL_GOAL, TURN, STOP = 0, 1, 2  # answer classes, equal to AnswerKind of the dialogue


@dataclass(frozen=True)
class SamplingRules:
    """`stop_repeat`: how often the list of stops is repeated; `pixel_goal_only` leaves turns and
    stops out; `needs_depth`: an episode without depth images of the look-down view is broken.
    """

    sample_step: int = 4
    num_future_steps: int = 4
    stop_repeat: int = 5
    pixel_goal_only: bool = False
    needs_depth: bool = False

    def __post_init__(self):
        for name in ("sample_step", "num_future_steps", "stop_repeat"):
            lowest = 0 if name == "stop_repeat" else 1
            if getattr(self, name) < lowest:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least {lowest}")


class Sample(NamedTuple):
    """One decision. `end_frame` is exclusive: a pixel goal is the camera's place at frame
    `end_frame - 1`.
    """

    frame_index: int
    end_frame: int
    answer_class: int
    goal_u: int = -1
    goal_v: int = -1
    actions: tuple[int, ...] = ()


def sample_episode(
    actions: np.ndarray, relative_goal: np.ndarray, goal: np.ndarray, rules: SamplingRules
) -> list[Sample]:
    """Decisions in frame order, the stop last and once.

    `actions` (T,) leave each frame (see `next_actions`), `relative_goal` (T,) frames ahead or -1,
    `goal` (T, 2) [u, v] px.
    """
    length = len(actions)
    if length < MIN_EPISODE_LENGTH:
        return []
    samples = []
    for frame in range(0, length - 1, rules.sample_step):
        ahead = int(relative_goal[frame])
        if ahead >= MIN_GOAL_DISTANCE_FRAMES:
            u, v = (int(value) for value in goal[frame])
            samples.append(Sample(frame, frame + ahead + 1, PIXEL_GOAL, u, v))
        elif ahead == -1 and actions[frame] != Action.FORWARD:
            turns = turns_before_forward(actions[frame : frame + rules.num_future_steps])
            samples.append(Sample(frame, frame + 1, TURN, actions=turns))
    samples.append(Sample(length - 1, length, STOP, actions=(int(Action.STOP),)))
    return samples


def turns_before_forward(actions: np.ndarray) -> tuple[int, ...]:
    """May end in STOP, where the episode does."""
    turns = []
    for action in actions.tolist():
        if action == Action.FORWARD:
            break
        turns.append(action)
    return tuple(turns)


def history_indices(frame_index: int, num_history: int) -> np.ndarray:
    """Frames before `frame_index` to remember, evenly spread and ascending; fewer than
    `num_history` near the start.
    """
    if frame_index == 0 or num_history == 0:
        return np.zeros(0, np.int32)
    return np.unique(np.linspace(0, frame_index - 1, num_history).astype(np.int32))


def subsample(num_samples: int, percent: int, seed: int | tuple[int, ...]) -> np.ndarray:
    """Sorted indices of int(num_samples * percent / 100) samples, the same on every rank."""
    keep = int(num_samples * percent / 100)
    chosen = np.random.default_rng(seed).choice(num_samples, size=keep, replace=False)
    return np.sort(chosen)
