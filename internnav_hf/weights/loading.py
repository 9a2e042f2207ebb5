"""Strict loading: a checkpoint fits completely, or one clear error is raised."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig
from transformers.utils import CONFIG_NAME

from internnav_hf.field_files import nearest_path
from internnav_hf.weights.adapters import FRESH, open_adapter
from internnav_hf.weights.checkpoints import (
    ADAPTER_CONFIG,
    HUB_ARGUMENTS,
    Weights,
    check_size,
    find_file,
    hub_arguments,
    no_weights,
    open_weights,
    own_fields,
    published_type,
)
from internnav_hf.weights.weight_files import share_weights

_SHOWN = 5
_TYPES = ("dtype", "torch_dtype")  # a configuration would keep these to itself
REPORTED = {"output_loading_info": True, "ignore_mismatched_sizes": True}
"""With these arguments transformers reports keys that do not fit; they are then checked here."""


class Release(NamedTuple):
    """A third-party checkpoint in our terms; see `StrictLoading.released`.

    `source` is its name in messages. `fields` of the configuration follow from it; None if the
    configuration's own class reads them there. `convert` gives the weights under our names, for a
    model of that configuration on the meta device; None if transformers renames them. `weights`,
    as described in their files, are first compared with the size of the model.
    """

    source: str | Path
    fields: dict[str, Any] | None = None
    convert: Callable[[Any], dict[str, Tensor]] | None = None
    weights: Weights | None = None


class StrictLoading:
    """To be listed before `PreTrainedModel` among a model's bases: `from_pretrained` raises
    ValueError for any missing, unexpected or misshapen key, for which transformers would continue
    with random weights, and for anything broken in the folder.

    A model with released weights defines in `released` how they are recognised, which configuration
    follows from them and how their keys are renamed.
    """

    opens_files = False
    """Whether released weights may be a file of their own."""
    release_options: tuple[str, ...] = ()
    """Arguments of `from_pretrained` that are for `released`."""

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path,
        *args,
        config=None,
        output_loading_info=False,
        **kwargs,
    ):
        """Our checkpoint, or a released one if the model knows any; a LoRA adapter gives its base
        with the adapter merged into it.

        Fields of the configuration are accepted as keyword arguments. Any missing, unexpected or
        misshapen key is a ValueError.
        """
        this: Any = cls
        path, kwargs = loading_arguments(pretrained_model_name_or_path, kwargs)
        is_file = this.opens_files and path is not None and Path(path).is_file()
        if path is not None and not is_file:
            adapted = _open_if_adapter(this, path, config, kwargs)
            if adapted is not None:
                info = {f"{what}_keys": set() for what in ("missing", "unexpected", "mismatched")}
                return (adapted, info) if output_loading_info else adapted
        release, kwargs = _find_release(this, path, kwargs)
        config, kwargs = _configuration(this, path, release, config, kwargs)
        source, fresh, dropped = path, (), ()
        if release is not None and release.convert is not None:
            weights = _converted(this, path, release, config)
            source, kwargs = None, _without_hub(kwargs) | {"state_dict": weights}
        elif path is not None:
            fresh, dropped = this.optional_parts(path, config, **hub_arguments(kwargs))
            source, kwargs = _checked_source(path, config, kwargs, this, fresh)
        model, info = this.load_weights(source, release, *args, config=config, **kwargs)
        check_loading(path or "given", info, fresh, dropped)
        if path is not None:
            # also for weights that are given in memory: the licence of a pushed model, and an
            # adapter's base, follow from it
            model.name_or_path = str(path)
        if fresh:
            setattr(model, FRESH, [n for n, _ in model.named_children() if f"{n}." in fresh])
        return (model, info) if output_loading_info else model

    @classmethod
    def released(cls, path: str | Path, **hub: Any) -> Release | None:
        """The third-party checkpoint at `path`, a folder, a Hub name or, if `opens_files`, a file;
        None for our own checkpoints and unknown ones.

        `hub` are arguments of the Hub and `release_options`.
        """
        return None

    @classmethod
    def optional_parts(
        cls, path: str | Path, config: Any, **hub: Any
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Prefixes of keys that the checkpoint `path` may lack, whose modules then start fresh, and
        prefixes of keys that a model of `config` may leave out.
        """
        return (), ()

    @classmethod
    def load_weights(cls, source: Any, release: Release | None, *args: Any, **kwargs: Any) -> Any:
        """The model from `source`, or from a `state_dict` if None, and transformers' report."""
        parent: Any = super()
        return parent.from_pretrained(source, *args, **REPORTED, **kwargs)

    def save_pretrained(self, save_directory, *args, save_original_format: bool = False, **kwargs):
        """transformers' method, under the names that the weights have in memory, with the
        permissions that the user's umask gives.

        Names of old, transformers' default, do not load back with `load_state_dict`.
        """
        parent: Any = super()
        parent.save_pretrained(
            save_directory, *args, save_original_format=save_original_format, **kwargs
        )
        share_weights(save_directory)

    @classmethod
    def open_base(cls, path: str | Path, config: Any = None, **kwargs: Any) -> Any:
        """The base model of an adapter."""
        this: Any = cls
        return this.from_pretrained(path, config=config, **kwargs)

    @staticmethod
    def released_keys(state_dict: Mapping[str, Tensor], config: Any) -> dict[str, Tensor]:
        """Rename a released `state_dict` for a model of `config`."""
        raise ValueError(f"No checkpoint of a {config.model_type} was released by others.")


# Arguments that transformers' loading accepts and strict loading does not, with the reason.
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
    """`path` and `kwargs` of `from_pretrained` to use for loading; ValueError for arguments that
    transformers would ignore, or apply silently.
    """
    kept = dict(kwargs)
    auto = kept.get("adapter_kwargs")
    if isinstance(auto, dict) and not auto.keys() - {"token", "revision", "_adapter_model_path"}:
        # the Auto classes always pass them, and the base in place of an adapter
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


def _open_if_adapter(model_class: Any, path: Any, config: Any, kwargs: dict[str, Any]) -> Any:
    """The model of an adapter in `path`, a folder or Hub name, and its base; None without one."""
    hub = hub_arguments(kwargs)
    if find_file(path, ADAPTER_CONFIG, **hub) is None or open_weights(path, **hub) is not None:
        return None
    if config is None and find_file(path, CONFIG_NAME, **hub) is not None:
        config, kwargs = read_config(model_class.config_class, path, **kwargs)
    return open_adapter(model_class.open_base, path, config, **kwargs)


def _find_release(
    model_class: Any, path: Any, kwargs: dict[str, Any]
) -> tuple[Release | None, dict[str, Any]]:
    """The third-party checkpoint in `path`, if any, and `kwargs` without the options for it."""
    names = model_class.release_options
    options = {name: value for name, value in kwargs.items() if name in names}
    kwargs = {name: value for name, value in kwargs.items() if name not in names}
    release = None
    if path is not None:
        release = model_class.released(path, **hub_arguments(kwargs), **options)
    if release is None and any(options.values()):
        shown = " and ".join(f"`{name}`" for name in names)
        raise ValueError(f"{path}: {shown} are for released weights, found none.")
    return release, kwargs


def _configuration(
    model_class: Any, path: Any, release: Release | None, config: Any, kwargs: dict[str, Any]
) -> tuple[Any, dict[str, Any]]:
    """`config`, or that of the checkpoint, and `kwargs` without its fields."""
    if release is not None and release.fields is not None:
        own, kwargs = own_fields(model_class.config_class, kwargs)
        return config or model_class.config_class(**(release.fields | own)), kwargs
    if path is not None and config is None:
        return read_config(model_class.config_class, path, **kwargs)
    return config, kwargs


def _converted(model_class: Any, path: Any, release: Release, config: Any) -> dict[str, Tensor]:
    """The weights of `release` under our names; every one fits a model of `config`."""
    assert release.convert is not None
    model = None
    if release.weights is not None:
        model = check_size(path, release.weights, config, model_class)
    if model is None:
        with torch.device("meta"):
            model = model_class(config)
    weights = release.convert(model)
    check_fit(release.source, weights, model)
    return weights


def _checked_source(
    path: Any,
    config: PreTrainedConfig,
    kwargs: dict[str, Any],
    build: Callable[[Any], nn.Module],
    fresh: tuple[str, ...] = (),
) -> tuple[Any, dict[str, Any]]:
    """Arguments with which transformers opens `path`, a folder or Hub name whose weights are whole
    and of about the size of the model that `build` makes of `config`: path or None, and `kwargs`.

    `fresh` are prefixes of the names of modules that the weights may lack.
    """
    weights = open_weights(path, kwargs.get("variant"), **hub_arguments(kwargs))
    if weights is None:
        raise no_weights(path)
    check_size(path, weights, config, build, fresh)
    if weights.tensors is None:
        return path, kwargs
    return None, _without_hub(kwargs) | {"state_dict": weights.tensors}


def _without_hub(kwargs: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in kwargs.items() if name not in HUB_ARGUMENTS}


def read_config(config_class: type[PreTrainedConfig], path, **kwargs) -> tuple[Any, dict]:
    """The configuration of `path`, with its fields from `kwargs`, and the remaining `kwargs` that
    loading a model needs: Hub arguments, the type, and all that are not fields.
    """
    kept = {name: kwargs[name] for name in (*HUB_ARGUMENTS, *_TYPES) if name in kwargs}
    fields = {name: value for name, value in kwargs.items() if name not in _TYPES}
    loaded: Any = config_class.from_pretrained(path, return_unused_kwargs=True, **fields)
    return loaded[0], loaded[1] | kept


def load_published(
    classes: Mapping[str, Any], path: str | Path, may_be_unexpected: tuple[str, ...] = ()
) -> Any:
    """A transformers model from `path`, a folder or Hub name; its class is the one in `classes` for
    the stored `model_type`.

    Raises ValueError for missing or broken files, or another type.
    """
    kind = published_type(path)
    if kind not in classes:
        raise ValueError(f"{path}: found a {kind!r}, expected {' or '.join(map(repr, classes))}.")
    config = classes[kind].config_class.from_pretrained(path)
    source, held = _checked_source(path, config, {}, classes[kind])
    model, info = classes[kind].from_pretrained(
        source, config=config, output_loading_info=True, **held
    )
    check_loading(path, info, may_be_unexpected=may_be_unexpected)
    return model


def check_is_checkpoint(option: str, path: str) -> bool:
    """Whether `path`, the value of `option`, is a folder; if not, it is a Hub name.

    Raises ValueError for a value that can only mean a folder, if there is no such folder.
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
    """Raise ValueError if `info`, transformers' loading report for `path`, names keys that do not
    fit.

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
    found = [f"{verb} {len(keys)} key(s): {_some(keys)}" for verb, keys in problems if keys]
    if found:
        raise ValueError(f"The checkpoint {path} does not fit the model: it {'; it '.join(found)}.")


def _some(keys: Iterable[str]) -> str:
    keys = sorted(keys)
    return ", ".join(keys[:_SHOWN]) + (", …" if len(keys) > _SHOWN else "")


def check_fit(source, converted: Mapping[str, Tensor], model: nn.Module) -> None:
    """Raise ValueError naming keys that are missing, unexpected, or of another shape in `model`."""
    expected = model.state_dict()
    shared = converted.keys() & expected.keys()
    report = {
        "missing_keys": expected.keys() - converted.keys(),
        "unexpected_keys": converted.keys() - expected.keys(),
        "mismatched_keys": [(k,) for k in shared if converted[k].shape != expected[k].shape],
    }
    check_loading(source, report)


def fill(module: nn.Module, weights: Mapping[str, Tensor], source: str | Path) -> None:
    """Load `weights`, read from `source`, into `module`; ValueError unless every one fits."""
    check_fit(source, weights, module)
    module.load_state_dict(weights)
