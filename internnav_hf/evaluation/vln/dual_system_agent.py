"""The dual system in the simulator: System2 decides, the action expert's trajectories are followed.

`DualSystemPolicy` says what is done and when System2 is asked; here its actions are taken one by
one, up to four of a trajectory before the next is sampled. Nothing is known of the map, and what is
in the way is run into. Differs from other policies: it sees the look-down view as well, and every
frame between its answers.
"""

from typing import Any

import numpy as np
from PIL import Image

from internnav_hf.evaluation.agents import look_down_view
from internnav_hf.evaluation.vln.policy_agent import EpisodeState, PolicyAgent
from internnav_hf.evaluation.vln.system2_agent import record_of
from internnav_hf.geometry import robot_to_world
from internnav_hf.models.system2.dialogue import AnswerKind
from internnav_hf.policies import DualSystemStep


class DualSystemAgent(PolicyAgent):
    """See the module. `policy` is a `DualSystemPolicy`; `use_depth=False` hides depth from it."""

    def __init__(self, policy: Any, use_depth: bool = True):
        if policy.needs_depth and not use_depth:
            raise ValueError(
                "use_depth: found False, but this model's action expert was trained with depth: "
                "evaluate it as it was trained."
            )
        super().__init__(policy, "dual")
        self.use_depth = use_depth

    def view(self, state: EpisodeState, observation: dict, info: dict) -> dict[str, Any]:
        """The observation with the look-down view."""
        down = look_down_view(state.env, observation)
        seen = {"rgb": observation["rgb"], "rgb_look_down": down["rgb"]}
        return seen | {"depth_look_down": down["depth"]} if self.use_depth else seen

    def pass_by(self, state: EpisodeState, frame: Image.Image) -> None:
        """It joins System2's history."""
        self.policy.note(state.memory, frame)

    def remember(
        self, state: EpisodeState, step: DualSystemStep, observation: dict, info: dict
    ) -> None:
        """Keep every answer of System2, with its picture and the trajectories sampled at once."""
        if not step.asked:
            return
        is_goal = step.decision.kind == AnswerKind.PIXEL_GOAL
        picture = Image.fromarray(observation["rgb_look_down" if is_goal else "rgb"])
        record = record_of(step.decision, state.num_steps, info, picture)
        if step.trajectories is not None:
            places = robot_to_world(step.trajectories, (*info["position"], info["yaw"]))
            record.trajectories = np.round(places, 3).tolist()
        state.records.append(record)
