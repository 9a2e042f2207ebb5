"""The family of a checkpoint, and the policy that drives a robot with it.

Our checkpoints store their family in config.json. A third-party checkpoint is recognised by the
family's function `is_released(family, stored, names)`: `stored` is config.json, empty if there is
none, and `names()` are the names of the weights. An adapter belongs to its base's family.
"""

import difflib
import inspect
from collections.abc import Set
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

from transformers.utils import CONFIG_NAME, SAFE_WEIGHTS_NAME, WEIGHTS_NAME

from internnav_hf import catalog
from internnav_hf.catalog import Family, families_of, family_of
from internnav_hf.policies.policy import GoalPolicy, InstructionPolicy
from internnav_hf.weights.adapters import base_of
from internnav_hf.weights.checkpoints import (
    ADAPTER_CONFIG,
    HUB_ARGUMENTS,
    hub_arguments,
    is_bare_adapter,
    stored_config,
    weight_names,
)
from internnav_hf.weights.inert_pickle import read_tensors
from internnav_hf.weights.loading import check_is_checkpoint

_WEIGHTS = (".pth", ".pt", ".ckpt", ".bin", ".safetensors")
_PARTS = ("self", "model", "processor")  # of a policy; the rest are settings
# Arguments that transformers' loading takes without declaring them.
_LOADING = {
    *HUB_ARGUMENTS,
    *("attn_implementation", "device_map", "dtype", "torch_dtype", "max_memory", "variant"),
    *("offload_folder", "offload_buffers", "quantization_config", "state_dict", "proxies"),
    *("low_cpu_mem_usage", "experts_implementation", "tp_plan", "tp_size", "key_mapping"),
    *("adapter_kwargs", "gguf_file", "from_tf", "from_flax", "strict", "processor"),
    *("ignore_mismatched_sizes", "output_loading_info", "use_safetensors", "weights_only"),
}


def load_policy(path: Any, **settings: Any) -> InstructionPolicy | GoalPolicy:
    """The policy of a checkpoint: a folder, Hub name or released file, of ours or a released one.

    `settings` are those of the policy (`policy_settings`) and arguments of the model's loading.
    Raises ValueError for a checkpoint of no family that drives a robot by itself, and for a setting
    that its policy does not have.
    """
    if not Path(path).is_file():
        check_is_checkpoint("load_policy:", str(path))
    family = _family_at(path, [one for one in catalog.FAMILIES if one.benchmark], settings)
    _check_settings(path, family, settings)
    return family.load("policy").from_pretrained(path, **settings)


def load_vln_policy(path: Any, processor: Any = None, seed: int = 0, **kwargs: Any) -> Any:
    """`load_policy` for a Seq2Seq, CMA or RDP alone; `processor` if the checkpoint has none, `seed`
    if the policy draws random numbers.
    """
    if not Path(path).is_file():
        check_is_checkpoint("load_vln_policy:", str(path))
    wanted = [one for one in catalog.FAMILIES if one.benchmark and one.folder in ("vln", "rdp")]
    policy = _family_at(path, wanted, kwargs).load("policy")
    seeded = {"seed": seed} if "seed" in policy_settings(policy) else {}
    return policy.from_pretrained(path, processor=processor, **seeded, **kwargs)


def family_for(policy: type, path: Any, **hub: Any) -> Family:
    """The family of the checkpoint at `path`; ValueError if `policy` does not drive it."""
    return _family_at(path, families_of(policy), hub)


def policy_settings(policy: type) -> tuple[str, ...]:
    """Names of the settings of a policy: the arguments of its `__init__` but for model and
    processor, with those of its base if it passes others on to it.
    """
    names: dict[str, None] = {}
    for kind in policy.__mro__:
        own = inspect.signature(kind.__init__).parameters.values()
        passed_on = [one.name for one in own if one.kind is one.VAR_KEYWORD]
        names |= dict.fromkeys(one.name for one in own if one.name not in (*_PARTS, *passed_on))
        if not passed_on:
            break
    return tuple(names)


def split_settings(policy: type, kwargs: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """`kwargs` of a policy's `from_pretrained`: its settings, and the model's loading."""
    names = policy_settings(policy)
    settings = {name: value for name, value in kwargs.items() if name in names}
    return settings, {name: value for name, value in kwargs.items() if name not in names}


def open_policy(policy: type, model_type: str, path: Any, kwargs: dict[str, Any]) -> Any:
    """The policy of a model of `model_type` at `path`; `kwargs` as in `split_settings`."""
    settings, kwargs = split_settings(policy, kwargs)
    family = family_of(model_type)
    assert family is not None
    return policy(family.load("model").from_pretrained(path, **kwargs), **settings)


def family_of_checkpoint(path: Any, **hub: Any) -> Family | None:
    """The family of a folder, Hub name or released file; None if it belongs to none."""
    file = _bare_weights(Path(path))
    if file is not None:
        return _released({}, cache(lambda: read_tensors(file).keys()))
    if is_bare_adapter(path, **hub):
        return family_of_checkpoint(base_of(path, **hub))
    stored = stored_config(path, **hub)
    ours = family_of(str(stored.get("model_type")))
    return ours or _released(stored, cache(lambda: weight_names(path, **hub)))


def _released(stored: dict[str, Any], names: Any) -> Family | None:
    known = ((family, family.load("released")) for family in catalog.FAMILIES)
    return next((one for one, is_it in known if is_it and is_it(one.name, stored, names)), None)


def _bare_weights(path: Path) -> Path | None:
    """Released weights without a configuration: the file, or the only one of a folder."""
    if path.is_file():
        return path
    if not path.is_dir() or any((path / name).is_file() for name in (CONFIG_NAME, ADAPTER_CONFIG)):
        return None
    usual = [path / name for name in (SAFE_WEIGHTS_NAME, WEIGHTS_NAME) if (path / name).is_file()]
    files = usual or sorted(file for file in path.iterdir() if file.suffix in _WEIGHTS)
    if len(files) > 1 and not usual:
        found = [file.name for file in files]
        raise ValueError(f"{path}: no {CONFIG_NAME}, and weights in {found}: name one of them.")
    return files[0] if files else None


def _family_at(path: Any, wanted: list[Family], kwargs: dict[str, Any]) -> Family:
    family = family_of_checkpoint(path, **hub_arguments(kwargs))
    if family is None or family.name not in [one.name for one in wanted]:
        known = [_word(one) for one in wanted]
        listed = " or ".join(filter(None, [", ".join(known[:-1]), known[-1]]))
        found = "another model" if family is None else _word(family)
        raise ValueError(f"{path}: found {found}, expected {listed}.")
    return family


def _word(family: Family) -> str:
    return family.model_type.removeprefix("internnav_")


def _check_settings(path: Any, family: Family, given: dict[str, Any]) -> None:
    policy, model = family.load("policy"), family.load("model")
    settings = policy_settings(policy)
    loading: Set[str] = inspect.signature(model.from_pretrained).parameters.keys()
    own = {field.name for field in fields(family.load("config"))}
    for name in given:
        if name not in {*settings, *loading, *own, *_LOADING}:
            guess = difflib.get_close_matches(name, settings, n=1)
            hint = f" Did you mean {guess[0]!r}?" if guess else ""
            raise ValueError(
                f"{path}: {policy.__name__} has no setting {name!r}; it has "
                f"{', '.join(settings)}.{hint}"
            )
