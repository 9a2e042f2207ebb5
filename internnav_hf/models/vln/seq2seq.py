"""Seq2Seq (VLN-CE, arXiv 2004.02857): instruction and views go into one recurrent state.

See `base` for the differences from the published code.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from internnav_hf.models.common.depth_resnet import depth_grid_size
from internnav_hf.models.common.recurrent import StateEncoder
from internnav_hf.models.vln.base import NUM_ACTIONS, RecurrentVLNModel, Steps
from internnav_hf.models.vln.config import Seq2SeqConfig


class Seq2SeqModel(RecurrentVLNModel):
    """See the module. `rgb_features` are (B, T, C), the ResNet's mean over the image."""

    config_class = Seq2SeqConfig
    config: Seq2SeqConfig
    released_variant = "Seq2Seq"

    def __init__(self, config: Seq2SeqConfig):
        super().__init__(config)
        grid = depth_grid_size(config.depth_size, len(config.depth_num_blocks))
        self.depth_projection = nn.Linear(
            config.depth_feature_channels * grid**2, config.depth_hidden_size
        )
        self.rgb_projection = nn.Linear(config.rgb_config.hidden_sizes[-1], config.rgb_hidden_size)
        width = config.instruction_hidden_size + config.depth_hidden_size + config.rgb_hidden_size
        self.sees_previous_action = config.use_previous_action
        if config.use_previous_action:
            size = config.action_embedding_size
            self.previous_action_embedding = nn.Embedding(1 + NUM_ACTIONS, size)
            width += size
        self.state_encoder = StateEncoder(width, config.hidden_size)
        self.post_init()
        self.train(self.training)  # freezes the parts that the configuration freezes

    def advance(self, steps: Steps, state: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, H) for the heads, and all states (B, T, 1, H), from `state` (B, 1, H)."""
        depth = F.relu(self.depth_projection(steps.depth.flatten(1)))
        rgb = F.relu(self.rgb_projection(steps.rgb))
        seen = steps.to_steps(torch.cat([depth, rgb], dim=-1))
        instruction = steps.instruction[:, None].expand(-1, seen.shape[1], -1)
        inputs = [instruction, seen]
        if steps.previous_actions is not None:
            inputs.append(steps.previous_actions)
        states = self.state_encoder(torch.cat(inputs, dim=-1), state[:, 0], steps.reset_mask)
        return states, states[:, :, None]
