"""Names of InternNav's weights of CMA over CLIP encoders. None are released so far."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from internnav_hf.models.common.clip_config import CLIP_MEAN, CLIP_STD
from internnav_hf.models.common.clip_released import (
    released_tower_keys,
    tower_fields,
)
from internnav_hf.models.common.depth_resnet import depth_fields
from internnav_hf.weights.renaming import sizes

# InternNav's names -> ours.
_NAMES = (
    (r"^image_encoder\.depth_encoder\.visual_encoder\.", "depth_encoder."),
    (r"^image_encoder\.depth_encoder\.spatial_embeddings\.", "depth_positions."),
    (r"^rgb_proj_linear\.", "clip_reader.rgb_tokens."),
    (r"^depth_k_linear\.", "clip_reader.depth_tokens."),
    (
        r"^(state_txt|txt_rgb|txt_depth)_cross_encoder\.cross_modal_encoder\.crossattention\.",
        lambda match: f"clip_reader.{_READERS[match[1]]}.layers.",
    ),
    (r"^rgb_linear\.2\.", "rgb_projection."),
    (r"^depth_linear\.1\.", "depth_projection."),
    (r"^prev_action_embedding\.", "previous_action_embedding."),
    (r"^second_state_compress\.0\.", "second_projection."),
    (r"^action_distribution\.linear\.", "action_head."),
    (r"^progress_monitor\.", "progress_head."),
)
_READERS = {"state_txt": "state_reader", "txt_rgb": "rgb_reader", "txt_depth": "depth_reader"}
# Unused parts of RDP's image encoder in this network.
_UNREAD = (
    "image_encoder.depth_linear.",
    "image_encoder.img_learnable_linear.",
    "image_encoder.depth_learnable_linear.",
)
# Sizes read from shapes: our name -> field, axis.
_SIZES = {
    "rgb_projection.weight": ("rgb_hidden_size", 0),
    "depth_projection.weight": ("depth_hidden_size", 0),
    "previous_action_embedding.weight": ("action_embedding_size", 1),
    "second_projection.weight": ("hidden_size", 0),
    "clip_reader.rgb_reader.layers.0.intermediate.dense.weight": (
        "cross_modal_intermediate_size",
        0,
    ),
}


def released_cma_clip_keys(
    state_dict: Mapping[str, Tensor], unused: tuple[str, ...] = ()
) -> dict[str, Tensor]:
    """Rename the weights, without keys that start with one of `unused`."""
    return released_tower_keys(state_dict, _NAMES, (*_UNREAD, *unused))


def released_cma_clip_fields(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Fields of the configuration from the shapes of `weights`, under our names."""
    fields: dict[str, Any] = {"use_clip": True, "image_mean": CLIP_MEAN, "image_std": CLIP_STD}
    fields["has_progress_monitor"] = "progress_head.weight" in weights
    return fields | sizes(weights, _SIZES) | depth_fields(weights) | tower_fields(weights)
