"""RDP at inference: an instruction, the current view and odometry in, one action out.

RDP predicts several displacements at a time. They become discrete actions by the published rule, of
which the first `actions_per_decision` are executed before it decides again; in between every view
advances the state. All robots share one call of the model: those that decide and those that do not.

Differs from the published agent: the state advances once per step, also at a decision (unless the
configuration has the published double update), and a robot that starts does not wait until the
others have executed their plans.

Legend: L tokens, H horizon.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from internnav_hf.camera import CameraSpec
from internnav_hf.data.tasks.vln_targets import previous_displacements, relative_poses
from internnav_hf.geometry import Action, wrap_angle
from internnav_hf.policies.episodes import check_count, check_numbers, episode_generator
from internnav_hf.policies.observations import checked_pose
from internnav_hf.policies.vln import VLNEpisode, VLNPolicy, VLNStep

FALLBACK_ACTION = int(Action.TURN_LEFT)


@dataclass
class RDPEpisode(VLNEpisode):
    """Also holds the last `poses` (x, y, yaw), the first one, and the remaining actions."""

    generator: torch.Generator = field(kw_only=True)
    poses: deque[np.ndarray] = field(kw_only=True)
    start_pose: np.ndarray | None = None
    plan: list[int] = field(default_factory=list)


class RDPPolicy(VLNPolicy):
    """See the module; for one robot (`reset`, `act`) or many (`start`, `steps`).

    An observation is that of `VLNPolicy`, and `pose`, (x, y, yaw) of the robot in any frame that
    stays the same during an episode. Settings:

        actions_per_decision: actions executed before RDP decides again. Published: 4 of 8.
        stop_with: RDP's head that decides that the goal is reached. Published: stop_progress.
        seed: determines, with the name of an episode, its noise, whatever runs in the same batch.
    """

    episode_class = RDPEpisode
    optional_keys = ("pose", "previous_action")

    def __init__(
        self,
        model: Any,
        processor: Any,
        actions_per_decision: int = 4,
        stop_with: Literal["stop_progress", "progress"] = "stop_progress",
        seed: int = 0,
        camera: CameraSpec | None = None,
        strict_camera: bool = False,
    ):
        super().__init__(model, processor, camera, strict_camera)
        horizon = model.config.action_horizon
        check_count("actions_per_decision", actions_per_decision, horizon)
        check_numbers(seed)
        if stop_with not in ("stop_progress", "progress"):
            raise ValueError(
                f"stop_with: found {stop_with!r}, expected 'stop_progress' or 'progress'."
            )
        self.actions_per_decision = actions_per_decision
        self.stop_with = stop_with
        self.seed = seed

    def start(self, instruction: str, name: str = "") -> RDPEpisode:
        """A new episode; `name` seeds its random numbers, together with `seed`.

        ValueError for an instruction without a word in the vocabulary.
        """
        num_poses = self.model.config.num_previous_displacements + 1
        return RDPEpisode(
            super().start(instruction).instruction,
            generator=episode_generator(self.seed, name),
            poses=deque(maxlen=num_poses),
        )

    def _answered(
        self, episodes: Sequence[RDPEpisode], seen: list[dict[str, Any]]
    ) -> list[VLNStep]:
        for episode, view in zip(episodes, seen, strict=True):
            _move(episode, view)
        decide = torch.tensor([not episode.plan for episode in episodes])
        acted = self.model.act(
            pad_sequence([e.instruction for e in episodes], batch_first=True),
            **self._views(seen),
            **self._ways(episodes),
            **self._states(episodes),
            decide=decide.to(self.model.device),
            generator=[episode.generator for episode in episodes],
        )
        steps = []
        for row, episode in enumerate(episodes):
            episode.recurrent_state = acted.recurrent_state[row]
            steps.append(self._step(episode, acted, row))
            episode.previous_action = steps[-1].action
        return steps

    def _checked(self, episode: RDPEpisode, observation: Any, where: str) -> dict[str, Any]:
        """As in `VLNPolicy`, and `pose`."""
        seen = super()._checked(episode, observation, where)
        pose = checked_pose(observation.get("pose"), f"{where}: pose")
        self.contract.check_pose(pose, episode.poses[-1] if episode.poses else None)
        return seen | {"pose": pose}

    def _ways(self, episodes: Sequence[RDPEpisode]) -> dict[str, Tensor]:
        """`previous_displacements` (B, 4, 3) and `relative_pose` (B, 3)."""
        num_previous = self.model.config.num_previous_displacements
        last = [previous_displacements(np.stack(e.poses), num_previous)[-1] for e in episodes]
        ends = [np.stack([e.start_pose, e.poses[-1]]) for e in episodes if e.start_pose is not None]
        ways = {
            "previous_displacements": np.stack(last),
            "relative_pose": np.stack([relative_poses(both)[-1] for both in ends]),
        }
        device = self.model.device
        return {name: torch.from_numpy(way).float().to(device) for name, way in ways.items()}

    def _step(self, episode: RDPEpisode, acted: Any, row: int) -> VLNStep:
        """The next action of the plan, which is made first if there is none."""
        if episode.plan:
            return VLNStep(episode.plan.pop(0))
        displacements = acted.displacements[row].float().cpu()
        episode.plan = self._plan(displacements, getattr(acted, self.stop_with)[row].cpu())
        path = np.zeros((len(displacements) + 1, 2))
        path[1:] = displacements[:, :2].cumsum(0).numpy()
        return VLNStep(episode.plan.pop(0), float(acted.progress[row]), path)

    def _plan(self, displacements: Tensor, stop: Tensor) -> list[int]:
        from internnav_hf.models.rdp.displacements import discrete_actions

        found = discrete_actions(displacements[None], **{self.stop_with: stop[None]})[0].tolist()
        plan = [action for action in found if action >= 0][: self.actions_per_decision]
        return plan or [FALLBACK_ACTION]


def _move(episode: RDPEpisode, seen: dict[str, Any]) -> None:
    """Store the robot's pose; if it left the plan, drop the remaining actions."""
    pose = seen["pose"]
    pose[2] = wrap_angle(pose[2])  # as in the data: differences are not wrapped again
    episode.poses.append(pose)
    if episode.start_pose is None:
        episode.start_pose = pose
    if seen["previous_action"] != episode.previous_action:
        episode.plan = []
