"""Released Seq2Seq and CMA weights: InternNav's folders (VLN-PE) and VLN-CE's files.

InternNav's have a configuration of its own, whose nested values are read as data. Values missing
there are read from shapes and names. VLN-CE's files hold pickled objects too, which stay inert, and
most of their names start with `net.`.
"""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor
from transformers.utils import CONFIG_NAME, SAFE_WEIGHTS_NAME, WEIGHTS_NAME

from internnav_hf.models.common.depth_resnet import depth_fields
from internnav_hf.models.common.rgb_resnet import torchvision_resnet_keys
from internnav_hf.models.vln.config import INPUTS
from internnav_hf.weights.inert_pickle import read_tensors
from internnav_hf.weights.renaming import below, renamed, sizes, under, without
from internnav_hf.weights.weight_files import read_json, released_file

CLIP_VARIANT = "CMA over CLIP encoders"
_OURS = "internnav_"
_OUR_KEYS = ("action_head.", "denoiser.")  # in no release
# A key of each model that the later ones lack, in the order of the search.
_VARIANTS = (
    ("action_dp_pred_net.", "RDP"),
    ("state_txt_cross_encoder.", CLIP_VARIANT),
    ("second_state_encoder.", "CMA"),
    ("state_encoder.", "Seq2Seq"),
)
VLNCE_IMAGE_SIZE = 224
MODEL_TYPES = {"seq2seq": "Seq2Seq", "cma": "CMA", "cma-clip": "CMA", "rdp": "RDP"}
"""of released configurations"""

_RGB_ENCODER = "rgb_encoder.cnn."
# Children of a torchvision ResNet, which released weights store by number.
_CNN_CHILDREN = (
    (r"^0\.", "conv1."),
    (r"^1\.", "bn1."),
    (r"^([4-7])\.", lambda match: f"layer{int(match[1]) - 3}."),
)
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
_CONVOLUTIONS = {"rgb_key_value.weight", "depth_key_value.weight", "text_key.weight"}
# Sizes read from shapes: our name -> field, axis.
_SIZES = {
    "instruction_encoder.word_embeddings.weight": ("vocab_size", 0),
    "instruction_encoder.rnn.weight_ih_l0": ("embedding_size", 1),
    "instruction_encoder.rnn.weight_hh_l0": ("instruction_hidden_size", 1),
    "rgb_projection.weight": ("rgb_hidden_size", 0),
    "depth_projection.weight": ("depth_hidden_size", 0),
    "previous_action_embedding.weight": ("action_embedding_size", 1),
    "state_encoder.rnn.weight_hh_l0": ("hidden_size", 1),
}
# Places in InternNav's configuration of the values of our fields.
_SETTINGS = {
    "train_word_embeddings": ("instruction_encoder", "fine_tune_embeddings"),
    "train_rgb_encoder": ("rgb_encoder", "trainable"),
    "train_depth_encoder": ("depth_encoder", "trainable"),
}


class VLNRelease(NamedTuple):
    """Content of `file`: `weights` under released names, without `net.`, in float32; the model, as
    `variant`; InternNav's `settings` of the model; and whether it is VLN-CE's.
    """

    file: Path
    weights: dict[str, Tensor]
    variant: str | None
    settings: dict[str, Any]
    is_vlnce: bool


def read_release(path: str | Path) -> VLNRelease | None:
    """The third-party checkpoint at `path`: a file, or a folder with weights and a configuration
    that is not ours, or none. None for anything else, such as our checkpoints or a Hub name.

    Raises ValueError for a file without tensors, and for weights of ours without their folder.
    """
    config = Path(path, CONFIG_NAME)
    if config.is_file() and str(read_json(config).get("model_type", "")).startswith(_OURS):
        return None
    file = released_file(path, (".pth",), (SAFE_WEIGHTS_NAME, WEIGHTS_NAME))
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
    return VLNRelease(file, weights, next(found, None), _read_settings(file.parent), is_vlnce)


def check_variant(release: VLNRelease, expected: str) -> None:
    """Raise ValueError if `release` holds another model than `expected`, one of `_VARIANTS`."""
    if release.variant != expected:
        found = f"a {release.variant}" if release.variant else "no model that is known here"
        raise ValueError(f"{release.file}: found {found}, expected a {expected}.")


def released_keys(release: VLNRelease, unused: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """Rename a released Seq2Seq or CMA. Unused weights are dropped by name, and so are keys that
    start with one of `unused`; unknown names are kept, so that strict loading reports them.
    """
    weights = without(release.weights, (*_UNUSED, *unused))
    cnn = renamed(below(weights, _RGB_ENCODER), _CNN_CHILDREN)
    converted = renamed(without(weights, (_RGB_ENCODER,)), _NAMES)
    for key in _CONVOLUTIONS & converted.keys():
        converted[key] = converted[key].squeeze(-1)
    return under("rgb_encoder.", torchvision_resnet_keys(cnn)) | converted


def released_fields(release: VLNRelease, weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Fields of the configuration from `weights`, those of `release` under our names.

    Includes the mistake of InternNav's training: batch norm used the batch's statistics, for
    Seq2Seq in evaluation too.
    """
    fields = sizes(weights, _SIZES) | depth_fields(weights)
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


def _read_settings(folder: Path) -> dict[str, Any]:
    """InternNav's settings of the model, from its configuration next to the weights, or empty."""
    config = folder / CONFIG_NAME
    found = read_json(config).get("model_cfg") if config.is_file() else None
    found = found if isinstance(found, dict) else {}
    model = found.get("model")
    return model if isinstance(model, dict) else found


def is_released(family: str, stored: dict, names: Callable[[], Collection[str]]) -> bool:
    """Whether a released checkpoint is of `family`, Seq2Seq, CMA or RDP, according to its
    configuration, or to the `names` of its weights if it has none.
    """
    if stored:
        return MODEL_TYPES.get(str(stored.get("model_type"))) == family
    keys = [name.removeprefix("net.") for name in names()]
    starts = (n for start, n in _VARIANTS if any(key.startswith(start) for key in keys))
    return next(starts, "").partition(" ")[0] == family
