"""Released RDP weights (`InternRobotics/VLN-PE`): names, sizes, and the mistakes to keep.

Long-CLIP's linear layers are stored in half precision. Released files hold unused layers, which are
dropped by name: a pooled projection, LayerNorms and position codes of another mode, buffers of
masks. Unknown names are kept, so that strict loading reports them.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from internnav_hf.models.common.clip_released import (
    HEAD_SIZE,
    released_tower_keys,
    tower_fields,
)
from internnav_hf.models.common.depth_resnet import depth_fields
from internnav_hf.models.rdp.config import PUBLISHED_MISTAKES
from internnav_hf.weights.renaming import count_layers, sizes

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
_CONDITION = "denoiser.condition_positions.weight"
_TABLES = {_CONDITION, "denoiser.action_positions.weight", "denoiser.action_queries"}


# Sizes read from shapes: our name -> field, axis. The towers have configurations of their own.
_SIZES = {
    "depth_linear.weight": ("depth_hidden_size", 0),
    "depth_projection.weight": ("hidden_size", 0),
    "previous_embedding.weight": ("previous_displacement_size", 0),
    "pose_embedding.weight": ("pose_size", 0),
    "image_reader.layers.0.intermediate.dense.weight": ("cross_modal_intermediate_size", 0),
    "denoiser.action_positions.weight": ("action_horizon", 0),
    "denoiser.action_head.weight": ("denoiser_hidden_size", 1),
}
_COUNTS = {
    "num_cross_modal_layers": r"image_reader\.layers\.(\d+)\.",
    "num_denoiser_layers": r"denoiser\.layers\.(\d+)\.",
    "num_condition_layers": r"denoiser\.condition_layers\.(\d+)\.",
}
_NUM_OTHER_TOKENS = 10  # of the condition, without previous displacements
# Places in InternNav's configuration of the values of our fields.
_SETTINGS = {
    "num_cross_modal_attention_heads": ("cross_modal_encoder", "num_attention_heads"),
    "num_diffusion_steps": ("diffusion_policy", "num_diffusion_iters"),
    "guidance_scale": ("diffusion_policy", "cls_free_guidance_scale"),
    "embedding_dropout": ("diffusion_policy", "transformer_p_drop_emb"),
    "image_dropout": ("image_encoder", "dropout"),
    "feature_dropout": ("image_encoder", "env_drop"),
    "stop_loss_weight": ("stop_progress_predictor", "loss_alpha"),
}


def released_rdp_keys(
    state_dict: Mapping[str, Tensor], unused: tuple[str, ...] = ()
) -> dict[str, Tensor]:
    """Rename a released RDP, without keys that start with one of `unused`."""
    converted = released_tower_keys(state_dict, _NAMES, unused)
    for name in _TABLES & converted.keys():
        converted[name] = converted[name][0]
    return converted


def released_rdp_fields(
    weights: Mapping[str, Tensor], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Fields of the configuration from `weights`, under our names, and InternNav's `settings`.

    Includes the mistakes of the release's training. Fields in neither are as published.
    """
    fields: dict[str, Any] = dict(PUBLISHED_MISTAKES)
    fields |= sizes(weights, _SIZES) | depth_fields(weights) | tower_fields(weights)
    fields |= {name: count for name, p in _COUNTS.items() if (count := count_layers(weights, p))}
    if _CONDITION in weights:
        fields["num_previous_displacements"] = len(weights[_CONDITION]) - _NUM_OTHER_TOKENS
    if "denoiser_hidden_size" in fields:
        width = fields["denoiser_hidden_size"]
        fields["num_denoiser_attention_heads"] = max(width // HEAD_SIZE, 1)
    fields["use_diffusion"] = "denoiser.action_queries" not in weights
    for field, (part, name) in _SETTINGS.items():
        found = settings.get(part)
        if isinstance(found, dict) and found.get(name) is not None:
            fields[field] = found[name]
    policy = settings.get("diffusion_policy")
    policy = policy if isinstance(policy, dict) else {}
    limits = policy.get("action_stats")
    if isinstance(limits, dict) and {"min", "max"} <= limits.keys():
        fields |= {"displacement_min": limits["min"], "displacement_max": limits["max"]}
    if policy.get("use_cls_free_guidance") is False:
        fields |= {"guidance_scale": 1.0, "condition_drop_share": 0.0}
    elif policy.get("cls_mask_ratio") is not None:
        fields["view_drop_share"] = fields["condition_drop_share"] = policy["cls_mask_ratio"]
    return fields
