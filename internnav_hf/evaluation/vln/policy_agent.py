"""Any policy that follows instructions, in the simulator: views in, actions out.

All environments that need an answer at the same moment share one call of the policy, whatever the
times of their episodes are. Where it answers with several actions they are taken one by one before
it is asked again. What is remembered for the report are some views, with the actions that followed
and, if the policy gives them, its progress and path.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from internnav_hf.evaluation.agents import Agent, checked_sights, episodes_of
from internnav_hf.evaluation.drawing import jpeg
from internnav_hf.evaluation.records import STEP, DecisionRecord
from internnav_hf.geometry import Action, robot_to_world
from internnav_hf.policies import VLNStep
from internnav_hf.policies.policy import InstructionPolicy, InstructionStep
from internnav_hf.sim.env import NavigationEnv, episode_name

NUM_STEPS_PER_VIEW = 4
SYMBOLS = ("STOP", "↑", "←", "→")  # by action


@dataclass
class EpisodeState:
    """One environment's episode: `memory` is the policy's, `actions` are still to take."""

    env: NavigationEnv
    memory: Any
    actions: list[int] = field(default_factory=list)
    num_steps: int = 0
    records: list[DecisionRecord] = field(default_factory=list)


class PolicyAgent(Agent):
    """See the module."""

    needs_images = True

    def __init__(self, policy: InstructionPolicy, name: str):
        self.policy: Any = policy
        self.name = name
        self.states: dict[int, EpisodeState] = {}

    def reset(self, env_index: int, env: NavigationEnv, instruction: str) -> None:
        """Forget the past; random numbers are those of the episode, whatever runs beside it."""
        memory = self.policy.start(instruction, episode_name(env))
        self.states[env_index] = EpisodeState(env, memory)

    def act(self, env_indices: list[int], observations: list[dict], infos: list[dict]) -> list[int]:
        """One action each; all that have none left ask the policy, at once."""
        states = episodes_of(self.name, self.states, env_indices, observations, infos)
        sights = checked_sights(self.name, observations, infos)
        idle = [i for i, state in enumerate(states) if not state.actions]
        if idle:
            self._ask([(states[i], observations[i], infos[i]) for i in idle])
        for i, state in enumerate(states):
            if i not in idle:
                self.pass_by(state, sights[i]["rgb"])
            state.num_steps += 1
        return [state.actions.pop(0) for state in states]

    def decisions(self, env_index: int) -> list[DecisionRecord]:
        """Some of the steps, with their views."""
        return self.states[env_index].records

    def _ask(self, asking: list[tuple[EpisodeState, dict, dict]]) -> None:
        seen = [self.view(*one) for one in asking]
        steps = self.policy.steps([state.memory for state, _, _ in asking], seen)
        for (state, _, info), step, observation in zip(asking, steps, seen, strict=True):
            state.actions = list(step.actions)
            self.remember(state, step, observation, info)

    def view(self, state: EpisodeState, observation: dict, info: dict) -> dict[str, Any]:
        """What the policy is shown."""
        return {**observation, "pose": (*info["position"], info["yaw"])}

    def pass_by(self, state: EpisodeState, frame: Image.Image) -> None:
        """A view at which the policy is not asked."""

    def remember(
        self, state: EpisodeState, step: InstructionStep, observation: dict, info: dict
    ) -> None:
        """Keep some steps for the report."""
        path, progress = (step.path, step.progress) if isinstance(step, VLNStep) else (None, None)
        has_decided = path is not None or Action.STOP in step.actions
        if not has_decided and state.num_steps % NUM_STEPS_PER_VIEW:
            return
        x, y, yaw = observation["pose"]
        record = DecisionRecord(
            step=state.num_steps,
            kind=STEP,
            text=" ".join(SYMBOLS[action] for action in step.actions),
            position=(float(x), float(y)),
            yaw=float(yaw),
            view=jpeg(Image.fromarray(observation["rgb"])),
        )
        if progress is not None:
            record.text += f" · {progress:.0%} of the path"
        if path is not None:
            places = robot_to_world(path, observation["pose"])
            record.trajectories = [np.round(places, 3).tolist()]
        state.records.append(record)
