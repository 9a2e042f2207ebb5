"""The base of our configurations, and of those of action experts."""

import copy
import difflib
from collections.abc import Callable
from dataclasses import fields
from operator import attrgetter
from typing import Any, ClassVar

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


class NavConfig(PreTrainedConfig):
    """Fields given to `from_pretrained` replace stored ones before anything is checked or derived;
    an unknown field, or the stored configuration of another kind of model, is a ValueError. Lists
    for fields whose default is a tuple become tuples.
    """

    sub_configs: ClassVar[dict[str, Any]] = {}  # pyright: ignore[reportIncompatibleVariableOverride]

    def __post_init__(self, **kwargs):
        refuse_unknown(type(self), kwargs)
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(field.default, tuple) and value is not None:
                setattr(self, field.name, tuple(value))
        super().__post_init__(**kwargs)
        self.check()

    def check(self) -> None:
        """Raise ValueError for invalid values and for sizes that do not fit each other."""

    def expect(self, name: str, holds: bool, expected: str) -> None:
        """Raise ValueError unless `holds`; `name` is the field, or that of a sub-configuration
        after a dot.
        """
        if not holds:
            found = attrgetter(name)(self)
            raise ValueError(
                f"{type(self).__name__}: {name}: found {found!r}, expected {expected}."
            )

    def expect_positive(self, *names: str) -> None:
        """Raise ValueError unless the fields `names` are at least 1."""
        for name in names:
            self.expect(name, getattr(self, name) >= 1, "1 or more")

    def expect_multiple(self, name: str, factor: str) -> None:
        """Raise ValueError unless field `name` is a multiple of field `factor`."""
        found, by = attrgetter(name, factor)(self)
        self.expect(name, found % by == 0, f"a multiple of {factor}={by}")

    def expect_one_of(self, **choices: tuple) -> None:
        """Raise ValueError unless each field has one of its `choices`."""
        for name, allowed in choices.items():
            self.expect(name, getattr(self, name) in allowed, f"one of {allowed}")

    @classmethod
    def get_config_dict(cls, pretrained_model_name_or_path, **kwargs):
        """As for every config; ValueError if there is none, or none that makes a model."""
        stored_config(pretrained_model_name_or_path, **hub_arguments(kwargs))
        return super().get_config_dict(pretrained_model_name_or_path, **kwargs)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, **kwargs):
        """As for every config; an invalid one is one ValueError that names the folder."""
        try:
            return super().from_pretrained(pretrained_model_name_or_path, **kwargs)
        except (*_BROKEN, ValueError) as error:
            told = " ".join(str(error).split()) or type(error).__name__
            path = str(pretrained_model_name_or_path)
            raise ValueError(told if path in told else f"{path}: {told}") from error

    @classmethod
    def from_dict(cls, config_dict, **kwargs):
        """As for every config; our own fields among `kwargs` win over the dict's."""
        found = config_dict.get("model_type", cls.model_type)
        if found != cls.model_type:
            raise ValueError(f"Found a checkpoint of {found}, expected {cls.model_type}.")
        own, kwargs = own_fields(cls, kwargs)
        return super().from_dict({**config_dict, **own}, **kwargs)


class ActionExpertConfig(NavConfig):
    """The fields of every action expert.

    Fields:
        plan_hidden_size: width of the plans, that of System2.
        action_horizon: steps of a trajectory.
        image_size: height and width in pixels of the frames.
        action_scale: factors of (dx, dy, dyaw) before diffusion.
    """

    uses_depth = False

    plan_hidden_size: int = 3584
    action_horizon: int = 32
    image_size: int = 224
    action_scale: tuple[float, ...] | list[float] = (4.0, 4.0, 1.0)


def refuse_unknown(config_class: type, kwargs: dict) -> None:
    """Raise ValueError for a key of `kwargs` that is neither a field nor transformers' own, which
    keeps unknown fields silently.
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


def read_sub_config(
    kind: Callable[..., Any], given: dict | PreTrainedConfig | None, defaults: dict
) -> Any:
    """A copy of `given`, or a `kind` of the dict; `defaults` are for fields missing from that."""
    if isinstance(given, PreTrainedConfig):
        # A copy: the base class writes its attention implementation into sub-configurations.
        return copy.deepcopy(given)
    return kind(**(defaults | (given or {})))


def read_dino_config(given: dict | PreTrainedConfig | None) -> PreTrainedConfig:
    """Configuration of a DINOv2 encoder; the small one if nothing is given."""
    return read_sub_config(Dinov2Config, given, VIT_SMALL if given is None else {})
