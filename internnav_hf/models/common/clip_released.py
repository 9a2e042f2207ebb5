"""Key names and sizes of the CLIP towers and depth encoders in released policies."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from internnav_hf.models.common.clip import clip_vision_keys, long_clip_text_keys

_TEXT = "instruction_encoder.text_transformer."
_IMAGE = "image_encoder.image_transformer."
_VISION = f"{_IMAGE}visual."
_DENOISER = "action_dp_pred_net."
_UNREAD = (
    f"{_IMAGE}positional_embedding_res",
    f"{_IMAGE}text_projection",
    f"{_IMAGE}logit_scale",
    "image_encoder.image_fc.",
    "image_encoder.layernorm.",
    "image_encoder.img_ln.",
    "image_encoder.depth_ln.",
    "image_encoder.pos_embedding.",
    "prev_act_ln.",
    "prev_action_pos_embedding.",
    f"{_DENOISER}_dummy_variable",
    f"{_DENOISER}mask",
    f"{_DENOISER}memory_mask",
)
_HEAD_SIZE = 64  # of CLIP's attention, and of the denoiser's


def released_tower_keys(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """CLIP's towers of an InternNav model, under our names."""
    converted = long_clip_text_keys(state_dict, _TEXT, "text_encoder.")
    return converted | clip_vision_keys(state_dict, _VISION, "rgb_encoder.")


def without_unread(state_dict: Mapping[str, Tensor], unused: tuple[str, ...]) -> dict[str, Tensor]:
    """All but CLIP's towers, what is never read, and what starts with one of `unused`."""
    left_out = (_TEXT, _VISION, *_UNREAD, *unused)
    return {key: value for key, value in state_dict.items() if not key.startswith(left_out)}


def depth_fields(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Sizes of the ResNet for depth."""
    fields: dict[str, Any] = {}
    first = weights.get("depth_encoder.backbone.conv1.0.weight")
    last = weights.get("depth_encoder.compression.0.weight")
    if first is not None and last is not None:
        fields |= {"depth_base_planes": len(first), "depth_feature_channels": len(last)}
    blocks = [_count(weights, rf"depth_encoder\.backbone\.layer{n}\.(\d+)\.") for n in range(1, 9)]
    if any(blocks):
        fields["depth_num_blocks"] = tuple(filter(None, blocks))
    return fields


def tower_fields(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Configurations of CLIP's towers, and the size of images."""
    fields: dict[str, Any] = {}
    words = weights.get("text_encoder.embeddings.token_embedding.weight")
    positions = weights.get("text_encoder.embeddings.position_embedding.weight")
    if words is not None and positions is not None:
        text = _transformer_fields(weights, "text_encoder")
        text |= {"vocab_size": len(words), "max_position_embeddings": len(positions)}
        fields["text_config"] = text
    patches = weights.get("rgb_encoder.embeddings.patch_embedding.weight")
    positions = weights.get("rgb_encoder.embeddings.position_embedding.weight")
    if patches is not None and positions is not None:
        vision = _transformer_fields(weights, "rgb_encoder")
        vision["patch_size"] = patches.shape[-1]
        fields["image_size"] = round((len(positions) - 1) ** 0.5) * patches.shape[-1]
        fields["vision_config"] = vision
    return fields


def _transformer_fields(weights: Mapping[str, Tensor], tower: str) -> dict[str, Any]:
    width = weights[f"{tower}.embeddings.position_embedding.weight"].shape[1]
    inner = weights.get(f"{tower}.encoder.layers.0.mlp.fc1.weight")
    fields = {"hidden_size": width, "num_attention_heads": max(width // _HEAD_SIZE, 1)}
    if inner is not None:
        fields["intermediate_size"] = len(inner)
    return fields | {"num_hidden_layers": _count(weights, rf"{tower}\.encoder\.layers\.(\d+)\.")}


def _count(weights: Mapping[str, Tensor], pattern: str) -> int:
    """Numbers that `pattern` finds in names."""
    return len({match[1] for key in weights if (match := re.match(pattern, key))})
