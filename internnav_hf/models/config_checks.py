"""Checks that every configuration of ours makes."""

import difflib
from dataclasses import fields

from transformers import GenerationConfig, PreTrainedConfig

# What transformers itself hands over beside declared fields when a configuration is loaded.
_KEYS_OF_TRANSFORMERS = {
    "model_type", "name_or_path", "torch_dtype", "auto_map", "attn_implementation",
    "output_attentions", "experts_implementation", "per_layer_config", "transformers_version",
    "num_labels",
}  # fmt: skip


def own_fields(config_class: type, kwargs: dict) -> tuple[dict, dict]:
    """`kwargs` split: the fields that `config_class` itself declares, and the rest."""
    base = {field.name for field in fields(PreTrainedConfig)}
    own = {field.name for field in fields(config_class)} - base
    chosen = {key: value for key, value in kwargs.items() if key in own}
    return chosen, {key: value for key, value in kwargs.items() if key not in own}


def check_divides(config: PreTrainedConfig, size: str, heads: str) -> None:
    """Raise ValueError where field `size` is no multiple of field `heads`."""
    found, by = getattr(config, size), getattr(config, heads)
    if found % by:
        raise ValueError(f"{size}={found} must be a multiple of {heads}={by}.")


def refuse_unknown(config_class: type, kwargs: dict) -> None:
    """Raise ValueError for a key of `kwargs` that is neither a field nor transformers' own.

    To be called in `__post_init__(self, **kwargs)`: transformers keeps unknown fields silently.
    """
    known = _KEYS_OF_TRANSFORMERS | set(GenerationConfig._get_default_generation_params())
    names = [field.name for field in fields(config_class)]
    for key in kwargs:
        if key.startswith("_") or key in known:
            continue
        guess = difflib.get_close_matches(key, names, n=1)
        hint = f" Did you mean {guess[0]!r}?" if guess else ""
        raise ValueError(f"{config_class.__name__} has no field {key!r}.{hint}")
