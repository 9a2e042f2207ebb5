"""System2 with a shortest-path follower to its goal: the published "S2 + ShortestPathFollower".

System2 is asked when nothing is left to do of its last answer:

* Turns are executed one by one, STOP ends the episode.
* A pixel goal is lifted with the look-down view's depth (with the floor plane if there is none),
  moved to the nearest place where the robot can be, and followed for at most `max_steps_per_goal`
  actions or until 0.25 m before it.
* Where no action follows - text that cannot be parsed, a pixel above the horizon without depth, a
  goal where the robot already stands - it turns left once, as the published loop does when its
  follower refuses. It is never taken for STOP. Unparsable answers are counted.

As in training, the policy samples its history from every frame the robot has seen, not only from
those at which it was asked; look-down views are no part of it. All environments that need an
answer at the same moment share one call of `policy.decide`.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from internnav_hf.evaluation.agents import Agent, checked_sights, episodes_of, place_at
from internnav_hf.evaluation.drawing import jpeg
from internnav_hf.evaluation.records import DecisionRecord
from internnav_hf.geometry import Action
from internnav_hf.models.system2.dialogue import AnswerKind
from internnav_hf.policies import Decision, FrameHistory
from internnav_hf.policies.observations import checked_instruction
from internnav_hf.sim.env import NavigationEnv
from internnav_hf.sim.follower import next_action
from internnav_hf.sim.render import Rendering

FALLBACK_ACTION = Action.TURN_LEFT


@dataclass
class _State:
    """One environment's episode: `frame`, the ordinary view, and `info` are of the present step,
    `history` are the frames before it in the size in which System2 is shown them, `plan` actions to
    take.
    """

    env: NavigationEnv
    instruction: str
    frame: Image.Image = field(default_factory=Image.Image)
    info: dict = field(default_factory=dict)
    num_steps: int = 0
    history: FrameHistory = field(default_factory=FrameHistory)
    plan: list[int] = field(default_factory=list)
    distance_to_goal: Any = None
    goal_steps_left: int = 0
    records: list[DecisionRecord] = field(default_factory=list)

    def planned_action(self) -> int | None:
        """The next action of the last answer; None when System2 must be asked."""
        if self.plan:
            return self.plan.pop(0)
        if self.goal_steps_left == 0:
            return None
        self.goal_steps_left -= 1
        pose = self.info["position"], self.info["yaw"]
        action = next_action(self.env.space, self.distance_to_goal, *pose)
        if action is None:
            self.goal_steps_left = 0
        return None if action is None else int(action)


class System2Agent(Agent):
    """See the module. `policy` is a `System2Policy`, or anything with its `decide`, `prepare`."""

    name = "system2"
    needs_images = True

    def __init__(self, policy: Any, max_steps_per_goal: int = 8, use_depth: bool = True):
        self.policy, self.max_steps_per_goal, self.use_depth = policy, max_steps_per_goal, use_depth
        self.states: dict[int, _State] = {}

    def reset(self, env_index: int, env: NavigationEnv, instruction: str) -> None:
        """Forget the past."""
        self.states[env_index] = _State(env, checked_instruction(instruction, self.name))

    def decisions(self, env_index: int) -> list[DecisionRecord]:
        """Records with pictures: `view` is the image that System2 pointed in or judged."""
        return self.states[env_index].records

    def act(self, env_indices: list[int], observations: list[dict], infos: list[dict]) -> list[int]:
        """One action each; asks System2 for all that have none left, at once."""
        states = episodes_of(self.name, self.states, env_indices, observations, infos)
        sights = checked_sights(self.name, observations, infos)
        for state, sight, info in zip(states, sights, infos, strict=True):
            state.frame, state.info = sight["rgb"], info
        actions = [state.planned_action() for state in states]
        undecided = [i for i, action in enumerate(actions) if action is None]
        if undecided:
            self._decide([states[i] for i in undecided])
        for i in undecided:
            actions[i] = states[i].planned_action()
        for state in states:
            state.history.append(self.policy.prepare(state.frame))
            state.num_steps += 1
        return [int(FALLBACK_ACTION) if action is None else action for action in actions]

    def _decide(self, states: list[_State]) -> None:
        views: dict[int, Rendering] = {}

        def look_down(indices: list[int]) -> list[Image.Image]:
            for i in indices:
                env = states[i].env
                views[i] = env.render_view(env.camera.look_down_pitch_deg)
            return [Image.fromarray(views[i].rgb) for i in indices]

        decisions = self.policy.decide(
            [state.frame for state in states],
            [state.instruction for state in states],
            [state.history.frames for state in states],
            look_down,
        )
        for i, (state, decision) in enumerate(zip(states, decisions, strict=True)):
            self._follow(state, decision, views.get(i))

    def _follow(self, state: _State, decision: Decision, view: Rendering | None) -> None:
        """Turn an answer into something to do, and remember it."""
        state.plan, state.goal_steps_left, goal = [], 0, None
        if decision.kind == AnswerKind.PIXEL_GOAL:
            assert view is not None, "a pixel goal without the view that it points in"
            depth = view.depth if self.use_depth else None
            shown = place_at(state.env, decision.goal_pixel, depth)
            if shown is not None:
                goal = state.env.space.nearest(shown)
                state.distance_to_goal = state.env.space.distance_field(goal)
                state.goal_steps_left = self.max_steps_per_goal
        elif decision.kind in (AnswerKind.TURN, AnswerKind.STOP):
            state.plan = [int(a) for a in decision.actions if a != Action.LOOK_DOWN]
        picture = state.frame if view is None else Image.fromarray(view.rgb)
        state.records.append(record_of(decision, state.num_steps, state.info, picture, goal))


def record_of(
    decision: Decision,
    num_steps: int,
    info: dict,
    picture: Image.Image,
    goal: np.ndarray | None = None,
) -> DecisionRecord:
    """What to remember of an answer after `num_steps` actions.

    It judged, or pointed in, `picture`; `goal` (2,) is where a follower goes.
    """
    heatmap = decision.heatmap
    return DecisionRecord(
        step=num_steps,
        kind=decision.kind.name,
        text=decision.text,
        position=_pair(info["position"]),
        yaw=float(info["yaw"]),
        goal_pixel=None if decision.goal_pixel is None else _pair(decision.goal_pixel),
        goal_position=None if goal is None else _pair(goal),
        goal_confidence=decision.goal_confidence,
        heatmap=None if heatmap is None else np.round(heatmap, 4).tolist(),
        view=jpeg(picture),
    )


def _pair(values: Any) -> tuple[float, float]:
    return float(values[0]), float(values[1])
