"""Released Seq2Seq and CMA weights: InternNav's folders (VLN-PE) and VLN-CE's files.

InternNav's have a configuration of its own, whose nested values are read as data. What is not said
there is read from shapes and names. VLN-CE's files hold pickled objects too, which stay inert, and
put `net.` before most names.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor
from transformers.utils import CONFIG_NAME, SAFE_WEIGHTS_NAME, WEIGHTS_NAME

from internnav_hf.models.common.rgb_resnet import torchvision_resnet_keys
from internnav_hf.models.vln.config import INPUTS
from internnav_hf.weights.inert_pickle import read_tensors
from internnav_hf.weights.weight_files import read_json

CLIP_VARIANT = "CMA over CLIP encoders"
_OURS = "internnav_"
_OUR_KEYS = ("action_head.", "denoiser.")  # that no release has
_FILES = (".pth", ".pt", ".ckpt", ".bin", ".safetensors")
# A key of each model that the ones after it do not have, in the order to look.
_VARIANTS = (
    ("action_dp_pred_net.", "RDP"),
    ("state_txt_cross_encoder.", CLIP_VARIANT),
    ("second_state_encoder.", "CMA"),
    ("state_encoder.", "Seq2Seq"),
)
VLNCE_IMAGE_SIZE = 224

_RGB_ENCODER = "rgb_encoder.cnn."
# Children of a torchvision ResNet by number, where released weights have them in a row.
_CNN_CHILDREN = {
    "0": "conv1",
    "1": "bn1",
    "4": "layer1",
    "5": "layer2",
    "6": "layer3",
    "7": "layer4",
}
_UNUSED = ("_scale",)  # a constant
# Released names -> ours.
_NAMES = (
    (r"^instruction_encoder\.embedding_layer\.", "instruction_encoder.word_embeddings."),
    (r"^instruction_encoder\.encoder_rnn\.", "instruction_encoder.rnn."),
    (r"^depth_encoder\.visual_encoder\.", "depth_encoder."),
    (r"^depth_encoder\.visual_fc\.1\.", "depth_projection."),
    (r"^(rgb|depth)_encoder\.spatial_embeddings\.", r"\1_positions."),
    (r"^rgb_encoder\.fc\.1\.", "rgb_projection."),
    (r"^prev_action_embedding\.", "previous_action_embedding."),
    (r"^action_distribution\.linear\.", "action_head."),
    (r"^progress_monitor\.", "progress_head."),
    (r"^rgb_linear\.2\.", "rgb_projection."),
    (r"^depth_linear\.1\.", "depth_projection."),
    (r"^(rgb|depth)_kv\.", r"\1_key_value."),
    (r"^state_q\.", "state_query."),
    (r"^text_k\.", "text_key."),
    (r"^text_q\.", "text_query."),
    (r"^second_state_compress\.0\.", "second_projection."),
)
# Convolutions over a sequence, of kernel size 1: ours are linear.
_CONVOLUTIONS = ("rgb_key_value.weight", "depth_key_value.weight", "text_key.weight")
# What tells a size: our name -> field, axis.
_SIZES = {
    "instruction_encoder.word_embeddings.weight": ("vocab_size", 0),
    "instruction_encoder.rnn.weight_ih_l0": ("embedding_size", 1),
    "instruction_encoder.rnn.weight_hh_l0": ("instruction_hidden_size", 1),
    "depth_encoder.backbone.conv1.0.weight": ("depth_base_planes", 0),
    "depth_encoder.compression.0.weight": ("depth_feature_channels", 0),
    "rgb_projection.weight": ("rgb_hidden_size", 0),
    "depth_projection.weight": ("depth_hidden_size", 0),
    "previous_action_embedding.weight": ("action_embedding_size", 1),
    "state_encoder.rnn.weight_hh_l0": ("hidden_size", 1),
}
_DEPTH_BLOCK = re.compile(r"^depth_encoder\.backbone\.layer(\d+)\.(\d+)\.convs\.0\.weight$")
# Where InternNav's configuration says what a field of ours says.
_SETTINGS = {
    "train_word_embeddings": ("instruction_encoder", "fine_tune_embeddings"),
    "train_rgb_encoder": ("rgb_encoder", "trainable"),
    "train_depth_encoder": ("depth_encoder", "trainable"),
}


class Release(NamedTuple):
    """What `file` holds: `weights` under released names, without `net.`, in float32; which model
    that is, as `variant`; `settings`, InternNav's of the model, and whether it is VLN-CE's.
    """

    file: Path
    weights: dict[str, Tensor]
    variant: str | None
    settings: dict[str, Any]
    is_vlnce: bool


def read_release(path: str | Path | None) -> Release | None:
    """What others released at `path`: a file, or a folder with weights and a configuration that is
    not ours, or none. None for anything else, as a checkpoint of ours or a Hub name.

    Raises ValueError for a file without tensors, and for weights of ours without their folder.
    """
    file = None if path is None else _released_file(Path(path))
    if file is None:
        return None
    weights = read_tensors(file)
    if any(key.startswith(_OUR_KEYS) for key in weights):
        raise ValueError(
            f"{file}: found weights of ours, expected the folder with their {CONFIG_NAME}."
        )
    is_vlnce = any(key.startswith("net.") for key in weights)
    weights = {
        key.removeprefix("net."): value.float() if value.is_floating_point() else value
        for key, value in weights.items()
    }
    found = (name for start, name in _VARIANTS if any(key.startswith(start) for key in weights))
    return Release(file, weights, next(found, None), _read_settings(file.parent), is_vlnce)


def check_variant(release: Release, expected: str) -> None:
    """Raise ValueError where `release` holds another model than `expected`, one of `_VARIANTS`."""
    if release.variant != expected:
        found = f"a {release.variant}" if release.variant else "no model that is known here"
        raise ValueError(f"{release.file}: found {found}, expected a {expected}.")


def released_keys(release: Release, unused: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """A released Seq2Seq or CMA under our names. What nothing reads is dropped, by name, and so are
    keys that start with one of `unused`; a name that is not known stays, for strict loading to
    find.
    """
    weights = {k: v for k, v in release.weights.items() if not k.startswith((*_UNUSED, *unused))}
    cnn = {
        k.removeprefix(_RGB_ENCODER): v for k, v in weights.items() if k.startswith(_RGB_ENCODER)
    }
    cnn = torchvision_resnet_keys({_cnn_name(key): value for key, value in cnn.items()})
    converted = {f"rgb_encoder.{key}": value for key, value in cnn.items()}
    for key, value in weights.items():
        if key.startswith(_RGB_ENCODER):
            continue
        for pattern, replacement in _NAMES:
            key = re.sub(pattern, replacement, key)
        converted[key] = value.squeeze(-1) if key in _CONVOLUTIONS else value
    return converted


def released_fields(release: Release, weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Fields of the configuration of `weights`, those of `release` under our names.

    With the mistake that InternNav's were trained with: batch norm took the batch's statistics,
    for Seq2Seq in evaluation too.
    """
    fields = {field: weights[k].shape[axis] for k, (field, axis) in _SIZES.items() if k in weights}
    blocks = [match for key in weights if (match := _DEPTH_BLOCK.match(key))]
    if blocks:
        stages = [int(match[1]) for match in blocks]
        fields["depth_num_blocks"] = tuple(map(stages.count, sorted(set(stages))))
    gates = weights.get("instruction_encoder.rnn.weight_hh_l0")
    if gates is not None and len(gates) == 3 * gates.shape[1]:
        fields["instruction_rnn_type"] = "gru"
    fields["has_progress_monitor"] = "progress_head.weight" in weights
    if release.variant == "Seq2Seq":
        fields["use_previous_action"] = "previous_action_embedding.weight" in weights
    if release.is_vlnce:
        fields["image_size"] = VLNCE_IMAGE_SIZE
    else:
        fields["batch_norm_mode"] = "always" if release.variant == "Seq2Seq" else "training"
    for field, (part, name) in _SETTINGS.items():
        found = release.settings.get(part)
        if isinstance(found, dict) and isinstance(found.get(name), bool):
            fields[field] = found[name]
    fields["ablated_inputs"] = [n for n in INPUTS if release.settings.get(f"ablate_{n}") is True]
    return fields


def _released_file(path: Path) -> Path | None:
    if path.is_file():
        if path.suffix not in _FILES:
            raise ValueError(f"{path}: found a {path.suffix} file, expected one of {_FILES}.")
        return path
    config = path / CONFIG_NAME
    if config.is_file() and str(read_json(config).get("model_type", "")).startswith(_OURS):
        return None
    weights = [path / name for name in (SAFE_WEIGHTS_NAME, WEIGHTS_NAME) if (path / name).is_file()]
    weights = weights or sorted(path.glob("*.pth"))[:2]
    if config.is_file() and not weights:
        return None
    if len(weights) > 1 and weights[0].suffix == ".pth":
        raise ValueError(f"{path}: found several .pth files, expected one: name it.")
    return weights[0] if weights else None


def _read_settings(folder: Path) -> dict[str, Any]:
    """InternNav's settings of the model, in its configuration beside the weights; else empty."""
    config = folder / CONFIG_NAME
    found = read_json(config).get("model_cfg") if config.is_file() else None
    found = found if isinstance(found, dict) else {}
    model = found.get("model")
    return model if isinstance(model, dict) else found


def _cnn_name(key: str) -> str:
    child, dot, rest = key.partition(".")
    return _CNN_CHILDREN.get(child, child) + dot + rest
