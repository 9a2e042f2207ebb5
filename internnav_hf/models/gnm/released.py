"""Released weights of GNM, ViNT (pickled modules) and NoMaD (a state dict).

They have no configuration, so that sizes other than the published ones are read from shapes. Left
out by name are parts that no loss reaches: the encoders' classifiers, the layer of which a
transformer was copied, and position codes, which are computed here.
"""

import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from internnav_hf.models.gnm.config import GNMConfig, NoMaDConfig, ViNTConfig
from internnav_hf.weights.renaming import count_layers, renamed

_UNUSED = re.compile(r"(^|\.)(_fc|sa_layer)\.|\.pos_enc$")
# Names in torchvision's MobileNetV2 -> transformers 5.23's, behind the encoder's name.
_UNITS = {"0": "convolution", "1": "normalization"}


def _stem(match: re.Match[str]) -> str:
    """Of the first block, which does not expand."""
    part, unit = match[2], match[3]
    if part == "0":
        return f"{match[1]}features.stem.conv_3x3.{_UNITS[unit]}."
    return f"{match[1]}features.stem.reduce_1x1.{_UNITS[str(int(part) - 1)]}."


def _block(match: re.Match[str]) -> str:
    block, part, unit = int(match[2]) - 2, match[3], match[4]
    place = f"{match[1]}features.blocks.{block}."
    if part in "01":
        return f"{place}{('expand_1x1', 'conv_3x3')[int(part)]}.{_UNITS[unit]}."
    return f"{place}reduce_1x1.{_UNITS[str(int(part) - 2)]}."


_MOBILENET = r"((?:rgb|goal)_encoder\.)"
_MOBILENET_NAMES = (
    (rf"^{_MOBILENET}0\.([01])\.", lambda m: f"{m[1]}features.stem.first_conv.{_UNITS[m[2]]}."),
    (rf"^{_MOBILENET}18\.([01])\.", lambda m: f"{m[1]}features.top.{_UNITS[m[2]]}."),
    (rf"^{_MOBILENET}1\.conv\.(\d)\.(?:([01])\.)?", _stem),
    (rf"^{_MOBILENET}(\d+)\.conv\.(\d)\.(?:([01])\.)?", _block),
)
# Names in efficientnet_pytorch -> transformers 5.23's.
_BLOCK = r"(?<=\.)_blocks\.(\d+)\."
_EFFICIENTNET_NAMES = (
    (rf"{_BLOCK}_expand_conv\.", r"features.blocks.\1.expansion.expand_conv."),
    (rf"{_BLOCK}_bn0\.", r"features.blocks.\1.expansion.expand_bn."),
    (rf"{_BLOCK}_depthwise_conv\.", r"features.blocks.\1.depthwise_conv.depthwise_conv."),
    (rf"{_BLOCK}_bn1\.", r"features.blocks.\1.depthwise_conv.depthwise_norm."),
    (rf"{_BLOCK}_se_(reduce|expand)\.", r"features.blocks.\1.squeeze_excite.\2."),
    (rf"{_BLOCK}_project_conv\.", r"features.blocks.\1.projection.project_conv."),
    (rf"{_BLOCK}_bn2\.", r"features.blocks.\1.projection.project_bn."),
    (r"(?<=\.)_conv_stem\.", "features.stem.convolution."),
    (r"(?<=\.)_bn0\.", "features.stem.batchnorm."),
    (r"(?<=\.)_conv_head\.", "features.top_conv."),
    (r"(?<=\.)_bn1\.", "features.top_norm."),
)
_UNET_NAMES = (
    (r"\.blocks\.0\.block\.0\.", ".conv_in.conv1d."),
    (r"\.blocks\.0\.block\.1\.", ".conv_in.group_norm."),
    (r"\.blocks\.1\.block\.0\.", ".conv_out.conv1d."),
    (r"\.blocks\.1\.block\.1\.", ".conv_out.group_norm."),
    (r"\.cond_encoder\.1\.", ".time_emb."),
    (r"^noise_pred_net\.diffusion_step_encoder\.1\.", "denoiser.time_layers.0."),
    (r"^noise_pred_net\.diffusion_step_encoder\.3\.", "denoiser.time_layers.2."),
    (r"^noise_pred_net\.final_conv\.0\.block\.0\.", "denoiser.top.0.conv1d."),
    (r"^noise_pred_net\.final_conv\.0\.block\.1\.", "denoiser.top.0.group_norm."),
    (r"^noise_pred_net\.final_conv\.1\.", "denoiser.top.1."),
    (r"^noise_pred_net\.mid_modules\.", "denoiser.middle."),
    (r"^noise_pred_net\.(down|up)_modules\.", r"denoiser.\1s."),
)
_NAMES = (
    (r"^module\.", ""),  # of torch's DataParallel
    (r"^vision_encoder\.", ""),
    (r"^obs_(mobilenet|encoder)\.", "rgb_encoder."),
    (r"^goal_mobilenet\.", "goal_encoder."),
    (r"^compress_observation\.", "rgb_projection."),
    (r"^compress_goal\.", "goal_projection."),
    (r"^compress_obs_enc\.", "rgb_projection."),
    (r"^compress_goal_enc\.", "goal_projection."),
    (r"^(decoder\.sa_decoder|sa_encoder)\.", "token_encoder."),
    (r"^linear_layers\.", "layers."),
    (r"^decoder\.output_layers\.(\d+)\.", lambda m: f"layers.{2 * int(m[1])}."),
    (r"^action_predictor\.0\.", "waypoint_head."),
    (r"^dist_predictor\.0\.", "distance_head."),
    (r"^dist_pred_net\.network\.4\.", "distance_head."),
    (r"^dist_pred_net\.network\.", "distance_layers."),
    *_EFFICIENTNET_NAMES,
    *_MOBILENET_NAMES,
    *_UNET_NAMES,
)
# A key that is in the released weights of one family alone, without the prefix of DataParallel.
_MARKS = {
    "GNM": "obs_mobilenet.0.0.weight",
    "ViNT": "decoder.sa_decoder.layers.0.linear1.weight",
    "NoMaD": "noise_pred_net.final_conv.1.weight",
}


def is_released(family: str, stored: dict, names: Callable[[], Collection[str]]) -> bool:
    """Whether these are `names` of the weights of a released GNM, ViNT or NoMaD, the `family`;
    none has a configuration.
    """
    if stored:
        return False
    found = names()
    return _MARKS[family] in found or f"module.{_MARKS[family]}" in found


def released_keys(state_dict: Mapping[str, Tensor], config: Any) -> dict[str, Tensor]:
    """Rename released weights, without unused ones. Unknown names are kept, so that strict loading
    reports them.
    """
    return renamed({k: v for k, v in state_dict.items() if not _UNUSED.search(k)}, _NAMES)


def released_fields(
    state_dict: Mapping[str, Tensor], config_class: type, source: str | Path
) -> dict[str, Any]:
    """Fields of the configuration of a released `state_dict`, read from its shapes.

    Raises ValueError naming `source` if it is not the model of `config_class`.
    """
    family = config_class.__name__.removesuffix("Config")
    shapes = {key.removeprefix("module."): tuple(w.shape) for key, w in state_dict.items()}
    if _MARKS[family] not in shapes:
        known = [name for name, mark in _MARKS.items() if mark in shapes]
        found = f"found a {known[0]}" if known else f"it lacks {_MARKS[family]}"
        raise ValueError(f"{source} holds no {family}: {found}.")
    return _READERS[config_class](shapes)


def _gnm(shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    fields = {"num_memory_frames": shapes["obs_mobilenet.0.0.weight"][1] // 3}
    if "compress_observation.0.weight" in shapes:
        fields["hidden_size"] = shapes["compress_observation.0.weight"][0]
    return fields | _horizon(shapes)


def _vint(shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    prefix = "decoder.sa_decoder."
    fields = _transformer(shapes, prefix) | _horizon(shapes)
    stem = shapes.get("goal_encoder._conv_stem.weight")
    read = shapes.get("decoder.output_layers.0.weight")
    if stem:
        fields["late_fusion"] = stem[1] == 3
    if read and "hidden_size" in fields:
        fields["num_memory_frames"] = read[1] // fields["hidden_size"] - 1
    return fields


def _nomad(shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    fields = _transformer(shapes, "vision_encoder.sa_encoder.")
    code = shapes.get("vision_encoder.positional_encoding.pos_enc")
    return fields | ({"num_memory_frames": code[1] - 1} if code else {})


def _transformer(shapes: dict[str, tuple[int, ...]], prefix: str) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    first = shapes.get(f"{prefix}layers.0.linear1.weight")
    if first:
        fields["intermediate_size"], fields["hidden_size"] = first
    pattern = rf"{re.escape(prefix)}layers\.(\d+)\."
    return fields | {"num_hidden_layers": count_layers(dict.fromkeys(shapes), pattern)}  # pyright: ignore[reportArgumentType]


def _horizon(shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    head = shapes.get("action_predictor.0.weight")
    return {"action_horizon": head[0] // 4} if head else {}


_READERS = {GNMConfig: _gnm, ViNTConfig: _vint, NoMaDConfig: _nomad}
