"""Common base of Seq2Seq and CMA: encoders, heads, losses, and one step of a robot.

Differs from the published code: frames are encoded without padding, an instruction once and not at
every step; batch norm is frozen by default; progress is weighted in a batch of one, too.

Legend: B episodes, T steps, F valid frames, L tokens of an instruction, S image size, D depth size,
H hidden.
"""

from abc import abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import initialization as init

from internnav_hf.models.common.clip import normalise_images
from internnav_hf.models.common.dino import to_unit
from internnav_hf.models.common.instruction_encoder import InstructionEncoder, check_words
from internnav_hf.models.common.recurrent import last_states, reset_mask_of
from internnav_hf.models.common.rgb_resnet import RGBResNet
from internnav_hf.models.vln.config import RecurrentVLNConfig
from internnav_hf.models.vln.follower import FollowerModel
from internnav_hf.models.vln.losses import VLNOutput, vln_losses
from internnav_hf.models.vln.released import (
    VLNRelease,
    check_variant,
    released_fields,
    released_keys,
)

NUM_ACTIONS = 4  # stop, forward, left, right


class VLNAction(NamedTuple):
    """Output of `act`: `actions` (B,), 0 stop, 1 forward, 2 left, 3 right; `recurrent_state`
    (B, layers, H) for the next call; `progress` (B,) or None; `logits` (B, 4).
    """

    actions: Tensor
    recurrent_state: Tensor
    progress: Tensor | None
    logits: Tensor


class Steps(NamedTuple):
    """Inputs of a model's recurrent states. `instruction` has B rows, `rgb` and `depth` are
    features of the F frames in `step_mask` (B, T), `previous_actions` (B, T, C) is embedded, and
    `reset_mask` (B, T) is True at steps before which states are reset.
    """

    instruction: Tensor
    rgb: Tensor
    depth: Tensor
    previous_actions: Tensor | None
    step_mask: Tensor
    reset_mask: Tensor

    def to_steps(self, frames: Tensor) -> Tensor:
        """(B, T, C) from `frames` (F, C); zeros at steps without a frame."""
        steps = frames.new_zeros(*self.step_mask.shape, frames.shape[-1])
        return steps.masked_scatter(self.step_mask[..., None], frames)


class RecurrentVLNModel(FollowerModel):
    """The base of both. A model adds `advance`, and `rgb_grid` unless colours are one mean."""

    config: RecurrentVLNConfig
    loss_count_keys = {"episode_mask": "num_episodes_in_batch"}
    released_variant = ""
    num_recurrent_layers = 1
    has_bidirectional_instruction = False
    sees_previous_action = True
    rgb_grid: int | None = None
    """Cells in a row of the colour features."""
    previous_action_embedding: nn.Embedding

    def __init__(self, config: Any):
        super().__init__(config)
        self.action_head = nn.Linear(config.hidden_size, NUM_ACTIONS)
        self.progress_head = (
            nn.Linear(config.hidden_size, 1) if config.has_progress_monitor else None
        )

    def add_encoders(self, config: Any) -> None:
        """Add the encoders of instruction and colours."""
        self.instruction_encoder = InstructionEncoder(
            config.vocab_size,
            config.embedding_size,
            config.instruction_hidden_size,
            self.has_bidirectional_instruction,
            config.instruction_rnn_type,
        )
        self.rgb_encoder = RGBResNet(config.rgb_config, config.batch_norm_mode, self.rgb_grid)

    @classmethod
    def convert_release(cls, release: VLNRelease, unused: tuple[str, ...]):
        """See `FollowerModel`."""
        check_variant(release, cls.released_variant)
        weights = released_keys(release, unused)
        return weights, released_fields(release, weights)

    def train(self, mode: bool = True):
        """As usual, and freeze the parts that the configuration freezes: loading unfroze them."""
        super().train(mode)
        if not self.config.train_word_embeddings and "instruction_encoder" in self._modules:
            self.instruction_encoder.word_embeddings.requires_grad_(False)
        return self

    def _init_weights(self, module: nn.Module) -> None:
        """Initialise as published."""
        if module is self.action_head:
            init.orthogonal_(module.weight, gain=0.01)
            init.zeros_(module.bias)
        elif module is self.progress_head:
            init.kaiming_normal_(module.weight, nonlinearity="tanh")
            init.zeros_(module.bias)
        elif isinstance(module, nn.Conv2d):
            init.kaiming_normal_(module.weight, nonlinearity="relu")
        elif isinstance(module, nn.Linear | nn.Embedding | nn.GroupNorm):
            module.reset_parameters()

    @property
    def has_fixed_features(self) -> bool:
        """Whether features of a frame are constant in training, so that they can be cached."""
        return super().has_fixed_features and self.config.batch_norm_mode == "running"

    def forward(
        self,
        instruction_ids: Tensor,
        rgb: Tensor | None = None,
        depth: Tensor | None = None,
        previous_actions: Tensor | None = None,
        actions: Tensor | None = None,
        inflection_weights: Tensor | None = None,
        progress: Tensor | None = None,
        step_mask: Tensor | None = None,
        episode_mask: Tensor | None = None,
        rgb_features: Tensor | None = None,
        depth_features: Tensor | None = None,
        recurrent_state: Tensor | None = None,
        reset_mask: Tensor | None = None,
        num_episodes_in_batch: Tensor | int | None = None,
    ) -> VLNOutput:
        """Log-probabilities at all steps and, if `actions` (B, T) 0..3 are given, losses.

        `instruction_ids` (B, L), right-padded with 0; `rgb` (B, T, 3, S, S), bytes or floats in
        [0, 1], and `depth` (B, T, D, D) in metres, 0 where unknown, or instead of them
        `rgb_features` and `depth_features` (B, T, ...), each frame's output of `encode_rgb` and
        `encode_depth`; `previous_actions` (B, T), -1 for none, needed if the model uses them;
        `inflection_weights` (B, T), ones by default; `progress` (B, T), the monitor's target.
        `step_mask` (B, T) is True where an episode has a step, by default everywhere;
        `episode_mask` (B,) is True for episodes that count, `num_episodes_in_batch` its sum over
        the whole optimisation step.

        `recurrent_state` (B, layers, H) is the initial state; `reset_mask` (B, T) is True at steps
        before which it is reset and whose previous action counts as none, by default the first step
        if no state is given. Raises ValueError for missing or misshapen inputs.
        """
        if step_mask is None:
            frames = rgb if rgb_features is None else rgb_features
            shape = (1, 1) if frames is None else frames.shape[:2]
            step_mask = instruction_ids.new_ones(shape, dtype=torch.bool)
        frames = {
            "rgb": self.features_at("rgb", rgb, rgb_features, step_mask),
            "depth": self.features_at("depth", depth, depth_features, step_mask),
        }
        row_mask = step_mask.any(1)
        check_words(instruction_ids, self.config.vocab_size, row_mask)
        instruction = self.encode_instruction(instruction_ids)
        resets = reset_mask_of(reset_mask, recurrent_state, step_mask.shape, step_mask)
        previous = self._previous(previous_actions, resets | ~step_mask)
        steps = Steps(
            instruction, **frames, previous_actions=previous, step_mask=step_mask, reset_mask=resets
        )
        output: Any = self._predict(steps, recurrent_state)
        if actions is None:
            return output
        self.check_counts(num_episodes_in_batch=num_episodes_in_batch)
        targets = {"actions": actions, "inflection_weights": inflection_weights}
        counts = row_mask if episode_mask is None else row_mask & episode_mask.bool()
        losses = vln_losses(
            output.logits,
            output.progress,
            targets | {"progress": progress},
            step_mask & counts[:, None],
            self.config.progress_loss_weight,
            num_episodes_in_batch,
        )
        return VLNOutput(**(dict(output) | losses))

    @torch.no_grad()
    def act(
        self,
        instruction: Tensor,
        rgb: Tensor,
        depth: Tensor,
        previous_actions: Tensor,
        recurrent_state: Tensor | None = None,
        starts: Tensor | None = None,
    ) -> VLNAction:
        """The most likely action of each of B robots, which may be at different steps.

        `instruction` is ids (B, L) or their output of `encode_instruction`; `rgb` (B, 3, S, S) and
        `depth` (B, D, D) are the current views; `previous_actions` (B,), -1 for none.
        `recurrent_state` (B, layers, H) is that of the last call, and `starts` (B,) is True for a
        robot that starts: its row of the state, whatever it is, counts as zeros. Without a state
        all start.
        """
        if not instruction.is_floating_point():
            check_words(instruction, self.config.vocab_size)
            instruction = self.encode_instruction(instruction)
        mask = torch.ones(len(rgb), 1, dtype=torch.bool, device=rgb.device)
        starts = None if starts is None else starts[:, None]
        resets = reset_mask_of(starts, recurrent_state, mask.shape, mask)
        steps = Steps(
            instruction,
            self.features_at("rgb", rgb[:, None], None, mask),
            self.features_at("depth", depth[:, None], None, mask),
            self._previous(previous_actions[:, None], resets),
            mask,
            resets,
        )
        output: Any = self._predict(steps, recurrent_state)
        logits = output.logits[:, 0]
        progress = None if output.progress is None else output.progress[:, 0]
        return VLNAction(logits.argmax(1), output.recurrent_state, progress, logits)

    def encode_instruction(self, instruction_ids: Tensor) -> Tensor:
        """Encode ids (B, L) once per episode; `act` accepts the result in their place."""
        return self.instruction_encoder(instruction_ids)

    def encode_rgb(self, rgb: Tensor) -> Tensor:
        """Features of `rgb` (F, 3, S, S), bytes or floats in [0, 1], each frame by itself."""
        images = to_unit(rgb).to(self.dtype)
        images = normalise_images(images, self.config.image_mean, self.config.image_std)
        return self._encode("rgb_encoder", images)

    @property
    def loss_weights(self) -> dict[str, float]:
        """Weight of each named loss in `loss`."""
        return {"action_loss": 1.0, "progress_loss": self.config.progress_loss_weight}

    @abstractmethod
    def advance(self, steps: Steps, state: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, H) for the heads, and all states (B, T, layers, H), from the initial `state`."""

    def _predict(self, steps: Steps, recurrent_state: Tensor | None) -> VLNOutput:
        steps = steps._replace(
            **{name: getattr(steps, name) * 0 for name in self.config.ablated_inputs}
        )
        if recurrent_state is None:
            shape = (len(steps.step_mask), self.num_recurrent_layers, self.config.hidden_size)
            recurrent_state = steps.rgb.new_zeros(shape)
        recurrent_state = recurrent_state.to(steps.rgb.dtype)
        hidden, states = self.advance(steps, recurrent_state)
        progress = self.progress_head
        return VLNOutput(
            logits=self.action_head(hidden).float().log_softmax(-1),
            progress=None if progress is None else progress(hidden)[..., 0].float().tanh(),
            recurrent_state=last_states(states, recurrent_state, steps.step_mask),
        )

    def _previous(self, previous_actions: Tensor | None, is_none: Tensor) -> Tensor | None:
        """Embedded previous actions (B, T, C); index 0 of the table means no action."""
        if not self.sees_previous_action:
            return None
        if previous_actions is None:
            name = type(self).__name__
            raise ValueError(f"{name}: previous_actions: found None, expected (B, T), -1 for none.")
        return self.previous_action_embedding((previous_actions + 1).masked_fill(is_none, 0))

    @property
    def dummy_inputs(self) -> dict[str, Tensor]:
        """Two episodes, of three and of two steps, with instructions of four and of two words."""
        config, generator = self.config, torch.Generator().manual_seed(0)

        def rand(*shape: int) -> Tensor:
            return torch.rand(2, 3, *shape, generator=generator)

        words = torch.randint(2, config.vocab_size, (2, 4), generator=generator)
        words[1, 2:] = 0
        actions = torch.randint(NUM_ACTIONS, (2, 3), generator=generator)
        inputs = {
            "instruction_ids": words,
            "rgb": rand(3, config.image_size, config.image_size),
            "depth": 5 * rand(config.depth_size, config.depth_size),
            "previous_actions": torch.cat([torch.full((2, 1), -1), actions[:, :-1]], dim=1),
            "actions": actions,
            "inflection_weights": 1 + 2 * rand(),
            "progress": rand(),
            "step_mask": torch.tensor([[True, True, True], [True, True, False]]),
            "episode_mask": torch.tensor([True, True]),
        }
        return {name: tensor.to(self.device) for name, tensor in inputs.items()}
