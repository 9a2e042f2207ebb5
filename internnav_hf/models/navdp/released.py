"""Released NavDP weights: bare state dicts, of InternNav's layout and of the NavDP repository's.

They have no configuration, so that what is not published size is read from shapes. InternNav's has
auxiliary heads. The repository's has a template layer instead that nothing reads, is fed BGR, and
takes the mask of a pixel goal before the view; here all take it after the view, so that the weights
of those channels change places.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers.utils import CONFIG_NAME

from internnav_hf.models.common.dino import released_dino_keys
from internnav_hf.models.navdp.config import NavDPConfig
from internnav_hf.models.navdp.goals import NUM_SLOTS

_SUFFIXES = (".ckpt", ".pth", ".pt", ".bin", ".safetensors")
_CONDITION = "cond_pos_embed.position_embedding.weight"
# What tells a size: name -> field, axis.
_SIZES = {
    _CONDITION: ("num_condition_tokens", 0),
    "out_pos_embed.position_embedding.weight": ("action_horizon", 0),
    "rgbd_encoder.former_query.position_embedding.weight": ("num_rgbd_queries", 0),
    "pixel_encoder.pixelgoal_encoder.patch_embed.proj.weight": ("num_pixel_goal_channels", 1),
}
_PIXEL_PATCHES = "goal_encoder.encoders.pixel.encoder.embeddings.patch_embeddings.projection.weight"
_LAYER = re.compile(r"^decoder\.layers\.(\d+)\.")

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


def released_file(path: str | Path) -> Path | None:
    """The weights at `path`, a file, or a folder that has them and no configuration; else None.

    Raises ValueError for such a folder with several of them, and for a file of another kind.
    """
    path = Path(path)
    if path.is_file():
        if path.suffix not in _SUFFIXES:
            raise ValueError(f"{path}: found a {path.suffix} file, expected one of {_SUFFIXES}.")
        return path
    if not path.is_dir() or (path / CONFIG_NAME).exists():
        return None
    files = sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES)
    if len(files) > 1:
        names = [file.name for file in files]
        raise ValueError(f"{path}: no {CONFIG_NAME}, and weights in {names}: name one of them.")
    return files[0] if files else None


def released_config(
    state_dict: Mapping[str, Tensor], source: str | Path = "given", **fields: Any
) -> NavDPConfig:
    """Of a released `state_dict`; `fields` win over what its shapes and names say.

    Raises ValueError naming `source` where it is no NavDP, or the older one of 130 tokens.
    """
    missing = [key for key in _SIZES if key not in state_dict]
    if missing:
        raise ValueError(f"{source} holds no NavDP: it lacks {', '.join(missing)}.")
    lengths = {field: state_dict[key].shape[axis] for key, (field, axis) in _SIZES.items()}
    num_tokens = lengths.pop("num_condition_tokens")
    expected = 1 + NUM_SLOTS + lengths["num_rgbd_queries"]
    if num_tokens != expected:
        raise ValueError(
            f"{source}: {_CONDITION}: found {num_tokens} tokens, expected {expected}. Of the two "
            "checkpoints that NavDP's authors gave out, the older one, with one slot for the goal, "
            "is of another architecture; ask for the newer one, navdp-cross-modal.ckpt."
        )
    sizes = {
        "has_auxiliary_heads": any("_aux_head." in key for key in state_dict),
        "num_hidden_layers": len({m[1] for key in state_dict if (m := _LAYER.match(key))}),
        "channel_order": "bgr" if any(map(_is_template, state_dict)) else "rgb",
    }
    return NavDPConfig(**(lengths | sizes | fields))


def released_keys(state_dict: Mapping[str, Tensor], config: NavDPConfig) -> dict[str, Tensor]:
    """A released NavDP under our names. What nothing reads is dropped, by name; a name that is not
    known stays, for strict loading to find.
    """
    converted = {}
    for prefix, target in _VISION_PREFIXES.items():
        converted |= released_dino_keys(state_dict, prefix, target)
    for key, value in state_dict.items():
        if key.startswith(tuple(_VISION_PREFIXES)) or _is_template(key):
            continue
        name = key
        for pattern, replacement in _NAMES:
            name = re.sub(pattern, replacement, name)
        converted[name] = value
    if any(map(_is_template, state_dict)) and _PIXEL_PATCHES in converted:
        converted[_PIXEL_PATCHES] = converted[_PIXEL_PATCHES].roll(-1, dims=1)
    return converted


def _is_template(key: str) -> bool:
    return key.startswith("decoder_layer.")
