"""LoRA adapters: opening one gives its base model with the adapter merged into it.

The modules that it changes are read from its weights; only numbers are taken from its settings.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from internnav_hf.weights.checkpoints import ADAPTER_CONFIG, find_file, hub_arguments
from internnav_hf.weights.inert_pickle import read_tensors
from internnav_hf.weights.weight_files import read_json

_WEIGHTS = "adapter_model.safetensors"
_PREFIX = "base_model.model."
_LORA_A = re.compile(r"^base_model\.model\.(.+)\.lora_A\.weight$")
# Settings that, if set, change the meaning of the weights.
_UNKNOWN = (
    "alora_invocation_tokens", "alpha_pattern", "arrow_config", "layer_replication", "lora_bias",
    "rank_pattern", "target_parameters", "trainable_token_indices", "use_bdlora", "use_dora",
    "use_qalora", "use_rslora", "fan_in_fan_out",
)  # fmt: skip
_MOST_IN_A_ROW = 8
FRESH = "_fresh_modules"
"""Attribute of a base: names of randomly initialised modules that the adapter must contain."""


def read_adapter(path: str | Path, **hub: Any) -> dict[str, Any] | None:
    """The settings of the adapter in `path`, a folder or Hub name; None if there is none.

    Raises ValueError for an adapter of another kind than LoRA, or without a known base.
    """
    file = find_file(path, ADAPTER_CONFIG, **hub)
    if file is None:
        return None
    settings = read_json(file, "the settings of an adapter")
    kind, base = settings.get("peft_type"), settings.get("base_model_name_or_path")
    strange = [name for name in _UNKNOWN if settings.get(name)]
    if kind != "LORA" or strange or settings.get("bias", "none") != "none":
        found = f"{kind} with {', '.join(strange) or 'bias'}" if kind == "LORA" else repr(kind)
        raise ValueError(f"{file}: found {found[:80]}, expected a plain LoRA; merge it by peft.")
    if not isinstance(base, str) or not base:
        raise ValueError(
            f"{file}: base_model_name_or_path: found {base!r}: this is an adapter (LoRA), and "
            "nothing says of which model. Enter its folder or Hub name there."
        )
    return settings


def base_of(path: str | Path, **hub: Any) -> str:
    """The folder or Hub name of the model that the adapter in `path` is for."""
    settings = read_adapter(path, **hub)
    assert settings is not None
    _check_chain(path, settings["base_model_name_or_path"])
    return settings["base_model_name_or_path"]


def open_adapter(
    open_base: Callable[..., Any], path: str | Path, config: Any, **kwargs: Any
) -> Any:
    """The base of the adapter in `path`, with the adapter merged into it.

    `open_base` opens the base by its path, `config` and the rest. `config` is that of the model, or
    None for the base's own. Raises ValueError for an adapter that does not fit its base, and for
    one that is its own base.
    """
    hub = hub_arguments(kwargs)
    settings, base = read_adapter(path, **hub), base_of(path, **hub)
    assert settings is not None
    file = find_file(path, _WEIGHTS, **hub)
    if file is None:
        raise ValueError(f"{path}: found an adapter without {_WEIGHTS}. Is the download complete?")
    weights = read_tensors(file)
    kwargs = {name: kwargs[name] for name in kwargs if name not in ("revision", "subfolder")}
    model = open_base(base, config=config, **kwargs)
    merged = merge_adapter(model, weights, settings, path)
    merged.name_or_path = str(path)
    return merged


def merge_adapter(model: PreTrainedModel, weights: dict, settings: dict, path: str | Path) -> Any:
    """`model` with the adapter's `weights` merged into it; every one must fit."""
    try:
        from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
        from peft import set_peft_model_state_dict as set_state
    except ImportError as error:
        raise ValueError(f"{path}: an adapter opens with peft: pip install peft.") from error
    targets = sorted(match[1] for key in weights if (match := _LORA_A.match(key)))
    ranks = {len(value) for key, value in weights.items() if _LORA_A.match(key)}
    if not targets or ranks != {settings.get("r")}:
        raise ValueError(f"{path}: r: found {settings.get('r')!r}, its weights have {ranks}.")
    alpha = settings.get("lora_alpha")
    if not isinstance(alpha, int | float) or isinstance(alpha, bool):
        raise ValueError(f"{path}: lora_alpha: found {alpha!r}, expected a number.")
    modules = dict(model.named_modules())
    missing = [name for name in targets if name not in modules]
    saved = _saved_modules(weights, settings)
    missing += [name for name in saved if name not in modules]
    bare = [name for name in getattr(model, FRESH, ()) if name not in saved]
    if bare:
        raise ValueError(
            f"{path}: neither the adapter nor its base {settings['base_model_name_or_path']} has "
            f"weights of {', '.join(bare)}."
        )
    if missing:
        raise ValueError(
            f"{path}: the adapter is for {missing[0]}, which its base, a "
            f"{type(model).__name__} of {settings['base_model_name_or_path']}, does not have."
        )
    learns = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    config = LoraConfig(
        r=settings["r"], lora_alpha=alpha, target_modules=targets, modules_to_save=saved or None
    )
    adapted: Any = get_peft_model(model, config)  # type: ignore[arg-type]
    expected = get_peft_model_state_dict(adapted)
    wrong = sorted(expected.keys() ^ weights.keys())
    wrong += [k for k in expected.keys() & weights.keys() if expected[k].shape != weights[k].shape]
    if wrong:
        raise ValueError(f"{path}: {len(wrong)} keys do not fit the base, such as {wrong[0]}.")
    set_state(adapted, weights)
    merged = adapted.merge_and_unload()
    for name, parameter in merged.named_parameters():
        parameter.requires_grad_(learns[name])
    return merged.eval()


def _saved_modules(weights: dict, settings: dict) -> list[str]:
    """The fully saved modules in `settings` that the adapter has weights for."""
    named = settings.get("modules_to_save") or []
    names = [name for name in named if isinstance(name, str)] if isinstance(named, list) else []
    return [name for name in names if any(k.startswith(f"{_PREFIX}{name}.") for k in weights)]


def _check_chain(path: str | Path, base: str) -> None:
    """Raise ValueError if the adapters' bases form a cycle."""
    seen = [Path(path).resolve()]
    while Path(base).is_dir():
        folder = Path(base).resolve()
        if folder in seen or len(seen) > _MOST_IN_A_ROW:
            raise ValueError(f"{path}: {ADAPTER_CONFIG}: the base {base} stands on itself.")
        seen.append(folder)
        settings = read_adapter(folder)
        if settings is None:
            return
        base = settings["base_model_name_or_path"]
