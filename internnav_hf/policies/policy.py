"""The bases of policies, one for each benchmark.

    InstructionPolicy    follows a text: `start(instruction)`, then `steps(episodes, observations)`
    GoalPolicy           drives to a goal: `start()`, then `steps(episodes, observations, goals)`

`steps` answers for any number of robots, each with its episode, in one call of the model; `reset`
and `act` are the same for a single robot. An observation is a dict: `rgb` (H, W, 3) uint8 always,
`depth` (H, W) in metres, `pose` (x, y, yaw) and look-down views if a policy uses them. A bad
observation, instruction or goal of one robot is a ValueError that changes nothing for any robot:
the corrected call gives the same answer as without the error.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from internnav_hf.camera import CameraSpec, cameras_of
from internnav_hf.policies.goals import Goal

Observation = dict[str, Any]


class Policy(ABC):
    """Common part of both kinds. `model` is the network, already in evaluation mode; its
    `processor`, or without one its configuration, stores the cameras of the training.
    """

    model: Any
    processor: Any = None
    episode: Any = None

    @classmethod
    @abstractmethod
    def from_pretrained(cls, path: Any, **kwargs: Any) -> Any:
        """Load from a folder, Hub name or released file; `kwargs` are settings of the policy and
        arguments for loading the model.
        """

    @property
    def cameras(self) -> tuple[CameraSpec, ...]:
        """The cameras that the model was trained with; empty if they are not stored."""
        return cameras_of((self.model.config if self.processor is None else self.processor).camera)

    @property
    def camera(self) -> CameraSpec | None:
        """The first of `cameras`."""
        return next(iter(self.cameras), None)


class InstructionStep(Protocol):
    """Answer of an instruction policy."""

    @property
    def actions(self) -> tuple[int, ...]:
        """Numbers of VLN-CE, to be taken one after the other: 0 stop, 1 forward 0.25 m, 2 left 15°,
        3 right 15°. Empty if the answer is a goal for another policy to reach.
        """
        ...


class InstructionPolicy(Policy):
    """Follows an instruction."""

    @abstractmethod
    def start(self, instruction: str, name: str = "") -> Any:
        """A new episode of one robot; `name` seeds its random numbers, if the policy draws any."""

    @abstractmethod
    def steps(self, episodes: Sequence[Any], observations: Sequence[Observation]) -> Sequence[Any]:
        """The next step of each robot, an `InstructionStep`."""

    def reset(self, instruction: str) -> None:
        """Start the episode of a single robot."""
        self.episode = self.start(instruction)

    def act(self, observation: Observation) -> Any:
        """The next step of the single robot, given its observation."""
        return self.steps([self.episode], [observation])[0]


class GoalStep(Protocol):
    """Answer of a goal policy, in metres in the robot's current frame (x forward, y left)."""

    @property
    def path(self) -> np.ndarray:
        """The path (K, 2) to drive, from (0, 0)."""
        ...

    @property
    def trajectories(self) -> np.ndarray | None:
        """All samples (N, K, 2), best first; None if the policy draws no samples."""
        ...

    @property
    def values(self) -> np.ndarray | None:
        """Values (N,) of `trajectories`, higher is better; None without a critic."""
        ...

    @property
    def motion(self) -> tuple[float, float] | None:
        """The step that is meant, metres ahead and radians to the left, after which the policy asks
        to see again; None: it may be asked anywhere along `path`.
        """
        ...


@dataclass(frozen=True)
class DrivenPath:
    """What all answers of goal policies have: `path`, see `GoalStep`."""

    path: np.ndarray

    @property
    def is_stop(self) -> bool:
        """Whether the path is to stay."""
        return not self.path.any()

    @property
    def motion(self) -> None:
        """No step in particular."""
        return None


class GoalPolicy(Policy):
    """Drives to a goal. One that `remembers_views` has `observe(episode, observation)` for frames
    between two plans, and its `steps` take `observed`, whether these observations were passed to it
    before.
    """

    needs_depth: ClassVar[bool] = True
    remembers_views: ClassVar[bool] = False

    @property
    @abstractmethod
    def goal_kinds(self) -> Collection[str]:
        """The `kind` of each goal that the model was trained for: "point", "image", "pixel", "map",
        "none" (exploration).
        """

    @property
    def needs_semantics(self) -> bool:
        """Whether observations need `semantics`, pictures (H, W, 3) in the colours of classes."""
        return False

    @abstractmethod
    def start(self, name: str = "") -> Any:
        """A new episode of one robot; `name` seeds its random numbers, if the policy draws any."""

    @abstractmethod
    def steps(
        self, episodes: Sequence[Any], observations: Sequence[Observation], goals: Sequence[Goal]
    ) -> Sequence[Any]:
        """The next path of each robot, a `GoalStep`."""

    def reset(self) -> None:
        """Start the episode of a single robot."""
        self.episode = self.start()

    def act(self, observation: Observation, goal: Goal) -> Any:
        """The single robot's path towards `goal`, given its observation."""
        return self.steps([self.episode], [observation], [goal])[0]
