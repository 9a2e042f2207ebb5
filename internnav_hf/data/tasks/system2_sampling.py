"""Which decisions System2 learns from an episode: the published rules as pure functions of its
columns.

Every `sample_step` frames the expert is asked what to do. Where the data names a waypoint at least
three frames ahead, the answer is its pixel; where it names none and the next action is a turn, the
answer is the turns up to the next step forward; at the last frame, if the robot stops there, the
answer is STOP. All other frames are passed over, and so are episodes of fewer than four frames.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from internnav_hf.data.index import EpisodeTable
from internnav_hf.data.pixel_goals import derived_goals
from internnav_hf.data.rows import EpisodeRow
from internnav_hf.data.tables import build_once, described, open_table, table_of, write_table
from internnav_hf.geometry import Action
from internnav_hf.models.system2.dialogue import AnswerKind

SAMPLING_VERSION = 2  # part of the cache's name; raise it when rules or columns change
SAMPLES = "samples.arrow"
MIN_EPISODE_LENGTH = 4
MIN_GOAL_DISTANCE_FRAMES = 3

SAMPLE_SCHEMA = pa.schema(
    [
        described("episode", pa.int32(), "row of the episodes table"),
        described("instruction_index", pa.int16(), "which of the episode's instructions"),
        described("frame_index", pa.int32(), "the frame at which System2 is asked"),
        described(
            "end_frame", pa.int32(), "one past the last frame; a waypoint is reached before it"
        ),
        described("answer_class", pa.int8(), "0 pixel goal, 1 turn, 2 stop"),
        described("goal_u", pa.int16(), "pixel goal in the look-down image, -1 for none"),
        described("goal_v", pa.int16(), "pixel goal in the look-down image, -1 for none"),
        described("actions", pa.list_(pa.int8()), "answered actions of a turn or a stop"),
    ]
)


@dataclass(frozen=True)
class SamplingRules:
    """`stop_repeat`: how often the list of stops is repeated; `pixel_goal_only` leaves turns and
    stops out.
    """

    sample_step: int = 4
    num_future_steps: int = 4
    stop_repeat: int = 5
    pixel_goal_only: bool = False

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


def open_samples(
    table: EpisodeTable, rules: SamplingRules, data_root: Path, title: str, key: Sequence[str] = ()
) -> pa.Table:
    """Return decisions of all episodes of a cached table, from a cache folder beside it, which is
    filled first if needed. ValueError, with `title`, if there are none. `key` has what the samples
    depend on besides.
    """
    text = json.dumps([SAMPLING_VERSION, asdict(rules), *key])
    digest = hashlib.blake2b(text.encode(), digest_size=4).hexdigest()
    place = table.folder.with_name(f"{table.folder.name}-{digest}")

    def build(new) -> None:
        samples = sample_table(table.episodes, rules, data_root)
        if not samples.num_rows:
            raise ValueError(f"{title}: no sample in {table.num_episodes} episodes")
        write_table(samples, new / SAMPLES)

    build_once(place, build)
    return open_table(place / SAMPLES)


def sample_table(episodes: pa.Table, rules: SamplingRules, data_root: Path) -> pa.Table:
    """All pixel goals, then all turns, then the whole list of stops `stop_repeat` times: the
    published order. Pixel goals that an episode does not store follow from its poses and depth.
    """
    rows: list[tuple] = []
    for number in range(episodes.num_rows):
        episode = EpisodeRow(episodes, number, data_root)
        if episode.has("goals"):
            goals, ahead = episode.array("goals", 2), episode.array("goal_frames")
        else:
            goals, ahead = derived_goals(episode, rules.sample_step)
        found = sample_episode(episode.array("actions"), ahead, goals, rules)
        for instruction_index in range(len(episode["instructions"])):
            rows += [(number, instruction_index, *sample) for sample in found]
    samples = table_of(rows, SAMPLE_SCHEMA)
    kinds = (AnswerKind.PIXEL_GOAL, AnswerKind.TURN, AnswerKind.STOP)
    goals, turns, stops = (
        samples.filter(pc.equal(samples["answer_class"], int(kind))) for kind in kinds
    )
    if rules.pixel_goal_only:
        return goals
    return pa.concat_tables([goals, turns, *[stops] * rules.stop_repeat])


def shift_episodes(samples: pa.Table, first_episode: int) -> pa.Table:
    """Let `episode` point into a longer table, in which these samples' episodes start later."""
    field = SAMPLE_SCHEMA.field("episode")
    shifted = pa.array(samples["episode"].to_numpy() + np.int32(first_episode), field.type)
    return samples.set_column(0, field, shifted)


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
            samples.append(Sample(frame, frame + ahead + 1, AnswerKind.PIXEL_GOAL, u, v))
        elif ahead == -1 and actions[frame] != Action.FORWARD:
            turns = turns_before_forward(actions[frame : frame + rules.num_future_steps])
            samples.append(Sample(frame, frame + 1, AnswerKind.TURN, actions=turns))
    if actions[-1] == Action.STOP:  # otherwise the robot got stuck or fell
        samples.append(Sample(length - 1, length, AnswerKind.STOP, actions=(int(Action.STOP),)))
    return samples


def turns_before_forward(actions: np.ndarray) -> tuple[int, ...]:
    """Return the turns; they end in STOP if the episode does."""
    turns = []
    for action in actions.tolist():
        if action == Action.FORWARD:
            break
        turns.append(action)
    return tuple(turns)


def history_indices(frame_index: int, num_history: int) -> np.ndarray:
    """Return history frames before `frame_index`, evenly spread and ascending; fewer than
    `num_history` near the start.
    """
    if frame_index == 0 or num_history == 0:
        return np.zeros(0, np.int32)
    return np.unique(np.linspace(0, frame_index - 1, num_history).astype(np.int32))


def subsample(num_samples: int, percent: int, seed: int | tuple[int, ...]) -> np.ndarray:
    """Draw sorted indices of int(num_samples * percent / 100) samples, the same on every rank."""
    keep = int(num_samples * percent / 100)
    chosen = np.random.default_rng(seed).choice(num_samples, size=keep, replace=False)
    return np.sort(chosen)
