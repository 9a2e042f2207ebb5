"""CMA (VLN-CE, arXiv 2004.02857): a state attends to the instruction, the result to the views.

With `use_clip` it uses CLIP's towers and cross-modal encoders, see `cma_clip`. See `base` for the
differences from the published code.

Legend as in `base`, and K cells of a grid of features, C channels.
"""

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from internnav_hf.models.common.depth_resnet import depth_grid_size
from internnav_hf.models.common.recurrent import StateEncoder
from internnav_hf.models.vln.base import NUM_ACTIONS, RecurrentVLNModel, Steps
from internnav_hf.models.vln.cma_clip import ClipReader
from internnav_hf.models.vln.cma_clip_released import (
    released_cma_clip_fields,
    released_cma_clip_keys,
)
from internnav_hf.models.vln.config import CMAConfig
from internnav_hf.models.vln.follower import FollowerModel
from internnav_hf.models.vln.released import CLIP_VARIANT, VLNRelease

RGB_GRID = 4  # cells in a row of the colour features
POSITION_SIZE = 64  # channels of the position code of a cell


class CMAModel(RecurrentVLNModel):
    """See the module. `rgb_features` are (B, T, C, 4, 4), over CLIP (B, T, 5, C)."""

    config_class = CMAConfig
    config: CMAConfig
    released_variant = "CMA"
    num_recurrent_layers = 2
    has_bidirectional_instruction = True
    rgb_grid = RGB_GRID

    def __init__(self, config: CMAConfig):
        super().__init__(config)
        hidden, rgb_size, depth_size = (
            config.hidden_size,
            config.rgb_hidden_size,
            config.depth_hidden_size,
        )
        depth_cells = depth_grid_size(config.depth_size, len(config.depth_num_blocks)) ** 2
        depth_channels = config.depth_feature_channels + POSITION_SIZE
        if config.use_clip:
            self.clip_reader = ClipReader(config, depth_channels)
            rgb_channels, found_size = hidden, 3 * hidden
        else:
            rgb_channels = config.rgb_config.hidden_sizes[-1] + POSITION_SIZE
            found_size = self._add_attention(rgb_channels, depth_channels)
        self.depth_positions = nn.Embedding(depth_cells, POSITION_SIZE)
        self.previous_action_embedding = nn.Embedding(1 + NUM_ACTIONS, config.action_embedding_size)
        self.rgb_projection = nn.Linear(rgb_channels, rgb_size)
        self.depth_projection = nn.Linear(depth_channels * depth_cells, depth_size)
        self.state_encoder = StateEncoder(
            rgb_size + depth_size + config.action_embedding_size, hidden
        )
        second = hidden + found_size + config.action_embedding_size
        self.second_projection = nn.Linear(second, hidden)
        self.second_state_encoder = StateEncoder(hidden, hidden)
        self.post_init()
        self.train(self.training)  # freezes the parts that the configuration freezes

    @classmethod
    def convert_release(cls, release: VLNRelease, unused: tuple[str, ...]):
        """See `FollowerModel`."""
        if release.variant != CLIP_VARIANT:
            return super().convert_release(release, unused)
        weights = released_cma_clip_keys(release.weights, unused)
        return weights, released_cma_clip_fields(weights)

    def add_encoders(self, config: CMAConfig) -> None:
        """Add the encoders of instruction and colours."""
        (FollowerModel if config.use_clip else RecurrentVLNModel).add_encoders(self, config)

    def encode_instruction(self, instruction_ids: Tensor) -> Tensor:
        """Encode ids (B, L) once per episode; `act` accepts the result in their place."""
        base = FollowerModel if self.config.use_clip else RecurrentVLNModel
        return base.encode_instruction(self, instruction_ids)

    def advance(self, steps: Steps, state: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, H) for the heads, and all states (B, T, 2, H), from `state` (B, 2, H)."""
        assert steps.previous_actions is not None
        if self.config.use_clip:
            rgb, read = self.clip_reader.project(steps.rgb), self.clip_reader
        else:
            rgb, read = with_positions(steps.rgb, self.rgb_positions), self._read
        depth = with_positions(steps.depth, self.depth_positions)
        rgb_seen = F.relu(self.rgb_projection(rgb.mean(1)))
        depth_seen = F.relu(self.depth_projection(rearrange(depth, "f k c -> f (c k)")))
        seen = steps.to_steps(torch.cat([rgb_seen, depth_seen], dim=-1))
        first = self.state_encoder(
            torch.cat([seen, steps.previous_actions], dim=-1), state[:, 0], steps.reset_mask
        )
        found = read(first, rgb, depth, steps)
        second = torch.cat([first, found, steps.previous_actions], dim=-1)
        second = self.second_state_encoder(
            F.relu(self.second_projection(second)), state[:, 1], steps.reset_mask
        )
        return second, torch.stack([first, second], dim=2)

    def _add_attention(self, rgb_channels: int, depth_channels: int) -> int:
        """Add the attention layers; returns the width of the output of `_read`."""
        config = self.config
        width, text_size = config.hidden_size // 2, 2 * config.instruction_hidden_size
        rgb_size, depth_size = config.rgb_hidden_size, config.depth_hidden_size
        self.rgb_positions = nn.Embedding(RGB_GRID**2, POSITION_SIZE)
        self.state_query = nn.Linear(config.hidden_size, width)
        self.text_key = nn.Linear(text_size, width)
        self.text_query = nn.Linear(text_size, width)
        self.rgb_key_value = nn.Linear(rgb_channels, width + rgb_size)
        self.depth_key_value = nn.Linear(depth_channels, width + depth_size)
        return text_size + rgb_size + depth_size

    def _read(self, states: Tensor, rgb: Tensor, depth: Tensor, steps: Steps) -> Tensor:
        """(B, T, C): `states` (B, T, H) attend to the instruction, and the result to the views
        `rgb` and `depth` (F, K, C).
        """
        instruction = steps.instruction  # (B, L, C), zeros at padding
        is_word = instruction.any(-1)[:, None]
        keys = self.text_key(instruction)
        text = attend(self.state_query(states), keys, instruction, is_word)
        query = self.text_query(text)[steps.step_mask][:, None]  # of frames, as the views are
        width = query.shape[-1]
        rgb_found = attend(query, *self.rgb_key_value(rgb).tensor_split([width], dim=-1))
        depth_found = attend(query, *self.depth_key_value(depth).tensor_split([width], dim=-1))
        views = steps.to_steps(torch.cat([rgb_found[:, 0], depth_found[:, 0]], dim=-1))
        return torch.cat([text, views], dim=-1)


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """Attention (..., Q, C) of `query` (..., Q, W), `key` (..., K, W), `value` (..., K, C) and,
    True where valid, `mask` (..., 1, K). A row without a valid key gets the mean.
    """
    logits = query @ key.mT / query.shape[-1] ** 0.5
    if mask is not None:
        logits = logits.masked_fill(~mask, torch.finfo(logits.dtype).min)
    return logits.softmax(-1) @ value


def with_positions(features: Tensor, positions: nn.Embedding) -> Tensor:
    """(F, K, C + P): `features` (F, C, G, G) with the table of `positions` (K, P).

    As published the table is read as (P, K), not transposed.
    """
    cells = rearrange(features, "f c row column -> f (row column) c")
    table = positions.weight.view(positions.embedding_dim, -1).T
    return torch.cat([cells, table.expand(len(cells), -1, -1)], dim=-1)
