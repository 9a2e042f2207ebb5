"""Seq2Seq, CMA and RDP in the simulator: one action for each view.

All environments share one call of the policy at each step, whatever the times of their episodes
are. These models decide at every step and say nothing: what is remembered for the report are some
views, with the action that followed and how far the model thought it was.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from internnav_hf.evaluation.agents import checked_sights, episodes_of
from internnav_hf.evaluation.drawing import jpeg
from internnav_hf.evaluation.records import STEP, DecisionRecord
from internnav_hf.geometry import Action, robot_to_world
from internnav_hf.policies import VLNStep
from internnav_hf.sim.env import NavigationEnv, episode_name

NUM_STEPS_PER_VIEW = 4
SYMBOLS = {
    Action.STOP: "STOP",
    Action.FORWARD: "↑",
    Action.TURN_LEFT: "←",
    Action.TURN_RIGHT: "→",
}


@dataclass
class _Walk:
    episode: Any
    num_steps: int = 0
    records: list[DecisionRecord] = field(default_factory=list)


class VLNAgent:
    """`policy` is a `VLNPolicy` or `RDPPolicy`, or anything with their `start` and `steps`."""

    needs_images = True

    def __init__(self, policy: Any, name: str):
        self.policy = policy
        self.name = name
        self.walks: dict[int, _Walk] = {}

    def reset(self, env_index: int, env: NavigationEnv, instruction: str) -> None:
        """Forget the past; random numbers are those of the episode, whatever runs beside it."""
        self.walks[env_index] = _Walk(self.policy.start(instruction, episode_name(env)))

    def act(self, env_indices: list[int], observations: list[dict], infos: list[dict]) -> list[int]:
        """One action each, in one call of the policy."""
        given = {"observations": observations, "infos": infos}
        walks = episodes_of(self.name, self.walks, env_indices, **given)
        checked_sights(self.name, observations, infos)
        seen = [
            {**observation, "pose": (*info["position"], info["yaw"])}
            for observation, info in zip(observations, infos, strict=True)
        ]
        steps = self.policy.steps([walk.episode for walk in walks], seen)
        for walk, step, observation in zip(walks, steps, seen, strict=True):
            decided = step.path is not None or step.action == Action.STOP
            if decided or walk.num_steps % NUM_STEPS_PER_VIEW == 0:
                walk.records.append(_record(step, walk.num_steps, observation))
            walk.num_steps += 1
        return [step.action for step in steps]

    def decisions(self, env_index: int) -> list[DecisionRecord]:
        """Some of the steps, with their views."""
        return self.walks[env_index].records


def _record(step: VLNStep, num_steps: int, observation: dict) -> DecisionRecord:
    text = SYMBOLS[Action(step.action)]
    if step.progress is not None:
        text += f" · {step.progress:.0%} of the way"
    x, y, yaw = observation["pose"]
    record = DecisionRecord(
        step=num_steps,
        kind=STEP,
        text=text,
        position=(float(x), float(y)),
        yaw=float(yaw),
        view=jpeg(Image.fromarray(observation["rgb"])),
    )
    if step.path is not None:
        places = robot_to_world(step.path, observation["pose"])
        record.trajectories = [np.round(places, 3).tolist()]
    return record
