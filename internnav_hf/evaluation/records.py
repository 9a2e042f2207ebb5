"""What an evaluation remembers: decisions and rollouts, and their form in `rollouts.jsonl`."""

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np

STEP = "STEP"


@dataclass
class DecisionRecord:
    """One answer of System2, or one plan of a System1.

    `step` counts the actions taken before it. `view` is a JPEG of what System2 pointed in (the
    look-down view, whose pixels `goal_pixel` means) or judged (the ordinary view). Of a dual
    system, `trajectories` are the samples that the answer led to first, and `values` what a critic
    gives them, if there is one: the best comes first then. Views, heatmaps and trajectories of the
    episodes that the report draws are kept, the view as the file `image` in the output folder.

    Of a model that decides at every step some steps are remembered: `kind` is `STEP`, and the view
    does not look down.
    """

    step: int
    kind: str  # name of an AnswerKind, or STEP
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

    @property
    def looks_down(self) -> bool:
        """Whether trajectories are to be drawn in a view at the look-down pitch."""
        return self.kind != STEP


@dataclass
class StoredRollout(ABC):
    """An episode of any benchmark, in a form that JSON knows."""

    agent: str
    scene: str
    episode_id: str
    decisions: list[DecisionRecord] = field(default_factory=list, kw_only=True)

    @abstractmethod
    def is_success(self, success_distance: float) -> bool:
        """By the rule of its benchmark."""

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
    """One episode as an agent walked it. T actions, T + 1 positions.

    positions (T + 1, 2) metres, world frame; goal_distances (T + 1,) geodesic metres;
    collisions (T,) bool; actions (T,) Action; reference_path (N, 2) metres. `shortest_distance`
    is the episode's exact way from start to goal; None: the first of goal_distances.
    """

    instruction: str
    positions: np.ndarray
    goal_distances: np.ndarray
    collisions: np.ndarray
    actions: np.ndarray
    reference_path: np.ndarray
    goal_position: tuple[float, float]
    stop_called: bool
    shortest_distance: float | None = None
    num_unparsable: int = 0

    def is_success(self, success_distance: float) -> bool:
        """It stopped by itself, close enough to the goal."""
        return self.stop_called and bool(self.goal_distances[-1] < success_distance)
