"""Released NavDP weights: bare state dicts, of InternNav's layout and of the NavDP repository's.

They have no configuration, so that sizes other than the published ones are read from shapes.
InternNav's has auxiliary heads. The repository's has an unused template layer instead, takes BGR,
and takes the mask of a pixel goal before the view; here all take it after the view, so that the
weights of those channels are swapped.
"""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from internnav_hf.models.common.dino import released_dino_keys
from internnav_hf.models.navdp.config import NavDPActionExpertConfig, NavDPConfig
from internnav_hf.models.navdp.goals import NUM_SLOTS
from internnav_hf.weights.renaming import Names, below, count_layers, renamed, sizes, under, without

_CONDITION = "cond_pos_embed.position_embedding.weight"
# Sizes read from shapes: name -> field, axis.
_SIZES = {
    _CONDITION: ("num_condition_tokens", 0),
    "out_pos_embed.position_embedding.weight": ("action_horizon", 0),
    "rgbd_encoder.former_query.position_embedding.weight": ("num_rgbd_queries", 0),
    "pixel_encoder.pixelgoal_encoder.patch_embed.proj.weight": ("num_pixel_goal_channels", 1),
}
_PIXEL_PATCHES = "goal_encoder.encoders.pixel.encoder.embeddings.patch_embeddings.projection.weight"
_TEMPLATE = "decoder_layer."
_LAYER = r"decoder\.layers\.(\d+)\."

_VISION_PREFIXES = {
    "rgbd_encoder.rgb_model.": "rgbd_encoder.rgb_encoder.",
    "rgbd_encoder.depth_model.": "rgbd_encoder.depth_encoder.",
    "image_encoder.imagegoal_encoder.": "goal_encoder.encoders.image.encoder.",
    "pixel_encoder.pixelgoal_encoder.": "goal_encoder.encoders.pixel.encoder.",
}
# Released names -> ours.
_NAMES = (
    (r"^cond_pos_embed\.position_embedding\.", "denoiser.condition_positions."),
    (r"^out_pos_embed\.position_embedding\.", "denoiser.action_positions."),
    (r"^input_embed\.", "denoiser.action_embedding."),
    (r"^decoder\.layers\.", "denoiser.layers."),
    (r"^layernorm\.", "denoiser.norm."),
    (r"^action_head\.", "denoiser.action_head."),
    (r"^(image|pixel)_aux_head\.", r"auxiliary_heads.\1."),
    (r"^point_encoder\.", "goal_encoder.encoders.point."),
    (r"^(image|pixel)_encoder\.project_layer\.", r"goal_encoder.encoders.\1.projection."),
    (r"^rgbd_encoder\.former_query\.position_embedding\.", "rgbd_encoder.queries."),
    (r"^rgbd_encoder\.former_pe\.position_embedding\.", "rgbd_encoder.positions."),
    (r"^rgbd_encoder\.former_net\.", "rgbd_encoder.decoder."),
    (r"^rgbd_encoder\.project_layer\.", "rgbd_encoder.projection."),
)
# Released names of the action expert, without `model.navdp.`, -> ours.
_EXPERT_NAMES = (
    (r"^cond_pos_embed$", "denoiser.condition_positions.weight"),
    (r"^out_pos_embed$", "denoiser.action_positions.weight"),
    (r"^input_embed\.", "denoiser.action_embedding."),
    (r"^decoder\.layers\.", "denoiser.layers."),
    (r"^layernorm\.", "denoiser.norm."),
    (r"^action_head\.", "denoiser.action_head."),
    (r"^vlm_embed_mlp\.", "plan_projection."),
    (r"^goal_compressor\.target_embedding\.", "plan_compressor.queries."),
    (
        r"^goal_compressor\.(token|query)_positional_encoding\.position_embedding\.",
        r"plan_compressor.\1_positions.",
    ),
    (r"^goal_compressor\.cross_attention\.", "plan_compressor.attention."),
    (r"^rgbd_encoder\.former_query\.", "rgbd_encoder.queries."),
    (r"^rgbd_encoder\.former_pe\.", "rgbd_encoder.positions."),
    (r"^rgbd_encoder\.former_net\.", "rgbd_encoder.decoder."),
    (r"^rgbd_encoder\.project_layer\.", "rgbd_encoder.projection."),
)
_EXPERT_TABLES = {"denoiser.condition_positions.weight", "denoiser.action_positions.weight"}
# Released parts of the action expert that no loss reaches: not built here.
_EXPERT_UNUSED = (
    "decoder_layer.",
    "critic_head.",
    "point_encoder.",
    "pg_embed_mlp.",
    "pg_pred_mlp.",
    "goal_compressor.positional_encoding.pe",
)


def released_fields(state_dict: Mapping[str, Tensor], source: str | Path) -> dict[str, Any]:
    """Fields of the configuration of a released `state_dict`, read from its shapes and names.

    Raises ValueError naming `source` if it is not a NavDP, or is the older one of 130 tokens.
    """
    missing = [key for key in _SIZES if key not in state_dict]
    if missing:
        raise ValueError(f"{source} holds no NavDP: it lacks {', '.join(missing)}.")
    fields = sizes(state_dict, _SIZES)
    num_tokens = fields.pop("num_condition_tokens")
    expected = 1 + NUM_SLOTS + fields["num_rgbd_queries"]
    if num_tokens != expected:
        raise ValueError(
            f"{source}: {_CONDITION}: found {num_tokens} tokens, expected {expected}. Of the two "
            "checkpoints that NavDP's authors gave out, the older one, with one slot for the goal, "
            "is of another architecture; ask for the newer one, navdp-cross-modal.ckpt."
        )
    return fields | {
        "has_auxiliary_heads": any("_aux_head." in key for key in state_dict),
        "num_hidden_layers": count_layers(state_dict, _LAYER),
        "channel_order": "bgr" if _has_template(state_dict) else "rgb",
    }


def released_keys(state_dict: Mapping[str, Tensor], config: NavDPConfig) -> dict[str, Tensor]:
    """Rename a released NavDP, without its unused weights."""
    converted = _converted(state_dict, _NAMES, (_TEMPLATE,))
    if _has_template(state_dict) and _PIXEL_PATCHES in converted:
        converted[_PIXEL_PATCHES] = converted[_PIXEL_PATCHES].roll(-1, dims=1)
    return converted


def released_expert_keys(
    state_dict: Mapping[str, Tensor], config: NavDPActionExpertConfig
) -> dict[str, Tensor]:
    """Rename a released action expert, whose names lack `model.navdp.`, without its unused
    weights.
    """
    converted = _converted(state_dict, _EXPERT_NAMES, _EXPERT_UNUSED)
    for table in _EXPERT_TABLES & converted.keys():
        converted[table] = converted[table][0]
    return converted


def _converted(
    state_dict: Mapping[str, Tensor], names: Names, unused: tuple[str, ...]
) -> dict[str, Tensor]:
    converted = renamed(without(state_dict, (*_VISION_PREFIXES, *unused)), names)
    for prefix, target in _VISION_PREFIXES.items():
        converted |= under(target, released_dino_keys(below(state_dict, prefix)))
    return converted


def _has_template(state_dict: Mapping[str, Tensor]) -> bool:
    return any(key.startswith(_TEMPLATE) for key in state_dict)


def is_released(family: str, stored: dict, names: Callable[[], Collection[str]]) -> bool:
    """Whether these are `names` of the weights of a released NavDP, which has no configuration."""
    return not stored and any(name.startswith("rgbd_encoder.") for name in names())
