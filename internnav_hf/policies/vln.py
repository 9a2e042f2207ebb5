"""Seq2Seq and CMA at inference: an instruction and the current view in, one action out.

Every call takes one view of each robot; all robots share one call of the model, at whatever step
of their episodes they are. An instruction is encoded once. An episode holds its recurrent state and
the robot's last action; if the robot took another action than the policy's, the next observation
must contain it.

Differs from the published agents: nothing is tied to one GPU, the model is in evaluation mode
(batch norm of a released Seq2Seq follows its configuration), and a robot that starts does not wait
for the others.

Legend: L tokens, S image size, D depth size, K recurrent layers, H hidden.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers.utils import PROCESSOR_NAME

from internnav_hf.camera import CameraSpec
from internnav_hf.catalog import families_of
from internnav_hf.models.vln.processor import VLNProcessor
from internnav_hf.policies.camera_contract import CameraContract
from internnav_hf.policies.episodes import undone_on_error
from internnav_hf.policies.loading import family_for, split_settings
from internnav_hf.policies.observations import (
    NO_ACTION,
    check_parts,
    checked_action,
    checked_batch,
    checked_depth,
    checked_instruction,
    checked_keys,
    checked_picture,
    place_of,
)
from internnav_hf.policies.policy import InstructionPolicy
from internnav_hf.weights.checkpoints import hub_arguments


@dataclass(frozen=True)
class VLNStep:
    """The next step: `action` 0 stop, 1 forward 0.25 m, 2 left 15°, 3 right 15°.

    `progress` is the predicted share of the path covered; None if the model does not predict it.
    `path` (P, 2), metres in the robot's current frame, is the path that RDP just predicted.
    """

    action: int
    progress: float | None = None
    path: np.ndarray | None = None

    @property
    def actions(self) -> tuple[int, ...]:
        """`action` as a tuple, as in every instruction policy."""
        return (self.action,)


@dataclass
class VLNEpisode:
    """The policy's memory of one robot, made by `start`: the encoded `instruction` (L, C) or (C,),
    `recurrent_state` (K, H), None at first.
    """

    instruction: Tensor
    recurrent_state: Tensor | None = None
    previous_action: int = NO_ACTION


class VLNPolicy(InstructionPolicy):
    """See the module; for one robot (`reset`, `act`) or many (`start`, `steps`).

    An observation has `rgb` (H, W, 3) uint8 and `depth` (H, W) in metres, 0 where unknown, and, if
    the robot did not take the last step's action, `previous_action`. `camera` is the robot's:
    differences from the training's (`cameras`) are reported once, and are a ValueError with
    `strict_camera`. An episode may go on after STOP.
    """

    episode_class: type[VLNEpisode] = VLNEpisode
    optional_keys: tuple[str, ...] = ("previous_action",)

    def __init__(
        self,
        model: Any,
        processor: VLNProcessor,
        camera: CameraSpec | None = None,
        strict_camera: bool = False,
    ):
        own = type(self).__name__
        kinds = [family.model_type for family in families_of(type(self))]
        check_parts(own, model, kinds, processor)
        for name in ("image_size", "depth_size"):
            found, expected = getattr(processor, name), getattr(model.config, name)
            if found != expected:
                raise ValueError(f"processor: {name}: found {found}, the model's is {expected}.")
        self.model = model.eval()
        self.processor = processor
        self.contract = CameraContract(own, self.cameras, camera, strict_camera)

    @classmethod
    def from_pretrained(cls, path, processor: VLNProcessor | None = None, **kwargs) -> Any:
        """Load from a folder, Hub name or released file; `processor` if it has none, as third-party
        checkpoints. `kwargs` are settings of the policy and arguments of the model's loading.

        Raises ValueError for a folder with another model.
        """
        family = family_for(cls, path, **hub_arguments(kwargs))
        if processor is None:
            if Path(path).exists() and not Path(path, PROCESSOR_NAME).is_file():
                raise ValueError(
                    f"{path}: found no {PROCESSOR_NAME}; pass a VLNProcessor, with the tokenizer "
                    "of what the model was trained on."
                )
            processor = VLNProcessor.from_pretrained(path, **hub_arguments(kwargs))
        settings, kwargs = split_settings(cls, kwargs)
        return cls(family.load("model").from_pretrained(path, **kwargs), processor, **settings)

    @torch.no_grad()
    def start(self, instruction: str, name: str = "") -> VLNEpisode:
        """A new episode. ValueError for an instruction without a word in the vocabulary.

        `name` seeds the random numbers of policies that draw any; this one draws none.
        """
        instruction = checked_instruction(instruction, self.contract.policy)
        return VLNEpisode(self.model.encode_instruction(self._words(instruction))[0])

    @torch.no_grad()
    def steps(
        self, episodes: Sequence[VLNEpisode], observations: Sequence[dict[str, Any]]
    ) -> list[VLNStep]:
        """The next step of each robot, in one call of the model.

        Raises ValueError for an observation without depth, or with depth that is not in metres or
        not of the colour view's shape.
        """
        seen = self._checked_batch(episodes, observations)
        if not seen:
            return []
        with undone_on_error(episodes):
            return self._answered(episodes, seen)

    def _answered(self, episodes: Sequence[Any], seen: list[dict[str, Any]]) -> list[VLNStep]:
        device = self.model.device
        for episode, view in zip(episodes, seen, strict=True):
            episode.previous_action = view["previous_action"]
        instructions = [episode.instruction for episode in episodes]
        acted = self.model.act(
            pad_sequence(instructions, batch_first=True),
            **self._views(seen),
            previous_actions=torch.tensor([e.previous_action for e in episodes], device=device),
            **self._states(episodes),
        )
        steps = []
        for row, (episode, action) in enumerate(zip(episodes, acted.actions.tolist(), strict=True)):
            episode.recurrent_state = acted.recurrent_state[row]
            episode.previous_action = action
            progress = None if acted.progress is None else float(acted.progress[row])
            steps.append(VLNStep(action, progress))
        return steps

    def _words(self, instruction: str) -> Tensor:
        ids = self.processor.encode_instructions([instruction])
        return torch.from_numpy(ids).to(self.model.device)

    def _checked_batch(self, episodes: Sequence, observations: Sequence) -> list[dict[str, Any]]:
        """The observations of all robots, checked."""
        policy = self.contract.policy
        checked_batch(policy, self.episode_class, episodes, observations=observations)
        count = len(observations)
        pairs = enumerate(zip(episodes, observations, strict=True))
        return [self._checked(*pair, place_of(policy, row, count)) for row, pair in pairs]

    def _checked(self, episode: Any, observation: Any, where: str) -> dict[str, Any]:
        """`rgb`, `depth` and `previous_action`, checked."""
        needed = ("rgb", "depth")
        checked_keys(observation, where, needed, (*needed, *self.optional_keys))
        rgb = checked_picture(observation["rgb"], f"{where}: rgb")
        depth = checked_depth(observation["depth"], f"{where}: depth", rgb)
        done = observation.get("previous_action", episode.previous_action)
        done = checked_action(done, f"{where}: previous_action")
        self.contract.check_views([("rgb", rgb)])
        self.contract.check_depth("depth", depth)
        return {"rgb": rgb, "depth": depth, "previous_action": done}

    def _views(self, seen: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """`rgb` (B, 3, S, S) uint8 and `depth` (B, D, D)."""
        rgb = [self.processor.encode_rgb(view["rgb"]) for view in seen]
        depth = [self.processor.encode_depth(view["depth"]) for view in seen]
        views = {"rgb": np.stack(rgb), "depth": np.stack(depth)}
        return {name: torch.from_numpy(view).to(self.model.device) for name, view in views.items()}

    def _states(self, episodes: Sequence[Any]) -> dict[str, Tensor | None]:
        """`recurrent_state` (B, K, H), zeros for robots that start, and `starts` (B,)."""
        states = [episode.recurrent_state for episode in episodes]
        starts = torch.tensor([state is None for state in states], device=self.model.device)
        known = next((state for state in states if state is not None), None)
        if known is None:
            return {"recurrent_state": None, "starts": starts}
        empty = torch.zeros_like(known)
        stacked = torch.stack([empty if state is None else state for state in states])
        return {"recurrent_state": stacked, "starts": starts}
