"""Checks that every configuration of ours makes."""

import copy
import difflib
from dataclasses import fields
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import Dinov2Config, GenerationConfig, PreTrainedConfig

from internnav_hf.weights.checkpoints import hub_arguments, own_fields, stored_config

VIT_SMALL = {
    "hidden_size": 384,
    "num_hidden_layers": 12,
    "num_attention_heads": 6,
    "image_size": 518,
}

# Names that InternNav's documentation uses for fields of our configurations.
DOCUMENTED_FIELDS = {
    "memory_size": "num_memory_frames",
    "predict_size": "action_horizon",
    "temporal_depth": "num_hidden_layers",
    "heads": "num_attention_heads",
    "token_dim": "hidden_size",
    "pixel_channel": "num_pixel_goal_channels",
    "finetune": "train_rgb_encoder",
}

# Keys that transformers itself passes in addition to declared fields when a configuration is
# loaded, and keys that its trainer and its users set on any configuration.
_KEYS_OF_TRANSFORMERS = {
    "model_type", "name_or_path", "torch_dtype", "auto_map", "attn_implementation",
    "output_attentions", "experts_implementation", "per_layer_config", "transformers_version",
    "num_labels", "bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id",
    "decoder_start_token_id", "use_cache",
}  # fmt: skip

# Errors that a configuration raises for invalid values.
_BROKEN = (TypeError, AttributeError, LookupError, ArithmeticError, RecursionError)
_BROKEN = (*_BROKEN, StrictDataclassError)


class OwnFieldsWin:
    """To be listed before `PreTrainedConfig` among a configuration's bases. Fields given to
    `from_pretrained` replace stored ones before anything is checked or derived; the stored
    configuration of another kind of model is a ValueError.
    """

    @classmethod
    def get_config_dict(cls, pretrained_model_name_or_path, **kwargs):
        """As for every config; ValueError if there is none, or none that makes a model."""
        stored_config(pretrained_model_name_or_path, **hub_arguments(kwargs))
        parent: Any = super()
        return parent.get_config_dict(pretrained_model_name_or_path, **kwargs)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, **kwargs):
        """As for every config; an invalid one is one ValueError that names the folder."""
        parent: Any = super()
        try:
            return parent.from_pretrained(pretrained_model_name_or_path, **kwargs)
        except (*_BROKEN, ValueError) as error:
            told = " ".join(str(error).split()) or type(error).__name__
            path = str(pretrained_model_name_or_path)
            raise ValueError(told if path in told else f"{path}: {told}") from error

    @classmethod
    def from_dict(cls, config_dict, **kwargs):
        """As for every config; our own fields among `kwargs` win over the dict's."""
        expected: str = getattr(cls, "model_type")  # noqa: B009
        found = config_dict.get("model_type", expected)
        if found != expected:
            raise ValueError(f"Found a checkpoint of {found}, expected {expected}.")
        own, kwargs = own_fields(cls, kwargs)
        parent: Any = super()
        return parent.from_dict({**config_dict, **own}, **kwargs)


def check_divides(config: PreTrainedConfig, size: str, heads: str) -> None:
    """Raise ValueError unless field `size` is a multiple of field `heads`."""
    found, by = getattr(config, size), getattr(config, heads)
    if found % by:
        raise ValueError(f"{size}={found} must be a multiple of {heads}={by}.")


def check_positive(config: PreTrainedConfig, name: str) -> None:
    """Raise ValueError unless field `name` is at least 1."""
    found = getattr(config, name)
    if found < 1:
        raise ValueError(f"{type(config).__name__}: {name}: found {found}, expected 1 or more.")


def refuse_unknown(config_class: type, kwargs: dict) -> None:
    """Raise ValueError for a key of `kwargs` that is neither a field nor transformers' own.

    To be called in `__post_init__(self, **kwargs)`: transformers keeps unknown fields silently.
    """
    known = _KEYS_OF_TRANSFORMERS | set(GenerationConfig._get_default_generation_params())
    names = [field.name for field in fields(config_class)]
    for key in kwargs:
        if key.startswith("_") or key in known:
            continue
        documented = DOCUMENTED_FIELDS.get(key)
        guess = [documented] if documented in names else difflib.get_close_matches(key, names, n=1)
        hint = f" Did you mean {guess[0]!r}?" if guess else ""
        raise ValueError(f"{config_class.__name__} has no field {key!r}.{hint}")


def read_dino_config(given: dict | PreTrainedConfig | None) -> PreTrainedConfig:
    """Configuration of a DINOv2 encoder; the small one if nothing is given."""
    if isinstance(given, PreTrainedConfig):
        # A copy: the base class writes its attention implementation into sub-configurations.
        return copy.deepcopy(given)
    return Dinov2Config(**(VIT_SMALL if given is None else given))


def check_tiles(config: PreTrainedConfig, name: str) -> None:
    """Raise ValueError unless patches of the encoder `name` tile frames of `image_size`."""
    patch_size = getattr(config, name).patch_size
    if config.image_size % patch_size:
        raise ValueError(
            f"image_size={config.image_size} must be a multiple of {name}.patch_size={patch_size}."
        )


def check_navdp_trunk(config: PreTrainedConfig) -> None:
    """Raise ValueError for sizes from which NavDP's trunk cannot be built."""
    for name in ("action_horizon", "image_size", "num_rgbd_queries", "num_diffusion_steps"):
        check_positive(config, name)
    if len(config.action_scale) != 3 or min(config.action_scale) <= 0:
        raise ValueError(
            f"{type(config).__name__}: action_scale: found {config.action_scale}, expected three "
            "positive factors, of dx, dy and dyaw."
        )
    check_divides(config, "hidden_size", "num_attention_heads")
    check_divides(config, "hidden_size", "num_rgbd_attention_heads")
    for name in ("vision_config", "depth_vision_config"):
        check_tiles(config, name)
        width = getattr(config, name).hidden_size
        if width != config.hidden_size:
            raise ValueError(
                f"{type(config).__name__}: {name}.hidden_size is {width}, but hidden_size is "
                f"{config.hidden_size}; they must be equal."
            )
