"""Released RDP weights (`InternRobotics/VLN-PE`): names, sizes, and the mistakes to go on with.

Long-CLIP's linear layers are stored in half precision. Released files hold layers that nothing
reads, which are dropped by name: a pooled projection, LayerNorms and position codes of another
mode, buffers of masks. What is not known stays, for strict loading to find.
"""

import re
from collections.abc import Mapping

from torch import Tensor

from .clip_encoders import clip_vision_keys, long_clip_text_keys

_TEXT = "instruction_encoder.text_transformer."
_IMAGE = "image_encoder.image_transformer."
_VISION = f"{_IMAGE}visual."
_DEPTH = "image_encoder.depth_encoder.visual_encoder."
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
# Released names -> ours.
_NAMES = (
    (r"^image_encoder\.depth_encoder\.visual_encoder\.", "depth_encoder."),
    (r"^image_encoder\.depth_encoder\.spatial_embeddings\.", "depth_positions."),
    (r"^image_encoder\.depth_linear\.1\.", "depth_linear."),
    (r"^image_encoder\.depth_learnable_linear\.", "depth_projection."),
    (r"^image_encoder\.img_learnable_linear\.", "rgb_projection."),
    (r"^img_txt_cross_encoder\.cross_modal_encoder\.crossattention\.", "image_reader.layers."),
    (r"^txt_img_cross_encoder\.cross_modal_encoder\.crossattention\.", "text_reader.layers."),
    (r"^prev_action_embedding\.", "previous_embedding."),
    (r"^prev_action_embedding_dp\.", "previous_tokens."),
    (r"^imu_linear\.", "pose_embedding."),
    (r"^imu_linear_dp\.", "pose_token."),
    (r"^action_type_embeds\.", "kind_embedding."),
    (r"^progress_monitor\.network\.", "progress_head."),
    (r"^stop_progress_predictor\.network\.", "stop_head."),
    (r"^action_dp_pred_net\.pos_emb$", "denoiser.action_positions.weight"),
    (r"^action_dp_pred_net\.cond_pos_emb$", "denoiser.condition_positions.weight"),
    (r"^action_dp_pred_net\.decoder_queries$", "denoiser.action_queries"),
    (r"^action_dp_pred_net\.cond_obs_emb\.", "denoiser.condition_embedding."),
    (r"^action_dp_pred_net\.input_emb\.", "denoiser.action_embedding."),
    (r"^action_dp_pred_net\.encoder\.layers\.", "denoiser.condition_layers."),
    (r"^action_dp_pred_net\.decoder\.layers\.", "denoiser.layers."),
    (r"^action_dp_pred_net\.ln_f\.", "denoiser.norm."),
    (r"^action_dp_pred_net\.head\.", "denoiser.action_head."),
)
_TABLES = ("pos_emb", "cond_pos_emb", "decoder_queries")


def released_rdp_keys(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A released RDP under our names, in float32."""
    converted = long_clip_text_keys(state_dict, _TEXT, "text_encoder.")
    converted |= clip_vision_keys(state_dict, _VISION, "rgb_encoder.")
    for key, value in state_dict.items():
        if key.startswith((_TEXT, _VISION, *_UNREAD)):
            continue
        name = key
        for pattern, replacement in _NAMES:
            name = re.sub(pattern, replacement, name)
        if key.removeprefix(_DENOISER) in _TABLES:
            value = value[0]
        converted[name] = value.float() if value.is_floating_point() else value
    return converted
