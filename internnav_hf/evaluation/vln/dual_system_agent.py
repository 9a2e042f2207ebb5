"""The dual system in the simulator: System2 decides, the action expert's trajectories are walked.

`DualSystemPolicy` says what is done and when System2 is asked; here its actions are taken one by
one, up to four of a trajectory before the next is sampled. Nothing is known of the map, and what is
in the way is run into. All environments that need an answer at the same moment share one call.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from internnav_hf.evaluation.agents import checked_sights, episodes_of
from internnav_hf.evaluation.records import DecisionRecord
from internnav_hf.evaluation.vln.system2_agent import record_of
from internnav_hf.geometry import robot_to_world
from internnav_hf.models.system2.dialogue import AnswerKind
from internnav_hf.policies import DualSystemStep
from internnav_hf.sim.env import NavigationEnv, episode_name


@dataclass
class _Walk:
    """One environment's episode: `episode` is the policy's memory, `actions` are still to take."""

    env: NavigationEnv
    episode: Any
    actions: list[int] = field(default_factory=list)
    num_steps: int = 0
    records: list[DecisionRecord] = field(default_factory=list)


class DualSystemAgent:
    """See the module. `policy` is a `DualSystemPolicy`; `use_depth=False` hides depth from it."""

    name = "dual"
    needs_images = True

    def __init__(self, policy: Any, use_depth: bool = True):
        if policy.needs_depth and not use_depth:
            raise ValueError(
                "use_depth: found False, but this model's action expert was trained with depth: "
                "evaluate it as it was trained."
            )
        self.policy = policy
        self.use_depth = use_depth
        self.walks: dict[int, _Walk] = {}

    def reset(self, env_index: int, env: NavigationEnv, instruction: str) -> None:
        """Forget the past; random numbers are those of the episode, whatever runs beside it."""
        episode = self.policy.start(instruction, episode_name(env))
        self.walks[env_index] = _Walk(env, episode)

    def decisions(self, env_index: int) -> list[DecisionRecord]:
        """With pictures and the trajectories that were sampled at once."""
        return self.walks[env_index].records

    def act(self, env_indices: list[int], observations: list[dict], infos: list[dict]) -> list[int]:
        """One action each; all that have none left ask the policy, at once."""
        given = {"observations": observations, "infos": infos}
        walks = episodes_of(self.name, self.walks, env_indices, **given)
        sights = checked_sights(self.name, observations, infos)
        idle = [i for i, walk in enumerate(walks) if not walk.actions]
        if idle:
            self._ask(*([some[i] for i in idle] for some in (walks, observations, infos)))
        for i, walk in enumerate(walks):
            if i not in idle:
                self.policy.note(walk.episode, sights[i]["rgb"])
        for walk in walks:
            walk.num_steps += 1
        return [walk.actions.pop(0) for walk in walks]

    def _ask(self, walks: list[_Walk], observations: list[dict], infos: list[dict]) -> None:
        shown = [
            self._shown(walk.env, seen) for walk, seen in zip(walks, observations, strict=True)
        ]
        steps = self.policy.steps([walk.episode for walk in walks], shown)
        for walk, step, seen, info in zip(walks, steps, shown, infos, strict=True):
            walk.actions = list(step.actions)
            if step.asked:
                walk.records.append(_record(step, walk.num_steps, info, seen))

    def _shown(self, env: NavigationEnv, observation: dict) -> dict[str, np.ndarray]:
        """With the look-down view, rendered unless it is the ordinary one."""
        camera = env.camera
        rgb, depth = observation["rgb"], observation["depth"]
        if camera.pitch_deg != camera.look_down_pitch_deg:
            view = env.render_view(camera.look_down_pitch_deg)
            rgb, depth = view.rgb, view.depth
        shown = {"rgb": observation["rgb"], "rgb_look_down": rgb}
        return shown | {"depth_look_down": depth} if self.use_depth else shown


def _record(step: DualSystemStep, num_steps: int, info: dict, seen: dict) -> DecisionRecord:
    pointed = step.decision.kind == AnswerKind.PIXEL_GOAL
    picture = Image.fromarray(seen["rgb_look_down" if pointed else "rgb"])
    record = record_of(step.decision, num_steps, info, picture)
    if step.trajectories is not None:
        places = robot_to_world(step.trajectories, (*info["position"], info["yaw"]))
        record.trajectories = np.round(places, 3).tolist()
    return record
