"""Depth encoder of Seq2Seq, CMA and RDP: the ResNet-50 of DD-PPO (arXiv 1911.00357).

Bottlenecks with GroupNorm on one channel of depth, then a convolution that leaves few channels. Key
names are those of DD-PPO's files. Sizes are arguments; the defaults are the published ones.

Legend: F frames, D depth size, P base planes, C channels out, G size of the grid of features.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from internnav_hf.weights.renaming import count_layers

EXPANSION = 4  # a bottleneck's output channels per plane


class DepthResNet(nn.Module):
    """Features (F, C, G, G) of depth (F, D, D) in units of the largest depth, 0..1.

    `num_blocks` has one number for each stage; stage i has P * 2**i planes. Groups have two
    channels in the first layer, so that P must be even.
    """

    def __init__(
        self,
        base_planes: int = 32,
        num_blocks: tuple[int, ...] = (3, 4, 6, 3),
        feature_channels: int = 128,
    ):
        super().__init__()
        self.backbone = _Backbone(base_planes, num_blocks)
        channels = base_planes * 2 ** (len(num_blocks) - 1) * EXPANSION
        self.compression = nn.Sequential(
            nn.Conv2d(channels, feature_channels, 3, padding=1, bias=False),
            nn.GroupNorm(1, feature_channels),
            nn.ReLU(),
        )

    def forward(self, depth: Tensor) -> Tensor:
        """See the class."""
        halved = F.avg_pool2d(depth[:, None], 2)
        return self.compression(self.backbone(halved))


class _Backbone(nn.Module):
    def __init__(self, base_planes: int, num_blocks: tuple[int, ...]):
        super().__init__()
        num_groups = base_planes // 2
        self.conv1 = nn.Sequential(
            nn.Conv2d(1, base_planes, 7, stride=2, padding=3, bias=False),
            nn.GroupNorm(num_groups, base_planes),
            nn.ReLU(),
        )
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.stage_names = [f"layer{stage + 1}" for stage in range(len(num_blocks))]
        channels = base_planes
        for stage, (name, depth) in enumerate(zip(self.stage_names, num_blocks, strict=True)):
            planes = base_planes * 2**stage
            blocks = []
            for block in range(depth):
                stride = 2 if stage > 0 and block == 0 else 1
                blocks.append(_Bottleneck(channels, planes, stride, num_groups, block == 0))
                channels = planes * EXPANSION
            self.add_module(name, nn.Sequential(*blocks))

    def forward(self, hidden: Tensor) -> Tensor:
        hidden = self.maxpool(self.conv1(hidden))
        for name in self.stage_names:
            hidden = self.get_submodule(name)(hidden)
        return hidden


class _Bottleneck(nn.Module):
    def __init__(
        self, channels: int, planes: int, stride: int, num_groups: int, has_downsample: bool
    ):
        super().__init__()
        out = planes * EXPANSION
        self.convs = nn.Sequential(
            nn.Conv2d(channels, planes, 1, bias=False),
            nn.GroupNorm(num_groups, planes),
            nn.ReLU(),
            nn.Conv2d(planes, planes, 3, stride=stride, padding=1, bias=False),
            nn.GroupNorm(num_groups, planes),
            nn.ReLU(),
            nn.Conv2d(planes, out, 1, bias=False),
            nn.GroupNorm(num_groups, out),
        )
        shortcut = (
            nn.Conv2d(channels, out, 1, stride=stride, bias=False),
            nn.GroupNorm(num_groups, out),
        )
        self.downsample = nn.Sequential(*shortcut) if has_downsample else nn.Identity()

    def forward(self, hidden: Tensor) -> Tensor:
        return F.relu(self.convs(hidden) + self.downsample(hidden))


def depth_grid_size(depth_size: int, num_stages: int) -> int:
    """G for frames of `depth_size`: halved by pooling, then by every layer of stride 2."""
    size = depth_size // 2
    for _ in range(num_stages + 1):
        size = (size + 1) // 2
    return size


def depth_fields(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Sizes of the depth ResNet, from the shapes of `weights`."""
    fields: dict[str, Any] = {}
    first = weights.get("depth_encoder.backbone.conv1.0.weight")
    last = weights.get("depth_encoder.compression.0.weight")
    if first is not None and last is not None:
        fields |= {"depth_base_planes": len(first), "depth_feature_channels": len(last)}
    names = [rf"depth_encoder\.backbone\.layer{n}\.(\d+)\." for n in range(1, 9)]
    blocks = [count_layers(weights, name) for name in names]
    if any(blocks):
        fields["depth_num_blocks"] = tuple(filter(None, blocks))
    return fields
