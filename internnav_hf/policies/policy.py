"""Interfaces of policies: two protocols, one for each benchmark.

    InstructionPolicy    follows a text: `start(instruction)`, then `steps(episodes, observations)`
    GoalPolicy           drives to a goal: `start()`, then `steps(episodes, observations, goals)`

`steps` answers for any number of robots, each with its episode, in one call of the model; `reset`
and `act` are the same for a single robot. An observation is a dict: `rgb` (H, W, 3) uint8 always,
`depth` (H, W) in metres, `pose` (x, y, yaw) and look-down views if a policy uses them. A bad
observation, instruction or goal of one robot is a ValueError that changes nothing for any robot.
"""

from collections.abc import Collection, Sequence
from typing import Any, Protocol

import numpy as np

from internnav_hf.camera import CameraSpec
from internnav_hf.policies.goals import Goal

Observation = dict[str, Any]


class Policy(Protocol):
    """Common part of both kinds. `model` is the network, already in evaluation mode."""

    model: Any

    @classmethod
    def from_pretrained(cls, path: Any, **kwargs: Any) -> Any:
        """Load from a folder, Hub name or released file; `kwargs` are settings of the policy and
        arguments for loading the model.
        """
        ...

    @property
    def cameras(self) -> tuple[CameraSpec, ...]:
        """The cameras that the model was trained with; empty if they are not known."""
        ...

    @property
    def camera(self) -> CameraSpec | None:
        """The first of `cameras`."""
        ...


class InstructionStep(Protocol):
    """Answer of an instruction policy."""

    @property
    def actions(self) -> tuple[int, ...]:
        """Numbers of VLN-CE, to be taken one after the other: 0 stop, 1 forward 0.25 m, 2 left 15°,
        3 right 15°. Empty if the answer is a goal for another policy to reach.
        """
        ...


class InstructionPolicy(Policy, Protocol):
    """Follows an instruction."""

    def start(self, instruction: str, name: str = "") -> Any:
        """A new episode of one robot; `name` seeds its random numbers, if the policy draws any."""
        ...

    def steps(
        self, episodes: Sequence[Any], observations: Sequence[Observation]
    ) -> Sequence[InstructionStep]:
        """The next step of each robot."""
        ...

    def reset(self, instruction: str) -> None:
        """Start the episode of a single robot."""
        ...

    def act(self, observation: Observation) -> InstructionStep:
        """The next step of the single robot."""
        ...


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


class GoalPolicy(Policy, Protocol):
    """Drives to a goal."""

    @property
    def goal_kinds(self) -> Collection[str]:
        """The `kind` of each goal that the model was trained for: "point", "image", "pixel", "none"
        (exploration).
        """
        ...

    def start(self, name: str = "") -> Any:
        """A new episode of one robot; `name` seeds its random numbers, if the policy draws any."""
        ...

    def steps(
        self, episodes: Sequence[Any], observations: Sequence[Observation], goals: Sequence[Goal]
    ) -> Sequence[GoalStep]:
        """The next path of each robot."""
        ...

    def reset(self) -> None:
        """Start the episode of a single robot."""
        ...

    def act(self, observation: Observation, goal: Goal) -> GoalStep:
        """The next path of the single robot."""
        ...
