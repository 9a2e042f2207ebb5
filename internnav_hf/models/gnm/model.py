"""GNM (arXiv 2210.03370): one network that drives many robots to the places of images.

Two MobileNetV2 see the stacked views, and the stacked views with the goal; layers predict waypoints
and the distance to the goal, in frames.

Linear layers begin with torch's own weights, not with the encoder's published rule (N(0, 0.01)):
five of them in a row would let so little through that nothing of the images is learnt at first.

Legend: B samples, M memory frames, C width, h, w image size.
"""

import torch
from einops import rearrange
from torch import Tensor, nn

from internnav_hf.models.gnm.base import WaypointModel, layers
from internnav_hf.models.gnm.config import GNMConfig
from internnav_hf.models.gnm.encoders import mobilenet, normalised


class GNMModel(WaypointModel):
    """See the module."""

    config_class = GNMConfig
    config: GNMConfig

    def __init__(self, config: GNMConfig):
        super().__init__(config)
        width, vision = config.hidden_size, config.vision_config
        self.rgb_encoder = mobilenet(vision, config.num_memory_frames)
        self.rgb_projection = layers(self.rgb_encoder.size, width)
        self.goal_encoder = mobilenet(vision, config.num_memory_frames + 1)
        self.goal_projection = layers(self.goal_encoder.size, width, width)
        self.layers = layers(2 * width, *config.head_sizes)
        self.build_heads(config.head_sizes[-1])
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def read(self, rgb: Tensor) -> Tensor:
        """(B, C) of `rgb` (B, M, 3, h, w)."""
        frames = rearrange(normalised(rgb, self.dtype), "b m c h w -> b (m c) h w")
        return self.rgb_projection(self.rgb_encoder(frames))

    def features(self, memory: Tensor, rgb: Tensor, goal_image: Tensor) -> Tensor:
        """See `WaypointModel`."""
        seen = normalised(torch.cat([rgb, goal_image[:, None]], dim=1), self.dtype)
        stacked = rearrange(seen, "b m c h w -> b (m c) h w")
        goal = self.goal_projection(self.goal_encoder(stacked))
        return self.layers(torch.cat([memory, goal], dim=-1))
