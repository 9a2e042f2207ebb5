"""RDP's encoders and memory: CLIP for instruction and views, a ResNet for depth, a GRU.

Differs from the published code: an instruction is encoded once and without its padding; frames that
are padding or dropped are not encoded.

Legend: B episodes, T steps, F frames, L tokens of an instruction, S image size, D depth size, V
width of the vision tower, G grid of depth features, C hidden.
"""

import math
from typing import Any, NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from internnav_hf.models.common.clip_config import NUM_IMAGE_TOKENS
from internnav_hf.models.common.depth_resnet import depth_grid_size
from internnav_hf.models.common.diffusion import NUM_ACTION_CHANNELS
from internnav_hf.models.common.recurrent import StateEncoder, reset_mask_of
from internnav_hf.models.rdp.config import RDPConfig
from internnav_hf.models.rdp.displacements import scale
from internnav_hf.models.rdp.released import released_rdp_fields, released_rdp_keys
from internnav_hf.models.vln.follower import FollowerModel
from internnav_hf.models.vln.released import VLNRelease, check_variant

POSITION_SIZE = 64  # channels of the position code of a depth cell


class RDPScene(NamedTuple):
    """Output of `RDPModel.advance` for every step: `image_tokens` (B, T, 5, C), `states`
    (B, T, C), `previous_displacements` (B, T, 4, 3), scaled, and `relative_pose` (B, T, 3).
    """

    image_tokens: Tensor
    states: Tensor
    previous_displacements: Tensor
    relative_pose: Tensor


class RDPEncoders(FollowerModel):
    """The part of `RDPModel` up to its recurrent state."""

    config: RDPConfig

    def __init__(self, config: RDPConfig):
        super().__init__(config)
        hidden, vision = config.hidden_size, config.vision_config
        num_cells = depth_grid_size(config.depth_size, len(config.depth_num_blocks)) ** 2
        depth_size = num_cells * (config.depth_feature_channels + POSITION_SIZE)
        self.depth_positions = nn.Embedding(num_cells, POSITION_SIZE)
        self.depth_linear = nn.Linear(depth_size, config.depth_hidden_size)
        self.depth_projection = nn.Linear(config.depth_hidden_size, hidden)
        self.rgb_projection = nn.Linear(vision.hidden_size, hidden)
        self.feature_dropout = nn.Dropout(config.feature_dropout)
        self.image_dropout = nn.Dropout(config.image_dropout)
        self.previous_embedding = nn.Linear(NUM_ACTION_CHANNELS, config.previous_displacement_size)
        self.pose_embedding = nn.Linear(NUM_ACTION_CHANNELS, config.pose_size)
        self._kept_blanks: dict[str, tuple[Any, Tensor]] = {}
        seen = NUM_IMAGE_TOKENS * hidden + config.previous_displacement_size + config.pose_size
        self.state_encoder = StateEncoder(seen, hidden)

    @classmethod
    def convert_release(cls, release: VLNRelease, unused: tuple[str, ...]):
        """See `FollowerModel`."""
        check_variant(release, "RDP")
        weights = released_rdp_keys(release.weights, unused)
        return weights, released_rdp_fields(weights, release.settings)

    def advance(
        self,
        rgb_features: Tensor,
        depth_features: Tensor,
        previous_displacements: Tensor,
        relative_pose: Tensor,
        recurrent_state: Tensor | None = None,
        reset_mask: Tensor | None = None,
    ) -> RDPScene:
        """The states after T steps, one or many, from `recurrent_state` (B, 1, C).

        Arguments as in `forward`.
        """
        shape = previous_displacements.shape[:2]
        resets = reset_mask_of(reset_mask, recurrent_state, shape, relative_pose)
        previous = self._scaled(previous_displacements).masked_fill(resets[..., None, None], 0)
        tokens = self._image_tokens(rgb_features.to(self.dtype), depth_features.to(self.dtype))
        pose = self._pose(relative_pose).to(self.dtype)
        seen = [
            rearrange(tokens, "b t n c -> b t (n c)"),
            self.previous_embedding(previous[:, :, 0].to(self.dtype)),
            self.pose_embedding(pose),
        ]
        state = self._state(recurrent_state, tokens)
        states = self.state_encoder(torch.cat(seen, dim=-1), state, resets)
        return RDPScene(tokens, states, previous.to(self.dtype), pose)

    def _pose(self, relative_pose: Tensor) -> Tensor:
        if self.config.relative_heading == "difference":
            return relative_pose
        place, heading = relative_pose.split([2, 1], dim=-1)
        return torch.cat([place, torch.remainder(heading + math.pi, 2 * math.pi) - math.pi], dim=-1)

    def _image_tokens(self, rgb: Tensor, depth: Tensor) -> Tensor:
        """Tokens (B, T, 5, C) from features; depth is in the first token."""
        # as published the table is read as (channels, cells), not transposed
        table = self.depth_positions.weight.view(-1, *depth.shape[-2:])
        cells = torch.cat([depth, table.expand(*depth.shape[:2], -1, -1, -1)], dim=2)
        seen = F.relu(self.depth_linear(rearrange(cells, "b t c h w -> b t (c h w)")))
        seen = self.image_dropout(self.depth_projection(seen))
        tokens = self.image_dropout(self.rgb_projection(self.feature_dropout(rgb)))
        return torch.cat([tokens[:, :, :1] + seen[:, :, None], tokens[:, :, 1:]], dim=2)

    def _features(
        self,
        name: str,
        frames: Tensor | None,
        features: Tensor | None,
        is_seen: Tensor,
        counted: Tensor,
    ) -> Tensor:
        """(B, T, ...): features of the frames in `is_seen`, elsewhere those of zeros."""
        seen = self.features_at(name, frames, features, is_seen)
        if (counted & ~is_seen).any():
            unseen = self._blank_features(name).to(seen.dtype)  # mixed precision has two dtypes
        else:
            unseen = seen.new_zeros(seen.shape[1:])
        every = unseen.expand(*is_seen.shape, *seen.shape[1:]).clone()
        every[is_seen] = seen
        return every

    def _blank_features(self, name: str) -> Tensor:
        """Features of a frame of zeros; a frozen encoder's are cached until its weights change."""
        encoder = self.get_submodule(f"{name}_encoder")
        parameters = list(encoder.parameters())
        learns = any(parameter.requires_grad for parameter in parameters)
        weights = [(parameter.data_ptr(), parameter._version) for parameter in parameters]
        key = (weights, torch.is_autocast_enabled(self.device.type))
        kept_key, kept = self._kept_blanks.get(name, (None, None))
        if kept is not None and kept_key == key and not learns:
            return kept
        size = self.config.image_size if name == "rgb" else self.config.depth_size
        sizes = (3, size, size) if name == "rgb" else (size, size)
        blank = torch.zeros(sizes, device=self.device, dtype=self.dtype)
        features = encoder(blank[None])[0]
        self._kept_blanks = self._kept_blanks | ({} if learns else {name: (key, features)})
        return features

    def _state(self, recurrent_state: Tensor | None, like: Tensor) -> Tensor:
        """State (B, C) in the dtype of `like` (B, ...)."""
        if recurrent_state is None:
            return like.new_zeros(len(like), self.config.hidden_size)
        return recurrent_state[:, 0].to(like.dtype)

    def _scaled(self, displacements: Tensor) -> Tensor:
        config = self.config
        return scale(displacements.float(), config.displacement_min, config.displacement_max)

    @property
    def dummy_inputs(self) -> dict[str, Tensor]:
        """Two episodes, of three and of two steps, with instructions of four and of two tokens."""
        config, generator = self.config, torch.Generator().manual_seed(0)

        def rand(*shape: int) -> Tensor:
            return torch.rand(2, 3, *shape, generator=generator)

        vocab_size = config.text_config.vocab_size
        words = torch.randint(1, vocab_size, (2, 4), generator=generator)
        words[1, 2:] = 0
        channels = NUM_ACTION_CHANNELS
        inputs = {
            "instruction_ids": words,
            "rgb": rand(3, config.image_size, config.image_size),
            "depth": 5 * rand(config.depth_size, config.depth_size),
            "previous_displacements": 0.2 * rand(config.num_previous_displacements, channels),
            "relative_pose": rand(channels),
            "displacements": 0.2 * rand(config.action_horizon, channels),
            "progress": rand(),
            "stop_progress": rand(),
            "step_mask": torch.tensor([[True, True, True], [True, True, False]]),
        }
        return {name: tensor.to(self.device) for name, tensor in inputs.items()}
