"""The ResNet with GroupNorm of DD-PPO (arXiv 1911.00357), of its agents as of Seq2Seq, CMA and RDP,
which take its depth encoder.

Views are halved; blocks with GroupNorm follow, then a convolution that leaves few channels. Key
names are those of DD-PPO's files. Sizes are arguments; the defaults are the published ones.

Legend: F frames, V channels of the views, H and W their size, D depth size, P base planes, C
channels out, G size of the grid of features.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from internnav_hf.weights.renaming import count_layers

EXPANSIONS = {"basic": 1, "bottleneck": 4, "resnext": 2}
"""A block's output channels per plane, by type; a ResNeXt's planes are doubled."""
_SMALLEST_VARIANCE = 1e-2
_SQUEEZE = 16  # channels for each unit of a gate


class GroupNormResNet(nn.Module):
    """Features (F, C, G, G') of views (F, V, H, W) in 0..1.

    `num_blocks` has one number for each stage; stage i has P * 2**i planes. Groups have two
    channels in the first layer, so that P must be even. `block_type` is one of `EXPANSIONS`;
    `squeeze_excite` adds a gate for each channel to every block; `normalise` shifts and scales
    channels by their statistics so far.
    """

    def __init__(
        self,
        num_channels: int = 1,
        base_planes: int = 32,
        num_blocks: tuple[int, ...] = (3, 4, 6, 3),
        feature_channels: int = 128,
        block_type: str = "bottleneck",
        squeeze_excite: bool = False,
        normalise: bool = False,
    ):
        super().__init__()
        self.statistics = RunningNorm(num_channels) if normalise else nn.Identity()
        self.backbone = _Backbone(num_channels, base_planes, num_blocks, block_type, squeeze_excite)
        self.compression = nn.Sequential(
            nn.Conv2d(self.backbone.num_features, feature_channels, 3, padding=1, bias=False),
            nn.GroupNorm(1, feature_channels),
            nn.ReLU(),
        )

    def forward(self, views: Tensor) -> Tensor:
        """See the class."""
        return self.compression(self.backbone(self.statistics(F.avg_pool2d(views, 2))))


class DepthResNet(GroupNormResNet):
    """Features (F, C, G, G) of depth (F, D, D) in units of the largest depth, 0..1."""

    def __init__(
        self,
        base_planes: int = 32,
        num_blocks: tuple[int, ...] = (3, 4, 6, 3),
        feature_channels: int = 128,
    ):
        super().__init__(1, base_planes, num_blocks, feature_channels)

    def forward(self, depth: Tensor) -> Tensor:
        """See the class."""
        return super().forward(depth[:, None])


class RunningNorm(nn.Module):
    """Views (F, V, H, W) minus the mean, and over the deviation, of all views seen in training, by
    all processes; as published, a variance counts as 0.01 at least.
    """

    mean: Tensor
    variance: Tensor
    count: Tensor

    def __init__(self, num_channels: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(1, num_channels, 1, 1))
        self.register_buffer("variance", torch.zeros(1, num_channels, 1, 1))
        self.register_buffer("count", torch.zeros(()))

    def forward(self, views: Tensor) -> Tensor:
        """See the class; in training, the views count before they are scaled."""
        if self.training:
            self._see(views.detach())
        scale = self.variance.clamp(min=_SMALLEST_VARIANCE).rsqrt()
        return (views - self.mean) * scale

    @torch.no_grad()
    def _see(self, views: Tensor) -> None:
        count = _summed(self.count.new_tensor(len(views)))
        if count == 0:
            return
        mean = _summed(views.mean((2, 3), keepdim=True).sum(0, keepdim=True)) / count
        squares = (views - mean).square().mean((2, 3), keepdim=True)
        variance = _summed(squares.sum(0, keepdim=True)) / count
        total = self.count + count
        between = (mean - self.mean).square() * self.count * count / total
        self.variance.copy_((self.variance * self.count + variance * count + between) / total)
        self.mean.copy_((self.mean * self.count + mean * count) / total)
        self.count.copy_(total)


def _summed(value: Tensor) -> Tensor:
    """`value` summed over all processes."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(value)
    return value


class _Backbone(nn.Module):
    def __init__(
        self,
        num_channels: int,
        base_planes: int,
        num_blocks: tuple[int, ...],
        block_type: str,
        squeeze_excite: bool,
    ):
        super().__init__()
        num_groups = base_planes // 2
        self.conv1 = nn.Sequential(
            nn.Conv2d(num_channels, base_planes, 7, stride=2, padding=3, bias=False),
            nn.GroupNorm(num_groups, base_planes),
            nn.ReLU(),
        )
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.stage_names = [f"layer{stage + 1}" for stage in range(len(num_blocks))]
        is_resnext = block_type == "resnext"
        channels = base_planes
        for stage, (name, depth) in enumerate(zip(self.stage_names, num_blocks, strict=True)):
            planes = base_planes * 2 ** (stage + is_resnext)
            out = planes * EXPANSIONS[block_type]
            blocks = []
            for block in range(depth):
                stride = 2 if stage > 0 and block == 0 else 1
                # as published: the blocks after a stage's first one are not split
                cardinality = num_groups if is_resnext and block == 0 else 1
                convs = _convs(channels, planes, out, stride, num_groups, cardinality)
                blocks.append(_Block(convs, channels, out, stride, num_groups, squeeze_excite))
                channels = out
            self.add_module(name, nn.Sequential(*blocks))
        self.num_features = channels

    def forward(self, hidden: Tensor) -> Tensor:
        hidden = self.maxpool(self.conv1(hidden))
        for name in self.stage_names:
            hidden = self.get_submodule(name)(hidden)
        return hidden


class _Block(nn.Module):
    """`convs` with a shortcut around them."""

    def __init__(
        self,
        convs: nn.Module,
        channels: int,
        out: int,
        stride: int,
        num_groups: int,
        squeeze_excite: bool,
    ):
        super().__init__()
        self.convs = convs
        shortcut = (
            nn.Conv2d(channels, out, 1, stride=stride, bias=False),
            nn.GroupNorm(num_groups, out),
        )
        fits = stride == 1 and channels == out
        self.downsample = nn.Identity() if fits else nn.Sequential(*shortcut)
        self.se = _Gate(out) if squeeze_excite else nn.Identity()

    def forward(self, hidden: Tensor) -> Tensor:
        return F.relu(self.se(self.convs(hidden)) + self.downsample(hidden))


class _Gate(nn.Module):
    """Squeeze and excitation (arXiv 1709.01507): channels times a gate of their means."""

    def __init__(self, channels: int):
        super().__init__()
        narrow = max(1, channels // _SQUEEZE)
        self.excite = nn.Sequential(
            nn.Linear(channels, narrow), nn.ReLU(), nn.Linear(narrow, channels), nn.Sigmoid()
        )

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden * self.excite(hidden.mean((2, 3)))[..., None, None]


def _convs(
    channels: int, planes: int, out: int, stride: int, num_groups: int, cardinality: int
) -> nn.Sequential:
    """Two convolutions of 3x3 if `out` is `planes`; else one of them between two of 1x1."""
    if out == planes:
        return nn.Sequential(
            nn.Conv2d(channels, planes, 3, stride=stride, padding=1, bias=False),
            nn.GroupNorm(num_groups, planes),
            nn.ReLU(),
            nn.Conv2d(planes, planes, 3, padding=1, bias=False),
            nn.GroupNorm(num_groups, planes),
        )
    return nn.Sequential(
        nn.Conv2d(channels, planes, 1, bias=False),
        nn.GroupNorm(num_groups, planes),
        nn.ReLU(),
        nn.Conv2d(planes, planes, 3, stride, padding=1, groups=cardinality, bias=False),
        nn.GroupNorm(num_groups, planes),
        nn.ReLU(),
        nn.Conv2d(planes, out, 1, bias=False),
        nn.GroupNorm(num_groups, out),
    )


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
    blocks = num_blocks_of(weights, "depth_encoder.")
    return fields | ({"depth_num_blocks": blocks} if blocks else {})


def num_blocks_of(weights: Mapping[str, Tensor], prefix: str) -> tuple[int, ...]:
    """Blocks of each stage of the ResNet whose keys in `weights` start with `prefix`."""
    names = [rf"{re.escape(prefix)}backbone\.layer{n}\.(\d+)\." for n in range(1, 9)]
    return tuple(filter(None, (count_layers(weights, name) for name in names)))
