"""Encoders of the image-goal family: transformers' MobileNetV2 and EfficientNet, and the
transformer over the images that they encode.

Differs from transformers' models: the momentum of batch norm is the published one; a dropped
connection is dropped for a whole sample; new weights are drawn by the model that has the encoder.
transformers draws the factors of EfficientNet's batch norm around 0, and no image gets through.

Legend: B samples, N tokens, C width, H, W image size.
"""

import copy
from collections import OrderedDict
from typing import Any

import torch
from diffusers.models.embeddings import get_timestep_embedding
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import EfficientNetModel, MobileNetV2Model, PreTrainedConfig
from transformers.models.efficientnet.modeling_efficientnet import EfficientNetFinalBlockLayer

from internnav_hf.models.common.dino import IMAGENET_MEAN, IMAGENET_STD, to_unit
from internnav_hf.models.gnm.config import TokenConfig

_MOBILENET_MOMENTUM = 0.1


class ImageEncoder(nn.Module):
    """Mean over the places of an image's features, which are as wide as `size`, with `dropout`."""

    def __init__(self, features: nn.Sequential, size: int, dropout: float = 0.0):
        super().__init__()
        self.features = features
        self.size = size
        for module in features.modules():  # of which transformers says that its weights are drawn
            module.__dict__.pop("_is_hf_initialized", None)
        self.dropout = nn.Dropout(dropout)

    def forward(self, images: Tensor) -> Tensor:
        """(B, size) of normalised `images` (B, 3 or a multiple of it, H, W)."""
        return self.dropout(self.features(images).mean((2, 3)))


def mobilenet(config: PreTrainedConfig, num_images: int) -> ImageEncoder:
    """MobileNetV2 of `num_images` images stacked by channel; `config` is a `MobileNetV2Config`."""
    whole: Any = MobileNetV2Model(_stacked(config, num_images), add_pooling_layer=False)
    parts = {"stem": whole.conv_stem, "blocks": nn.Sequential(*whole.layer), "top": whole.conv_1x1}
    features = nn.Sequential(OrderedDict(parts))
    for module in features.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = _MOBILENET_MOMENTUM
    return ImageEncoder(features, whole.conv_1x1.convolution.out_channels)


def efficientnet(
    config: PreTrainedConfig, num_images: int, channels_per_group: int | None = None
) -> ImageEncoder:
    """EfficientNet of `num_images` images stacked by channel, with dropout after the mean; `config`
    is an `EfficientNetConfig`. With `channels_per_group` batch norm becomes group norm.
    """
    whole: Any = EfficientNetModel(_stacked(config, num_images))
    parts = {
        "stem": whole.embeddings,
        "blocks": nn.Sequential(*whole.encoder.blocks),
        "top_conv": whole.encoder.top_conv,
        "top_norm": whole.encoder.top_bn,
        "activation": whole.encoder.top_activation,
    }
    features = nn.Sequential(OrderedDict(parts))
    for module in list(features.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, _norm(child, whole.config, channels_per_group))
            elif isinstance(module, EfficientNetFinalBlockLayer) and isinstance(child, nn.Dropout):
                setattr(module, name, _SampleDropout(child.p))
    size = whole.encoder.top_conv.out_channels
    return ImageEncoder(features, size, whole.config.dropout_rate)


def _stacked(config: PreTrainedConfig, num_images: int) -> PreTrainedConfig:
    config = copy.deepcopy(config)
    config.num_channels = 3 * num_images
    return config


def _norm(norm: nn.BatchNorm2d, config: Any, channels_per_group: int | None) -> nn.Module:
    if channels_per_group is None:
        norm.momentum = config.batch_norm_momentum
        return norm
    return nn.GroupNorm(max(1, norm.num_features // channels_per_group), norm.num_features)


class _SampleDropout(nn.Dropout):
    """Drops all features of a sample, or none."""

    def forward(self, input: Tensor) -> Tensor:
        """`input` (B, ...), with zeros in place of dropped samples, the others scaled."""
        ones = input.new_ones(len(input), *(1,) * (input.dim() - 1))
        return input * F.dropout(ones, self.p, self.training)


class TokenEncoder(nn.TransformerEncoder):
    """A transformer over encoded images, oldest first, the goal last; no norm at its end."""

    def __init__(self, config: TokenConfig):
        layer = nn.TransformerEncoderLayer(
            config.hidden_size,
            config.num_attention_heads,
            config.intermediate_size,
            config.dropout,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        super().__init__(layer, config.num_hidden_layers, enable_nested_tensor=False)

    def forward(self, tokens: Tensor, is_hidden: Tensor | None = None) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """(B, N, C) of `tokens` (B, N, C); those that `is_hidden` (B, N) marks are not attended
        to.
        """
        if not len(tokens):  # torch's attention cannot be empty
            return tokens
        tokens = tokens + positions(tokens.shape[1], tokens.shape[2]).to(tokens)
        return super().forward(tokens, src_key_padding_mask=is_hidden)


def positions(num_tokens: int, width: int) -> Tensor:
    """(N, C) float32: sine and cosine of the position in turn."""
    code = get_timestep_embedding(torch.arange(num_tokens), width, downscale_freq_shift=0)
    return rearrange(code, "n (two c) -> n (c two)", two=2)


def normalised(images: Tensor, dtype: torch.dtype) -> Tensor:
    """`images` (..., 3, H, W), bytes or floats in [0, 1], by ImageNet's mean and deviation."""
    mean, std = (torch.tensor(v, device=images.device) for v in (IMAGENET_MEAN, IMAGENET_STD))
    return ((to_unit(images) - mean[:, None, None]) / std[:, None, None]).to(dtype)
