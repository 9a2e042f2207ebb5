"""What an evaluation remembers: decisions and rollouts, and their form in `rollouts.jsonl`."""

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np

STEP = "STEP"
PLAN = "PLAN"
MOST_SHOWN = 8  # decisions of an episode, in a report


@dataclass
class DecisionRecord:
    """One answer of System2, or one plan of a System1.

    `step` counts the actions taken before it. `view` is a JPEG of what System2 pointed in (the
    look-down view, whose pixels `goal_pixel` means) or judged (the ordinary view). Of a dual
    system, `trajectories` are the samples that the answer led to first, and `values` what a critic
    gives them, if there is one: the best comes first then. Views, heatmaps and trajectories of the
    episodes that the report draws are kept, the view as the file `image` in the output folder.

    Of a model that decides at every step some steps are remembered: `kind` is `STEP`, and the view
    does not look down. Plans of visual navigation are `PLAN`.
    """

    step: int
    kind: str  # name of an AnswerKind, STEP or PLAN
    text: str
    position: tuple[float, float]
    goal_pixel: tuple[float, float] | None = None
    goal_position: tuple[float, float] | None = None  # where the follower went, world frame
    goal_confidence: float | None = None
    image: str | None = None
    heatmap: list | None = None  # rows x columns
    yaw: float = 0.0
    trajectories: list | None = None  # samples x points x 2, metres, world frame
    values: list | None = None  # one a trajectory
    view: bytes | None = field(default=None, repr=False)


@dataclass
class StoredRollout(ABC):
    """An episode of any benchmark, in a form that JSON knows. T actions or control steps.

    positions (T + 1, 2) metres, world frame; collisions (T,) bool; reference_path (N, 2) metres.
    """

    agent: str
    scene: str
    episode_id: str
    positions: np.ndarray
    collisions: np.ndarray
    reference_path: np.ndarray
    decisions: list[DecisionRecord] = field(default_factory=list, kw_only=True)

    @property
    def episode(self) -> tuple[str, str]:
        """The same for all agents."""
        return self.scene, self.episode_id

    @property
    @abstractmethod
    def goal_xy(self) -> tuple[float, float] | None:
        """Metres in the world, if there is a goal."""

    @property
    @abstractmethod
    def outcome(self) -> str:
        """How it ended, in words."""

    @abstractmethod
    def is_success(self, success_distance: float) -> bool:
        """Success by the rule of its benchmark."""

    def to_dict(self) -> dict:
        """JSON-ready values; views stay out."""
        values = asdict(self)
        for decision in values["decisions"]:
            del decision["view"]
        arrays = {name: v.tolist() for name, v in values.items() if isinstance(v, np.ndarray)}
        return values | arrays

    @classmethod
    def from_dict(cls, values: dict) -> Any:
        """The rollout that `to_dict` wrote."""
        arrays = {
            item.name: np.asarray(values[item.name])
            for item in fields(cls)
            if item.type is np.ndarray
        }
        for name, array in arrays.items():
            if array.dtype.kind not in "bif":
                raise ValueError(f"{name} holds no numbers")
        decisions = [DecisionRecord(**decision) for decision in values["decisions"]]
        return cls(**(values | arrays | {"decisions": decisions}))


@dataclass
class Rollout(StoredRollout):
    """An episode of instruction following.

    goal_distances (T + 1,) geodesic metres; actions (T,) Action. `shortest_distance` is the exact
    length of the shortest path from start to goal; None: the first of goal_distances.
    """

    instruction: str
    goal_distances: np.ndarray
    actions: np.ndarray
    goal_position: tuple[float, float]
    stop_called: bool
    shortest_distance: float | None = None
    num_unparsable: int = 0

    @property
    def goal_xy(self) -> tuple[float, float]:
        """Metres in the world."""
        return self.goal_position

    @property
    def outcome(self) -> str:
        """How it ended, in words."""
        return "stopped by itself" if self.stop_called else "ran out of steps"

    def is_success(self, success_distance: float) -> bool:
        """It stopped by itself, close enough to the goal."""
        return self.stop_called and bool(self.goal_distances[-1] < success_distance)


def spread(decisions: list[DecisionRecord]) -> list[DecisionRecord]:
    """At most `MOST_SHOWN` of them, evenly spread, the first and the last among them."""
    places = np.linspace(0, len(decisions) - 1, min(MOST_SHOWN, len(decisions)))
    return [decisions[i] for i in np.unique(places.round().astype(int))]
