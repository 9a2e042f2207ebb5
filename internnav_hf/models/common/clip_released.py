"""Key names and sizes of the CLIP towers in released policies."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from internnav_hf.models.common.clip import clip_vision_keys, long_clip_text_keys
from internnav_hf.weights.renaming import Names, below, count_layers, renamed, under, without

_TEXT = "instruction_encoder.text_transformer."
_IMAGE = "image_encoder.image_transformer."
_VISION = f"{_IMAGE}visual."
DENOISER = "action_dp_pred_net."
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
    f"{DENOISER}_dummy_variable",
    f"{DENOISER}mask",
    f"{DENOISER}memory_mask",
)
HEAD_SIZE = 64  # width of an attention head, in CLIP and in the denoiser


def released_tower_keys(
    state_dict: Mapping[str, Tensor], names: Names, unused: tuple[str, ...] = ()
) -> dict[str, Tensor]:
    """Rename the weights of an InternNav policy over CLIP's towers; `names` maps the other parts.
    Keys that start with one of `unused`, and weights that are never used, are left out.
    """
    text = long_clip_text_keys(below(state_dict, _TEXT))
    vision = clip_vision_keys(below(state_dict, _IMAGE))
    converted = renamed(without(state_dict, (_TEXT, _VISION, *_UNREAD, *unused)), names)
    return under("text_encoder.", text) | under("rgb_encoder.", vision) | converted


def tower_fields(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Configurations of CLIP's towers, and the image size, from the shapes of `weights`."""
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
    fields = {"hidden_size": width, "num_attention_heads": max(width // HEAD_SIZE, 1)}
    if inner is not None:
        fields["intermediate_size"] = len(inner)
    layers = rf"{tower}\.encoder\.layers\.(\d+)\."
    return fields | {"num_hidden_layers": count_layers(weights, layers)}
