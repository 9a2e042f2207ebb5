"""System2 and NavDP in the simulator, decoupled: System2 points, NavDP moves there.

The published "InternVLA-N1 (System2) + decoupled System1". Nothing but the goal passes between the
two, so that any System2 goes with any NavDP:

* System2 is asked when there is no goal, when the robot has taken `max_steps_per_goal` actions
  towards it, or when NavDP's path ends: nothing of it leads forward. What it says of turns and STOP
  is done.
* Its pixel goal is NavDP's. `system1_goal="pixel"`: as the pixel. When the robot has moved, a NavDP
  that reads two views (7 channels) is shown the pixel in the view in which System2 marked it; one
  that reads a single view, the place that the pixel showed, marked in the current view. `"point"`:
  as that place in the robot's frame. The place is found by depth, by the floor plane where there is
  none, and kept by the robot's odometry.
* The path that NavDP's critic likes best becomes discrete actions, of which the first
  `actions_per_path` are taken before the next path. Where the critic trusts no path it turns.
* Where no action follows from a new answer it turns left once; that is never taken for STOP.

NavDP sees the look-down view of every step. All environments that need System2 at the same moment
share one call, and so do all that need NavDP.
"""

from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np
from PIL import Image

from internnav_hf.evaluation.agents import (
    Agent,
    checked_sights,
    episodes_of,
    floor_pixel,
    look_down_view,
    place_at,
)
from internnav_hf.evaluation.records import DecisionRecord
from internnav_hf.evaluation.vln.system2_agent import FALLBACK_ACTION, record_of
from internnav_hf.geometry import Action, robot_to_world, world_to_robot
from internnav_hf.models.system2.dialogue import AnswerKind
from internnav_hf.policies import FrameHistory, Goal, NavDPEpisode, NavDPStep, PixelGoal, PointGoal
from internnav_hf.policies.observations import checked_instruction
from internnav_hf.sim.env import NavigationEnv, episode_name
from internnav_hf.trajectory import follow

System1Goal = Literal["pixel", "point"]


@dataclass
class _Goal:
    """Where System2 pointed: a pixel of a look-down `view`, and the `place` (2,) in the world that
    it shows, if it shows any. `age` counts the actions since.
    """

    pixel: tuple[float, float]
    view: np.ndarray
    place: np.ndarray | None
    age: int = 0


@dataclass
class _State:
    """One environment's episode; `memory` is NavDP's, `actions` are still to take. `frame`, `info`
    and `down`, the look-down view with its depth, are of the present step.
    """

    env: NavigationEnv
    instruction: str
    memory: NavDPEpisode
    history: FrameHistory = field(default_factory=FrameHistory)
    goal: _Goal | None = None
    actions: list[int] = field(default_factory=list)
    num_steps: int = 0
    records: list[DecisionRecord] = field(default_factory=list)
    frame: Image.Image = field(default_factory=Image.Image)
    down: dict[str, np.ndarray] = field(default_factory=dict)
    info: dict = field(default_factory=dict)

    @property
    def pose(self) -> tuple[float, float, float]:
        return (*self.info["position"], self.info["yaw"])


class DecoupledAgent(Agent):
    """See the module. `system2` is a `System2Policy`, `system1` a `NavDPPolicy`."""

    name = "system2_navdp"
    needs_images = True

    def __init__(
        self,
        system2: Any,
        system1: Any,
        system1_goal: System1Goal = "pixel",
        max_steps_per_goal: int = 8,
        actions_per_path: int = 4,
        use_depth: bool = True,
    ):
        if not use_depth:
            raise ValueError("use_depth: found False, but NavDP was trained with depth.")
        if system1_goal not in get_args(System1Goal):
            raise ValueError(f"system1_goal: found {system1_goal!r}, expected 'pixel' or 'point'.")
        if system1_goal not in system1.model.config.goal_kinds:
            raise ValueError(
                f"system1_goal: found {system1_goal!r}, but this NavDP was trained for "
                f"{', '.join(system1.model.config.goal_kinds)}."
            )
        self.system2, self.system1, self.system1_goal = system2, system1, system1_goal
        self.reads_earlier_views = system1.model.config.num_pixel_goal_channels == 7
        self.max_steps_per_goal, self.actions_per_path = max_steps_per_goal, actions_per_path
        self.states: dict[int, _State] = {}

    def reset(self, env_index: int, env: NavigationEnv, instruction: str) -> None:
        """Forget the past; random numbers are those of the episode, whatever runs beside it."""
        instruction = checked_instruction(instruction, self.name)
        memory = self.system1.start(episode_name(env))
        self.states[env_index] = _State(env, instruction, memory)

    def decisions(self, env_index: int) -> list[DecisionRecord]:
        """Records with pictures, and the trajectories that NavDP sampled at once with values."""
        return self.states[env_index].records

    def act(self, env_indices: list[int], observations: list[dict], infos: list[dict]) -> list[int]:
        """One action each; asks System2, or NavDP, for all that have none left, at once."""
        states = episodes_of(self.name, self.states, env_indices, observations, infos)
        checked_sights(self.name, observations, infos, ("rgb", "depth"))
        for state, seen, info in zip(states, observations, infos, strict=True):
            state.frame, state.info = Image.fromarray(seen["rgb"]), info
            state.down = look_down_view(state.env, seen)
            self.system1.observe(state.memory, state.down)
        self._think([state for state in states if not state.actions])
        for state in states:
            state.history.append(self.system2.prepare(state.frame))
            state.num_steps += 1
            if state.goal is not None:
                state.goal.age += 1
        return [state.actions.pop(0) for state in states]

    def _think(self, states: list[_State]) -> None:
        """Fill `actions` of states that have none."""
        for state in states:
            if state.goal is not None and state.goal.age >= self.max_steps_per_goal:
                state.goal = None
        self._drive([state for state in states if state.goal is not None])
        asking = [state for state in states if not state.actions]
        self._ask(asking)
        pointed = [state for state in asking if state.goal is not None]
        for state, step in zip(pointed, self._drive(pointed), strict=True):
            places = robot_to_world(step.trajectories, state.pose)
            state.records[-1].trajectories = np.round(places, 3).tolist()
            state.records[-1].values = np.round(step.values, 3).tolist()
        for state in states:
            state.actions = state.actions or [int(FALLBACK_ACTION)]

    def _ask(self, states: list[_State]) -> None:
        """System2's answers: actions, or a goal."""
        if not states:
            return
        views = [Image.fromarray(state.down["rgb"]) for state in states]
        decisions = self.system2.decide(
            [state.frame for state in states],
            [state.instruction for state in states],
            [state.history.frames for state in states],
            views,
        )
        for state, view, decision in zip(states, views, decisions, strict=True):
            picture, place = state.frame, None
            if decision.kind == AnswerKind.PIXEL_GOAL:
                picture = view
                place = place_at(state.env, decision.goal_pixel, state.down["depth"])
                if place is not None or self.system1_goal == "pixel":
                    state.goal = _Goal(decision.goal_pixel, state.down["rgb"], place)
            elif decision.kind in (AnswerKind.TURN, AnswerKind.STOP):
                state.actions = [int(a) for a in decision.actions if a != Action.LOOK_DOWN]
            state.records.append(record_of(decision, state.num_steps, state.info, picture, place))

    def _drive(self, states: list[_State]) -> list[NavDPStep]:
        """NavDP's next actions towards the goals. One whose path leads nowhere is dropped."""
        steps = self.system1.steps(
            [state.memory for state in states],
            [state.down for state in states],
            [self._goal_now(state) for state in states],
            observed=True,
        )
        for state, step in zip(states, steps, strict=True):
            state.actions = self._actions(step)
            state.goal = state.goal if state.actions else None
        return steps

    def _goal_now(self, state: _State) -> Goal:
        """The goal for NavDP, from where the robot is."""
        goal, pose = state.goal, state.pose
        assert goal is not None, "NavDP is asked for states with a goal only"
        if self.system1_goal == "point" and goal.place is not None:
            x, y = world_to_robot(goal.place, pose)
            return PointGoal((float(x), float(y)))
        if goal.place is None or goal.age == 0 or self.reads_earlier_views:
            return PixelGoal(goal.pixel, goal.view)
        camera = state.env.camera
        down = replace(camera, pitch_deg=camera.look_down_pitch_deg)
        return PixelGoal(floor_pixel(goal.place, pose, down))

    def _actions(self, step: NavDPStep) -> list[int]:
        """The first few along the path; none if nothing leads forward."""
        if step.turn:
            return [int(Action.TURN_LEFT if step.turn > 0 else Action.TURN_RIGHT)]
        actions = follow(step.path)
        found = actions if Action.FORWARD in actions else []
        return [int(action) for action in found[: self.actions_per_path]]
