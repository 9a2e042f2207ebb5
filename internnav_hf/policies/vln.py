"""Seq2Seq and CMA at inference: an instruction and the current view in, one action out.

Every call brings one view of each robot; all robots share one call of the model, at whatever step
of their episodes they are. An instruction is encoded once. The recurrent state of an episode, and
what the robot did last, are kept with it; where the robot did something else than the policy said,
the next observation tells.

Differs from the published agents: nothing is written to one GPU, the model is in evaluation mode
(batch norm of a released Seq2Seq is what its configuration says), and a robot that starts does not
wait for the others.

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
from transformers import PreTrainedConfig
from transformers.utils import CONFIG_NAME, PROCESSOR_NAME

from internnav_hf.camera import CameraSpec
from internnav_hf.models.vln_processor import VLNProcessor

from .episodes import checked_depth

NO_ACTION = -1
NUM_ACTIONS = 4
# model_type of a configuration, ours or published -> kind of model
KINDS = {
    "internnav_seq2seq": "seq2seq",
    "internnav_cma": "cma",
    "internnav_rdp": "rdp",
    "seq2seq": "seq2seq",
    "cma": "cma",
    "cma-clip": "cma",
    "rdp": "rdp",
}


@dataclass(frozen=True)
class VLNStep:
    """What to do now: `action` 0 stop, 1 forward 0.25 m, 2 left 15°, 3 right 15°.

    `progress` is the share of the way that the model thinks is behind; None if it does not say.
    `path` (P, 2), metres in the robot's frame of now, is where RDP just decided to walk.
    """

    action: int
    progress: float | None = None
    path: np.ndarray | None = None


@dataclass
class VLNEpisode:
    """What the policy remembers of one robot, made by `start`: `instruction` (L, C) or (C,) as the
    model read it, `recurrent_state` (K, H), None at first.
    """

    instruction: Tensor
    recurrent_state: Tensor | None = None
    previous_action: int = NO_ACTION


class VLNPolicy:
    """See the module; for one robot (`reset`, `act`) or many (`start`, `steps`).

    An observation has `rgb` (H, W, 3) uint8 and `depth` (H, W) in metres, 0 where unknown, and, if
    the robot did not do what the last step said, `previous_action`.
    """

    kinds: tuple[str, ...] = ("seq2seq", "cma")

    def __init__(self, model: Any, processor: VLNProcessor):
        for name in ("image_size", "depth_size"):
            found, expected = getattr(processor, name), getattr(model.config, name)
            if found != expected:
                raise ValueError(f"processor: {name}: found {found}, the model's is {expected}.")
        self.model = model.eval()
        self.processor = processor

    @classmethod
    def from_pretrained(cls, path, processor: VLNProcessor | None = None, **settings) -> Any:
        """Of a folder, Hub name or released file; `processor` where it has none, as what others
        released.

        Raises ValueError for a folder with another model.
        """
        from internnav_hf.models.cma import CMAModel
        from internnav_hf.models.rdp import RDPModel
        from internnav_hf.models.seq2seq import Seq2SeqModel

        kind = vln_kind(path)
        if kind not in cls.kinds:
            known = " or ".join(cls.kinds)
            raise ValueError(f"{path}: found {kind or 'another model'}, expected {known}.")
        model_class = {"seq2seq": Seq2SeqModel, "cma": CMAModel, "rdp": RDPModel}[kind]
        if processor is None:
            if Path(path).exists() and not Path(path, PROCESSOR_NAME).is_file():
                raise ValueError(
                    f"{path}: found no {PROCESSOR_NAME}; pass a VLNProcessor, with the tokenizer "
                    "of what the model was trained on."
                )
            processor = VLNProcessor.from_pretrained(path)
        return cls(model_class.from_pretrained(path), processor, **settings)

    @property
    def camera(self) -> CameraSpec | None:
        """What the model was trained with, if it says so."""
        stored = self.processor.camera
        return None if stored is None else CameraSpec.from_dict(stored)

    def reset(self, instruction: str) -> None:
        """Start an episode of one robot."""
        self.episode = self.start(instruction)

    def act(self, observation: dict[str, Any]) -> VLNStep:
        """What the one robot does, seeing `observation`."""
        return self.steps([self.episode], [observation])[0]

    @torch.no_grad()
    def start(self, instruction: str, name: str = "") -> VLNEpisode:
        """A new episode. ValueError for an instruction without a word that the model knows.

        `name` tells episodes apart where a policy draws random numbers; this one draws none.
        """
        return VLNEpisode(self.model.encode_instruction(self._words(instruction))[0])

    @torch.no_grad()
    def steps(
        self, episodes: Sequence[VLNEpisode], observations: Sequence[dict[str, Any]]
    ) -> list[VLNStep]:
        """What each robot does, in one call of the model.

        Raises ValueError for an observation without depth, or with depth that is not in metres or
        not of the colour view's shape.
        """
        if not self._are_some(episodes, observations):
            return []
        device = self.model.device
        for episode, observation in zip(episodes, observations, strict=True):
            episode.previous_action = observation.get("previous_action", episode.previous_action)
        instructions = [episode.instruction for episode in episodes]
        acted = self.model.act(
            pad_sequence(instructions, batch_first=True),
            **self._views(observations),
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

    def _are_some(self, episodes: Sequence, observations: Sequence[dict[str, Any]]) -> bool:
        if len(episodes) != len(observations):
            raise ValueError(
                f"{len(episodes)} episodes and {len(observations)} observations do not match."
            )
        for observation in observations:
            for name in ("rgb", "depth"):
                if observation.get(name) is None:
                    raise ValueError(f"observation: found no {name!r}.")
            done = observation.get("previous_action", NO_ACTION)
            if done not in range(NO_ACTION, NUM_ACTIONS):
                expected = f"{NO_ACTION} to {NUM_ACTIONS - 1}"
                raise ValueError(
                    f"observation: previous_action: found {done}, expected {expected}."
                )
        return len(episodes) > 0

    def _views(self, observations: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """`rgb` (B, 3, S, S) uint8 and `depth` (B, D, D)."""
        rgb = [self.processor.encode_rgb(observation["rgb"]) for observation in observations]
        depth = [self.processor.encode_depth(checked_depth(seen)) for seen in observations]
        views = {"rgb": np.stack(rgb), "depth": np.stack(depth)}
        return {name: torch.from_numpy(view).to(self.model.device) for name, view in views.items()}

    def _states(self, episodes: Sequence[Any]) -> dict[str, Tensor | None]:
        """`recurrent_state` (B, K, H), zeros for who starts, and `starts` (B,)."""
        states = [episode.recurrent_state for episode in episodes]
        starts = torch.tensor([state is None for state in states], device=self.model.device)
        known = next((state for state in states if state is not None), None)
        if known is None:
            return {"recurrent_state": None, "starts": starts}
        empty = torch.zeros_like(known)
        stacked = torch.stack([empty if state is None else state for state in states])
        return {"recurrent_state": stacked, "starts": starts}


def vln_kind(path, **hub_arguments) -> str | None:
    """Which of "seq2seq", "cma" and "rdp" a folder, Hub name or file holds, ours or released; None
    for another model. Without a configuration the names of the weights tell.
    """
    from internnav_hf.models.vln_released import CLIP_VARIANT, read_release

    local = Path(path)
    if local.is_file() or (local.is_dir() and not Path(path, CONFIG_NAME).is_file()):
        release = read_release(path)
        kinds = {"Seq2Seq": "seq2seq", "CMA": "cma", CLIP_VARIANT: "cma", "RDP": "rdp"}
        return None if release is None else kinds.get(release.variant or "")
    stored, _ = PreTrainedConfig.get_config_dict(path, **hub_arguments)
    return KINDS.get(stored.get("model_type", ""))
