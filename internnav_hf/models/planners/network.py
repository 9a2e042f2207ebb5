"""The planners' network: ResNets of images, and a decoder that the goal conditions.

The ResNet has no normalisation but, in iPlanner, batch norm in its shortcuts.

Legend: B images, C channels, h and w rows and columns of features, K keypoints.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import ResNetConfig, ResNetModel

from internnav_hf.models.planners.config import PlannerConfig

NUM_COORDINATES = 3


class PlannerEncoder(ResNetModel):
    """Features of one image."""

    def __init__(self, config: PlannerConfig):
        super().__init__(
            ResNetConfig(
                embedding_size=config.embedding_size,
                hidden_sizes=list(config.hidden_sizes),
                depths=list(config.depths),
                layer_type="basic",
            )
        )
        for name, module in list(self.named_modules()):
            is_kept = config.normalise_shortcuts and ".shortcut." in name
            if isinstance(module, nn.BatchNorm2d) and not is_kept:
                self.set_submodule(name, nn.Identity())

    def forward(self, images: Tensor) -> Tensor:
        """Features (B, C, h, w) of `images` (B, 3, H, W)."""
        return self.encoder(self.embedder(images)).last_hidden_state


class PlannerDecoder(nn.Module):
    """Keypoints, and the fear that the path collides."""

    def __init__(self, config: PlannerConfig, num_channels: int):
        super().__init__()
        self.goal_projection = nn.Linear(NUM_COORDINATES, config.num_goal_channels)
        sizes = [num_channels + config.num_goal_channels, *config.decoder_conv_sizes]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(size, sizes[i + 1], 3 if i else 5, padding=0 if i else 1)
            for i, size in enumerate(sizes[:-1])
        )
        rows, columns = config.decoded_size
        first, *others = config.decoder_hidden_sizes
        self.trunk = nn.Linear(sizes[-1] * rows * columns, first)
        self.keypoint_head = _linears(first, *others, NUM_COORDINATES * config.num_keypoints)
        self.fear_head = _linears(first, *config.fear_hidden_sizes, 1)

    def forward(self, features: Tensor, goal: Tensor) -> tuple[Tensor, Tensor]:
        """Keypoints (B, K, 3) and logits of fear (B,) for `features` (B, C, h, w) and `goal`
        (B, 3).
        """
        channels = self.goal_projection(goal.to(features))[:, :, None, None]
        hidden = torch.cat([features, channels.expand(-1, -1, *features.shape[2:])], dim=1)
        for convolution in self.convolutions:
            hidden = F.relu(convolution(hidden))
        hidden = F.relu(self.trunk(hidden.flatten(1)))
        keypoints = _through(self.keypoint_head, hidden).unflatten(-1, (-1, NUM_COORDINATES))
        return keypoints, _through(self.fear_head, hidden)[:, 0]


def _linears(*sizes: int) -> nn.ModuleList:
    return nn.ModuleList(nn.Linear(*pair) for pair in pairwise(sizes))


def _through(layers: nn.ModuleList, hidden: Tensor) -> Tensor:
    for layer in layers[:-1]:
        hidden = F.relu(layer(hidden))
    return layers[-1](hidden)
