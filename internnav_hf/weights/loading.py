"""Strict loading: a checkpoint fits, or there is one clear error."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedConfig
from transformers.utils import CONFIG_NAME

from internnav_hf.field_files import nearest_path
from internnav_hf.weights.adapters import OpenBase, open_adapter
from internnav_hf.weights.checkpoints import (
    ADAPTER_CONFIG,
    HUB_ARGUMENTS,
    check_size,
    find_file,
    hub_arguments,
    no_weights,
    open_weights,
)

_SHOWN = 5
_TYPES = ("dtype", "torch_dtype")  # a configuration would keep these to itself


class StrictLoading:
    """Before `PreTrainedModel` among a model's bases: `from_pretrained` raises ValueError for any
    missing, unexpected or misshapen key, where transformers would go on with random weights, and
    for whatever is broken in the folder.
    """

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path,
        *args,
        config=None,
        output_loading_info=False,
        **kwargs,
    ):
        """As for every model, strictly. The folder of a LoRA adapter gives its base and it."""
        this: Any = cls
        path, kwargs = loading_arguments(pretrained_model_name_or_path, kwargs)
        source = path
        if path is not None:
            adapted = open_if_adapter(this, path, config, kwargs, this.from_pretrained)
            if adapted is not None:
                return (adapted, no_loss()) if output_loading_info else adapted
            if config is None:
                config, kwargs = read_config(this.config_class, path, **kwargs)
            source, kwargs = checked_source(path, config, kwargs, this)
        parent: Any = super()
        model, info = parent.from_pretrained(
            source,
            *args,
            config=config,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are reported below
            **kwargs,
        )
        check_loading(path or "given", info)
        return named((model, info) if output_loading_info else model, path)


def named(loaded: Any, path: Any) -> Any:
    """`loaded`, what `from_pretrained` gave, called after `path` also where transformers was handed
    weights in memory: the licence of what is pushed, and an adapter's base, follow from there.
    """
    if path is not None:
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        model.name_or_path = str(path)
    return loaded


# What transformers' loading takes and strict loading does not, with the reason.
_REFUSED = {
    "ignore_mismatched_sizes": "what does not fit is an error, and never random weights",
    "from_tf": "expected weights of PyTorch",
    "from_flax": "expected weights of PyTorch",
    "gguf_file": "expected safetensors",
    "key_mapping": "rename the keys in the file instead",
    "adapter_kwargs": "name the adapter's folder itself",
}
_MUST_BE_TRUE = {
    "weights_only": "files are read as tensors alone",
    "strict": "what does not fit is an error, and never random weights",
}


def loading_arguments(path: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """`path` and `kwargs` of `from_pretrained` that loading is to see; ValueError for what
    transformers would do silently, or not at all.
    """
    kept = dict(kwargs)
    auto = kept.get("adapter_kwargs")
    if isinstance(auto, dict) and not auto.keys() - {"token", "revision", "_adapter_model_path"}:
        # the Auto classes send them always, and the base in the place of an adapter
        path = auto.get("_adapter_model_path") or path
        del kept["adapter_kwargs"]
    for name, reason in _REFUSED.items():
        if kept.pop(name, None):
            raise ValueError(f"from_pretrained: {name}: it is not for models here: {reason}.")
    for name, reason in _MUST_BE_TRUE.items():
        if not kept.pop(name, True):
            raise ValueError(f"from_pretrained: {name}=False is not for models here: {reason}.")
    if path is not None and kept.get("state_dict") is not None:
        raise ValueError("from_pretrained: state_dict: it goes with config and None as the path.")
    return path, kept


def open_if_adapter(
    model_class: Any, path: Any, config: Any, kwargs: dict[str, Any], open_base: OpenBase
) -> Any:
    """The model of an adapter in `path`, a folder or Hub name, and its base, which `open_base`
    opens; None where there is no adapter.
    """
    hub = hub_arguments(kwargs)
    if find_file(path, ADAPTER_CONFIG, **hub) is None or open_weights(path, **hub) is not None:
        return None
    if config is None and find_file(path, CONFIG_NAME, **hub) is not None:
        config, kwargs = read_config(model_class.config_class, path, **kwargs)
    return open_adapter(open_base, path, config, **kwargs)


def checked_source(
    path: Any,
    config: PreTrainedConfig,
    kwargs: dict[str, Any],
    build: Callable[[Any], nn.Module],
    fresh: tuple[str, ...] = (),
) -> tuple[Any, dict[str, Any]]:
    """What transformers is to open for `path`, a folder or Hub name whose weights are whole and of
    about the size of what `build` makes of `config`: it, or None, and `kwargs`.

    `fresh` is how the names of modules start that the weights may lack.
    """
    hub = hub_arguments(kwargs)
    weights = open_weights(path, kwargs.get("variant"), **hub)
    if weights is None:
        raise no_weights(path)
    check_size(path, weights, config, build, fresh)
    if weights.tensors is None:
        return path, kwargs
    kwargs = {name: value for name, value in kwargs.items() if name not in hub}
    return None, kwargs | {"state_dict": weights.tensors}


def no_loss() -> dict[str, Any]:
    """transformers' loading report where everything fits."""
    return {"missing_keys": set(), "unexpected_keys": set(), "mismatched_keys": set()}


def read_config(config_class: type[PreTrainedConfig], path, **kwargs) -> tuple[Any, dict]:
    """The configuration of `path`, with its fields among `kwargs`, and what a model's loading needs
    of the rest: Hub arguments, the type, and all that is no field.
    """
    kept = {name: kwargs[name] for name in (*HUB_ARGUMENTS, *_TYPES) if name in kwargs}
    fields = {name: value for name, value in kwargs.items() if name not in _TYPES}
    loaded: Any = config_class.from_pretrained(path, return_unused_kwargs=True, **fields)
    return loaded[0], loaded[1] | kept


def check_is_checkpoint(option: str, path: str) -> bool:
    """Whether `path`, the value of `option`, is a folder; if not, it is a Hub name.

    Raises ValueError for what can only be meant as a folder, and is none.
    """
    folder = Path(path)
    if folder.is_dir():
        return True
    if folder.is_file():
        raise ValueError(f"{option} {path}: found a file, expected a folder or a Hub name.")
    if path.count("/") != 1 or path.startswith((".", "/", "~")) or folder.parent.is_dir():
        raise ValueError(f"{option} {path}: there is no such folder.{nearest_path(path)}")
    return False


def check_loading(
    path,
    info: dict,
    may_be_missing: tuple[str, ...] = (),
    may_be_unexpected: tuple[str, ...] = (),
) -> None:
    """Raise ValueError when `info`, transformers' loading report for `path`, names keys that did
    not fit.

    Keys that start with one of `may_be_missing` belong to fresh modules and are allowed to be
    absent.
    """
    missing = [key for key in info["missing_keys"] if not key.startswith(may_be_missing)]
    unexpected = [key for key in info["unexpected_keys"] if not key.startswith(may_be_unexpected)]
    problems = [
        ("lacks", missing),
        ("has unexpected", unexpected),
        ("has other shapes for", [entry[0] for entry in info.get("mismatched_keys", ())]),
    ]
    told = [f"{verb} {len(keys)} key(s): {_some(keys)}" for verb, keys in problems if keys]
    if told:
        raise ValueError(f"The checkpoint {path} does not fit the model: it {'; it '.join(told)}.")


def _some(keys: Iterable[str]) -> str:
    keys = sorted(keys)
    return ", ".join(keys[:_SHOWN]) + (", …" if len(keys) > _SHOWN else "")


def check_fit(source, converted: Mapping[str, Tensor], model: nn.Module) -> None:
    """Raise ValueError naming keys that `model` misses, does not know, or has in another shape."""
    expected = model.state_dict()
    shared = converted.keys() & expected.keys()
    report = {
        "missing_keys": expected.keys() - converted.keys(),
        "unexpected_keys": converted.keys() - expected.keys(),
        "mismatched_keys": [(k,) for k in shared if converted[k].shape != expected[k].shape],
    }
    check_loading(source, report)
