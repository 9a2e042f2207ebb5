"""System2 and a System1 in the simulator, decoupled: System2 points, the other moves there.

The published "InternVLA-N1 (System2) + decoupled System1", with any policy that drives to goals.
Nothing but the goal passes between the two, so that any System2 goes with any System1:

* System2 is asked when there is no goal, when the robot has taken `max_steps_per_goal` actions
  towards it, or when System1's path ends: nothing of it leads forward. What it says of turns and
  STOP is done.
* Its pixel goal is System1's, in one of the forms that `system1_goal` names; by default the first
  of them that System1 drives to:
    pixel    the pixel. When the robot has moved, a NavDP that reads two views (7 channels) is shown
             the pixel in the view in which System2 marked it; one that reads a single view, the
             place that the pixel showed, marked in the current view.
    point    that place in the robot's frame, found by depth, by the floor plane where there is
             none, and kept by the robot's odometry.
    closeup  an image, the half of the look-down view around the pixel: what a robot sees on its way
             there. The whole view would show where the robot is already.
    image    an image, the look-down view in which System2 marked the pixel.
* System1's path becomes discrete actions, of which the first `actions_per_path` are taken before
  the next path; of DD-PPO, its own action. Where NavDP's critic trusts no path it turns.
* Where no action follows from a new answer it turns left once; that is never taken for STOP.

System1 sees the look-down view of every step. All environments that need System2 at the same moment
share one call, and so do all that need System1.
"""

from dataclasses import dataclass, field, replace
from typing import Any

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
from internnav_hf.policies import (
    DDPPOStep,
    FrameHistory,
    Goal,
    ImageGoal,
    NavDPStep,
    PixelGoal,
    PointGoal,
)
from internnav_hf.policies.observations import checked_instruction
from internnav_hf.policies.policy import GoalStep
from internnav_hf.sim.env import NavigationEnv, episode_name
from internnav_hf.trajectory import SPACING_M, chord_length, follow, resample

# form of a goal -> what System1 must drive to
SYSTEM1_GOALS = {"pixel": "pixel", "point": "point", "closeup": "image", "image": "image"}


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
    """One environment's episode; `memory` is System1's, `actions` are still to take. `frame`,
    `info` and `down`, the look-down view with its depth, are of the present step.
    """

    env: NavigationEnv
    instruction: str
    memory: Any
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
    """See the module. `system2` is a `System2Policy`, `system1` a `GoalPolicy` of the kind `kind`,
    which names the agent's row.
    """

    needs_images = True

    def __init__(
        self,
        system2: Any,
        system1: Any,
        system1_goal: str | None = None,
        max_steps_per_goal: int = 8,
        actions_per_path: int = 4,
        use_depth: bool = True,
        kind: str = "navdp",
    ):
        self.name = f"system2_{kind}"
        if system1.needs_depth and not use_depth:
            raise ValueError(f"use_depth: found False, but the {kind} of --system1 sees depth.")
        if system1_goal not in (None, *SYSTEM1_GOALS):
            known = ", ".join(SYSTEM1_GOALS)
            raise ValueError(f"system1_goal: found {system1_goal!r}, expected one of {known}.")
        can = [form for form, goal in SYSTEM1_GOALS.items() if goal in system1.goal_kinds]
        if not can or system1_goal not in (None, *can):
            raise ValueError(
                f"system1_goal: found {system1_goal!r}, but this {kind} was trained for "
                f"{', '.join(system1.goal_kinds)}."
            )
        self.system2, self.system1 = system2, system1
        self.system1_goal, self.use_depth = system1_goal or can[0], use_depth
        config = system1.model.config
        self.reads_earlier_views = (
            self.system1_goal == "pixel" and config.num_pixel_goal_channels == 7
        )
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
        checked_sights(
            self.name, observations, infos, ("rgb", "depth") if self.use_depth else ("rgb",)
        )
        for state, seen, info in zip(states, observations, infos, strict=True):
            state.frame, state.info = Image.fromarray(seen["rgb"]), info
            state.down = look_down_view(state.env, seen, self.system1.needs_semantics)
            if self.system1.remembers_views:
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
            paths = step.path[None] if step.trajectories is None else step.trajectories
            places = robot_to_world(paths, state.pose)
            state.records[-1].trajectories = np.round(places, 3).tolist()
            if step.values is not None:
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
                depth = state.down["depth"] if self.use_depth else None
                place = place_at(state.env, decision.goal_pixel, depth)
                if place is not None or self.system1_goal != "point":
                    state.goal = _Goal(decision.goal_pixel, state.down["rgb"], place)
            elif decision.kind in (AnswerKind.TURN, AnswerKind.STOP):
                state.actions = [int(a) for a in decision.actions if a != Action.LOOK_DOWN]
            state.records.append(record_of(decision, state.num_steps, state.info, picture, place))

    def _drive(self, states: list[_State]) -> list[GoalStep]:
        """System1's next actions towards the goals. One whose path leads nowhere is dropped."""
        observed = {"observed": True} if self.system1.remembers_views else {}
        steps = self.system1.steps(
            [state.memory for state in states],
            [self._shown(state) for state in states],
            [self._goal_now(state) for state in states],
            **observed,
        )
        for state, step in zip(states, steps, strict=True):
            state.actions = actions_of(step, self.actions_per_path)
            state.goal = state.goal if state.actions else None
        return steps

    def _shown(self, state: _State) -> dict[str, np.ndarray]:
        hidden = () if self.use_depth else ("depth",)
        return {key: value for key, value in state.down.items() if key not in hidden}

    def _goal_now(self, state: _State) -> Goal:
        """The goal for System1, from where the robot is."""
        goal, pose = state.goal, state.pose
        assert goal is not None, "System1 is asked for states with a goal only"
        if self.system1_goal == "image":
            return ImageGoal(goal.view)
        if self.system1_goal == "closeup":
            return ImageGoal(closeup(goal.view, goal.pixel))
        if self.system1_goal == "point" and goal.place is not None:
            x, y = world_to_robot(goal.place, pose)
            return PointGoal((float(x), float(y)))
        if goal.place is None or goal.age == 0 or self.reads_earlier_views:
            return PixelGoal(goal.pixel, goal.view)
        camera = state.env.camera
        down = replace(camera, pitch_deg=camera.look_down_pitch_deg)
        return PixelGoal(floor_pixel(goal.place, pose, down))


def closeup(view: np.ndarray, pixel: tuple[float, float]) -> np.ndarray:
    """The part of `view` (H, W, 3) around `pixel` (u, v), half as high and wide."""
    sides = np.array(view.shape[:2]) // 2
    low = np.clip(np.round(pixel[::-1] - sides / 2).astype(int), 0, view.shape[:2] - sides)
    top, left = low
    bottom, right = low + sides
    return view[top:bottom, left:right]


def actions_of(step: GoalStep, most: int) -> list[int]:
    """The first `most` actions along a System1's path, or its turn; none if nothing leads
    forward.
    """
    if isinstance(step, DDPPOStep):
        return _own_action(step)
    path = step.path
    if not isinstance(step, NavDPStep):  # the pursuit counts points as far apart as NavDP's
        length = chord_length(path)[-1]
        path = resample(path, SPACING_M, int(length / SPACING_M) + 2)
    elif step.turn:
        return [int(Action.TURN_LEFT if step.turn > 0 else Action.TURN_RIGHT)]
    actions = follow(path)
    found = actions if Action.FORWARD in actions else []
    return [int(action) for action in found[:most]]


def _own_action(step: DDPPOStep) -> list[int]:
    """DD-PPO's action; of a continuous one, whatever it does most of."""
    if step.is_stop:
        return []
    if isinstance(step.action, int):
        return [step.action]
    ahead, left = step.action
    if abs(left) > ahead:
        return [int(Action.TURN_LEFT if left > 0 else Action.TURN_RIGHT)]
    return [int(Action.FORWARD)]
