"""The expert: demonstrations of the planned path in VLN-CE's actions.

Legend: T frames.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from internnav_hf.geometry import FORWARD_STEP_M, TURN_STEP, Action, wrap_angle
from internnav_hf.sim.episodes import EpisodeSampler, NavigationEpisode
from internnav_hf.sim.follower import next_action
from internnav_hf.sim.navigation import DistanceField

MAX_STEPS = 200
MIN_FRAMES = 4  # System2's sampling rules skip shorter episodes
_TRIES_PER_DEMONSTRATION = 20
_SLACK = 1e-6  # rad
_ARRIVED_M = 0.3


@dataclass(frozen=True)
class Demonstration:
    """One episode: `poses` (T, 3) as (x, y, yaw); `actions` (T,) at each frame, the last one STOP.

    `exploring` (T,) marks frames whose action was drawn at random; `expert_actions` (T,) are what
    the expert would have done there, and equal to `actions` elsewhere.
    """

    poses: np.ndarray
    actions: np.ndarray
    exploring: np.ndarray
    expert_actions: np.ndarray


@dataclass(frozen=True)
class Expert:
    """Follows the planning `field` to the goal of `episode` in VLN-CE's actions, whose turns are of
    `turn_step`.
    """

    episode: NavigationEpisode
    field: DistanceField
    turn_step: float = TURN_STEP

    def action(self, position: np.ndarray, yaw: float) -> Action:
        """The next action: move to the goal, there turn to face the object, then stop."""
        space, field, goal = self.field.space, self.field, self.episode.goal_object
        distance = float(field(position))
        if distance > 0:
            action = next_action(space, field, position, yaw, 0.0, self.turn_step)
            if action is not None:
                return action
        if goal is None:
            return Action.STOP
        towards = np.array(goal.position) - position
        bearing = float(wrap_angle(np.arctan2(towards[1], towards[0]) - yaw))
        if abs(bearing) <= self.turn_step / 2 + _SLACK:
            return Action.STOP
        return Action.TURN_LEFT if bearing > 0 else Action.TURN_RIGHT

    def plan(self, position: np.ndarray, yaw: float) -> list[int]:
        """The actions from `position` to STOP, at most `MAX_STEPS`."""
        plan: list[int] = []
        while len(plan) < MAX_STEPS and (not plan or plan[-1] != Action.STOP):
            action = self.action(position, yaw)
            plan.append(int(action))
            position, yaw = self._after(position, yaw, action)
        return plan

    def demonstrate(
        self, rng: np.random.Generator, exploration: float = 0.0
    ) -> Demonstration | None:
        """A demonstration of the episode; None if it does not arrive within `MAX_STEPS`.

        With `exploration`, each step starts with that probability a burst of one to four random
        actions, from which the expert recovers: states off the path, as a trained model will meet
        them.
        """
        x, y, yaw = self.episode.start
        position = np.array([x, y])
        poses, actions, exploring, expert_actions, burst = [], [], [], [], []
        while len(poses) < MAX_STEPS:
            if not burst and rng.random() < exploration:
                burst = _burst(rng)
            exploring.append(bool(burst))
            best = self.action(position, yaw)
            action = burst.pop() if burst else best
            poses.append((*position, yaw))
            actions.append(int(action))
            expert_actions.append(int(best))
            if action == Action.STOP:
                if float(self.field(position)) > _ARRIVED_M:
                    return None
                return Demonstration(*map(np.array, (poses, actions, exploring, expert_actions)))
            position, yaw = self._after(position, yaw, action)
        return None

    def _after(self, position: np.ndarray, yaw: float, action: Action) -> tuple[np.ndarray, float]:
        if action == Action.FORWARD:
            ahead = FORWARD_STEP_M * np.array([np.cos(yaw), np.sin(yaw)])
            return self.field.space.move(position, position + ahead)[0], yaw
        step = self.turn_step
        turn = {Action.TURN_LEFT: step, Action.TURN_RIGHT: -step}.get(action, 0.0)
        return position, float(wrap_angle(yaw + turn))


def draw_demonstrations(
    sampler: EpisodeSampler,
    num_demonstrations: int,
    rng: np.random.Generator,
    exploration: float = 0.0,
    turn_step: float = TURN_STEP,
) -> Iterator[tuple[Expert, Demonstration]]:
    """Experts and their demonstrations; fewer in a small scene, ValueError if none fits."""
    found, scene_name = 0, sampler.scene.name
    for _ in range(_TRIES_PER_DEMONSTRATION * num_demonstrations):
        if found == num_demonstrations:
            return
        drawn = sampler.draw(rng, f"{scene_name}_{found:06d}")
        expert = drawn and Expert(*drawn, turn_step)
        steps = expert and expert.demonstrate(rng, exploration)
        if expert and steps and len(steps.actions) >= MIN_FRAMES:
            yield expert, steps
            found += 1
    if not found:
        raise ValueError(f"Scene {scene_name} is too small: no episode fits into it.")


def _burst(rng: np.random.Generator) -> list[Action]:
    turn = Action.TURN_LEFT if rng.random() < 0.5 else Action.TURN_RIGHT
    choices = [turn, turn, Action.FORWARD]
    return [choices[int(rng.integers(3))] for _ in range(int(rng.integers(1, 5)))]
