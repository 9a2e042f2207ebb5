"""ViNT (arXiv 2306.14846): a transformer over encoded views and goal, for many robots.

An EfficientNet encodes each view, another one the goal with the current view, or in late fusion
alone.

Legend: B samples, M memory frames, C width, h, w image size.
"""

import torch
from einops import rearrange
from torch import Tensor, nn

from internnav_hf.models.gnm.base import WaypointModel, layers
from internnav_hf.models.gnm.config import ViNTConfig
from internnav_hf.models.gnm.encoders import TokenEncoder, efficientnet, normalised


class ViNTModel(WaypointModel):
    """See the module."""

    config_class = ViNTConfig
    config: ViNTConfig

    def __init__(self, config: ViNTConfig):
        super().__init__(config)
        width, vision = config.hidden_size, config.vision_config
        self.rgb_encoder = efficientnet(vision, 1)
        self.goal_encoder = efficientnet(vision, 1 if config.late_fusion else 2)
        self.rgb_projection = nn.Linear(self.rgb_encoder.size, width)
        self.goal_projection = nn.Linear(self.goal_encoder.size, width)
        self.token_encoder = TokenEncoder(config)
        self.layers = layers((config.num_memory_frames + 1) * width, *config.head_sizes)
        self.build_heads(config.head_sizes[-1])
        self.post_init()

    def read(self, rgb: Tensor) -> Tensor:
        """(B, M, C) of `rgb` (B, M, 3, h, w)."""
        frames = normalised(rgb.flatten(0, 1), self.dtype)
        return self.rgb_projection(self.rgb_encoder(frames)).unflatten(0, rgb.shape[:2])

    def features(self, memory: Tensor, rgb: Tensor, goal_image: Tensor) -> Tensor:
        """See `WaypointModel`."""
        seen = normalised(goal_image, self.dtype)
        if not self.config.late_fusion:
            seen = torch.cat([normalised(rgb[:, -1], self.dtype), seen], dim=1)
        goal = self.goal_projection(self.goal_encoder(seen))
        tokens = self.token_encoder(torch.cat([memory, goal[:, None]], dim=1))
        return self.layers(rearrange(tokens, "b n c -> b (n c)"))
