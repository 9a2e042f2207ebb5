"""Attention of CMA over CLIP encoders: state, colours and depth each attend to the instruction.

InternNav has this network, but no configuration or weights of it: sizes are those of RDP's
encoders.

Legend: B episodes, T steps, F valid frames, K cells of a grid of depth, V width of the vision
tower, H hidden.
"""

import torch
from einops import rearrange
from torch import Tensor, nn

from internnav_hf.models.common.cross_modal import CrossModalEncoder
from internnav_hf.models.vln.base import Steps
from internnav_hf.models.vln.config import CMAConfig


class ClipReader(nn.Module):
    """Three cross-modal encoders, whose first tokens are the output."""

    def __init__(self, config: CMAConfig, depth_channels: int):
        super().__init__()
        vision_size = config.vision_config.hidden_size
        self.rgb_tokens = nn.Linear(vision_size, config.hidden_size)
        self.depth_tokens = nn.Linear(depth_channels, config.hidden_size)
        self.state_reader = CrossModalEncoder(config)
        self.rgb_reader = CrossModalEncoder(config)
        self.depth_reader = CrossModalEncoder(config)

    def project(self, rgb: Tensor) -> Tensor:
        """(F, 5, H) from features `rgb` (F, 5, V)."""
        return self.rgb_tokens(rgb)

    def forward(self, states: Tensor, rgb: Tensor, depth: Tensor, steps: Steps) -> Tensor:
        """(B, T, 3 H) from `states` (B, T, H), projected `rgb` (F, 5, H), and `depth` (F, K, C)."""
        asked = {
            self.state_reader: states[:, :, None],
            self.rgb_reader: _to_steps(rgb, steps),
            self.depth_reader: _to_steps(self.depth_tokens(depth), steps),
        }
        text, mask = steps.instruction, steps.instruction.any(-1)
        found = [reader.read_text(tokens, text, mask)[:, :, 0] for reader, tokens in asked.items()]
        return torch.cat(found, dim=-1)


def _to_steps(tokens: Tensor, steps: Steps) -> Tensor:
    """(B, T, K, H) from `tokens` (F, K, H)."""
    rows = steps.to_steps(rearrange(tokens, "f k c -> f (k c)"))
    return rearrange(rows, "b t (k c) -> b t k c", k=tokens.shape[1])
