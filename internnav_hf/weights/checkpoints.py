"""Checkpoints, folders or Hub repositories: checked before transformers opens them.

transformers replaces a missing configuration by a default one, builds the configured model before
it opens the weights, and passes broken files to libraries whose errors name no file.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import CONFIG_MAPPING, PreTrainedConfig
from transformers.utils import (
    CONFIG_NAME,
    SAFE_WEIGHTS_INDEX_NAME,
    SAFE_WEIGHTS_NAME,
    WEIGHTS_INDEX_NAME,
    WEIGHTS_NAME,
)
from transformers.utils.hub import cached_file

from internnav_hf.weights.inert_pickle import read_tensors
from internnav_hf.weights.weight_files import (
    TENSOR_FILES,
    Entry,
    check_file,
    map_tensors,
    read_header,
    read_json,
)

ADAPTER_CONFIG = "adapter_config.json"
HUB_ARGUMENTS = ("cache_dir", "force_download", "local_files_only", "token")
HUB_ARGUMENTS = (*HUB_ARGUMENTS, "revision", "subfolder", "trust_remote_code")
_LAYERS = re.compile(r"(layers|depth|depths|blocks|labels|diffusion_steps)$")
_MOST_LAYERS = 10_000
_LARGEST_NUMBER = 1 << 40
_MOST_SHARDS = 10_000
_SHARDED = re.compile(r"^shard-\d{5}-model-\d{5}-of-\d{5}\.safetensors$")


class Weights(NamedTuple):
    """The weights of a checkpoint: tensors by name as described in their files, and the tensors
    themselves if transformers must not open the files.
    """

    files: tuple[Path, ...]
    entries: dict[str, Entry]
    tensors: dict[str, Tensor] | None = None

    def mapped(self) -> dict[str, Tensor]:
        """All tensors by name; those of safetensors are mapped, not copied."""
        return map_tensors(self.files) if self.tensors is None else self.tensors


def hub_arguments(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The part of `kwargs` that locates a repository on the Hub."""
    return {name: kwargs[name] for name in HUB_ARGUMENTS if name in kwargs}


def own_fields(config_class: type, kwargs: dict) -> tuple[dict, dict]:
    """`kwargs` split: the fields that `config_class` itself declares, and the rest."""
    base = {field.name for field in fields(PreTrainedConfig)}
    own = {field.name for field in fields(config_class)} - base
    chosen = {key: value for key, value in kwargs.items() if key in own}
    return chosen, {key: value for key, value in kwargs.items() if key not in own}


def find_file(path: str | Path, name: str, **hub: Any) -> Path | None:
    """The file `name` in the folder or Hub repository `path`, None if there is none.

    Raises ValueError if there is no such folder or repository.
    """
    folder = Path(path)
    if folder.is_dir():
        file = folder / (hub.get("subfolder") or "") / name
        return file if file.is_symlink() or file.exists() else None
    if folder.is_symlink() or folder.exists() or folder.suffix in TENSOR_FILES:
        check_file(folder)
        raise ValueError(f"{path}: found a file, expected a folder or a Hub name.")
    if str(path).startswith((".", "/", "~")) or str(path).count("/") > 1:
        raise ValueError(f"{path}: there is no such folder.")
    known = {key: value for key, value in hub.items() if key != "trust_remote_code"}
    known["subfolder"] = known.get("subfolder") or ""
    try:
        found = cached_file(str(path), name, _raise_exceptions_for_missing_entries=False, **known)
    except (OSError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path}: there is no such folder, and on the Hub: {reason}") from error
    return None if found is None else Path(found)


def stored_config(path: str | Path, **hub: Any) -> dict[str, Any]:
    """Content of `config.json` in `path`, a folder or Hub name; never a default configuration.

    Raises ValueError if there is none, or if it cannot be that of a model.
    """
    file = Path(path) if Path(path).is_file() else find_file(path, CONFIG_NAME, **hub)
    if file is None:
        if is_bare_adapter(path, **hub):
            raise ValueError(
                f"{path}: an adapter (LoRA) without {CONFIG_NAME}. Open it by from_pretrained of a "
                f"model or policy, or name its base, which is in {ADAPTER_CONFIG}."
            )
        raise ValueError(
            f"{path}: found no {CONFIG_NAME}, expected a checkpoint. Without it nothing says which "
            "model the weights are of: copy it from where they come from."
        )
    content = read_json(file)
    if "transformers_weights" in content:
        raise ValueError(f"{file}: transformers_weights: name the file {SAFE_WEIGHTS_NAME} instead")
    for name, value in _numbers(content):
        last = name.rpartition(".")[2]
        limit = _MOST_LAYERS if _LAYERS.search(last) else _LARGEST_NUMBER
        if not -_LARGEST_NUMBER < value <= limit:
            shown = value if abs(value) < 1e30 else f"{str(value)[:12]}…"
            raise ValueError(f"{file}: {name}: found {shown}, expected at most {limit}.")
    return content


def is_bare_adapter(path: str | Path, **hub: Any) -> bool:
    """Whether `path`, a folder or Hub name, holds an adapter and no configuration of a model."""
    has_config = find_file(path, CONFIG_NAME, **hub) is not None
    return not has_config and find_file(path, ADAPTER_CONFIG, **hub) is not None


def open_weights(path: str | Path, variant: str | None = None, **hub: Any) -> Weights | None:
    """The weights of `path`, whose headers fit their files; None if there are none.

    Raises ValueError for broken, truncated or missing files, and for a folder that also holds an
    adapter: it cannot be known whether the weights already include it.
    """
    folder = Path(path, hub.get("subfolder") or "")
    if folder.is_dir() and any(_SHARDED.match(file.name) for file in folder.iterdir()):
        raise ValueError(f"{path}: found shards of several processes; save the model as a whole.")
    names = (SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME, WEIGHTS_NAME, WEIGHTS_INDEX_NAME)
    for name in names:
        file = find_file(path, _with_variant(name, variant), **hub)
        if file is None:
            continue
        if find_file(path, ADAPTER_CONFIG, **hub) is not None:
            raise ValueError(
                f"{path}: found a whole model, {file.name}, and an adapter, {ADAPTER_CONFIG}, "
                "which may be in it already. Keep one of the two in the folder."
            )
        files = _shards(path, file, **hub) if file.suffix == ".json" else (file,)
        if name in (SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME):
            entries = _joined({shard: read_header(shard) for shard in files})
            return Weights(files, entries)
        tensors = _joined({shard: read_tensors(shard) for shard in files})
        described = {key: Entry(tuple(value.shape), value.nbytes) for key, value in tensors.items()}
        return Weights(files, described, tensors)
    files = _numbered(folder)
    entries = _joined({shard: read_header(shard) for shard in files})
    return Weights(files, entries, map_tensors(files)) if files else None


def weight_names(path: str | Path, **hub: Any) -> set[str]:
    """Names of the tensors of `path`; shards listed in an index are not opened."""
    index = find_file(path, SAFE_WEIGHTS_INDEX_NAME, **hub)
    if index is not None and find_file(path, SAFE_WEIGHTS_NAME, **hub) is None:
        return set(read_json(index, "a list of shards").get("weight_map") or ())
    weights = open_weights(path, **hub)
    return set() if weights is None else set(weights.entries)


def no_weights(path: str | Path) -> ValueError:
    """The error for a checkpoint whose weights are missing."""
    return ValueError(
        f"{path}: found no weights, expected {SAFE_WEIGHTS_NAME}. Is the download complete?"
    )


def check_size(
    path: str | Path,
    weights: Weights,
    config: PreTrainedConfig,
    build: Callable[[Any], nn.Module],
    fresh: tuple[str, ...] = (),
) -> nn.Module | None:
    """The model that `build` makes of `config`, on the meta device; None under ZeRO-3.

    Raises ValueError if it is far larger than `weights`, or cannot be built. `fresh` are prefixes
    of names that the weights may lack.
    """
    for name, value in _numbers(config.to_dict()):
        is_layers = name.endswith("layers") and not name.endswith("window_layers")
        if is_layers and value > len(weights.entries):
            raise ValueError(
                f"{path}: {CONFIG_NAME}: {name}: found {value}, but the weights are "
                f"{len(weights.entries)} tensors."
            )
    # imported here: it brings accelerate, a fifth of `import internnav_hf`
    from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

    if is_deepspeed_zero3_enabled():  # there, building a model distributes its weights
        return None
    try:
        with torch.device("meta"):
            model = build(config)
    except (RuntimeError, TypeError, AttributeError, LookupError, ArithmeticError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path}: {CONFIG_NAME}: of this no model can be: {reason}") from error
    sizes = {name: part.numel() for name, part in model.named_parameters()}
    asked = sum(size for name, size in sizes.items() if not name.startswith(fresh or ("\0",)))
    held = sum(math.prod(entry.shape) for entry in weights.entries.values())
    if getattr(config, "quantization_config", None) is not None:
        held = 4 * sum(entry.num_bytes for entry in weights.entries.values())
    if asked > 2 * held + 1_000_000:
        raise ValueError(
            f"{path}: {CONFIG_NAME} describes a model of {asked:,} parameters, but the weights "
            f"hold {held:,}. They do not belong together."
        )
    return model


def published_type(path: str | Path) -> str:
    """The `model_type` of a checkpoint."""
    found = stored_config(path).get("model_type")
    if not isinstance(found, str) or found not in CONFIG_MAPPING:
        raise ValueError(f"{path}: {CONFIG_NAME}: model_type: found {found!r}, which is not known.")
    return found


def _shards(path: str | Path, index: Path, **hub: Any) -> tuple[Path, ...]:
    """The files that `index` names, all of which are in its folder."""
    places = read_json(index, "a list of shards").get("weight_map")
    if not isinstance(places, dict) or not places:
        raise ValueError(f"{index}: weight_map: found none, expected names and their files.")
    names = {name for name in places.values() if isinstance(name, str)}
    strange = [name for name in places.values() if not isinstance(name, str)]
    strange += [name for name in names if Path(name).name != name or not name.strip(".")]
    if strange or len(names) > _MOST_SHARDS:
        found = repr(strange[0])[:80] if strange else f"{len(names)} files"
        raise ValueError(f"{index}: weight_map: found {found}, expected files in this folder.")
    files = {name: find_file(path, name, **hub) for name in sorted(names)}
    missing = [name for name, file in files.items() if file is None]
    if missing:
        raise ValueError(
            f"{index}: {len(missing)} of {len(files)} files are missing: "
            f"{', '.join(missing[:3])}. Download them too."
        )
    return tuple(check_file(file) for file in files.values() if file is not None)


def _numbered(folder: Path) -> tuple[Path, ...]:
    """Shards in `folder` without an index, whose number is part of their names."""
    files = sorted(folder.glob("model-*-of-*.safetensors")) if folder.is_dir() else []
    expected = [f"model-{i + 1:05d}-of-{len(files):05d}.safetensors" for i in range(len(files))]
    if [file.name for file in files] != expected:
        raise ValueError(f"{folder}: found {len(files)} shards of others. Download them all.")
    return tuple(files)


def _joined(parts: Mapping[Path, Mapping[str, Any]]) -> dict[str, Any]:
    joined: dict[str, Any] = {}
    for file, entries in parts.items():
        twice = sorted(joined.keys() & entries.keys())
        if twice:
            raise ValueError(f"{file}: {twice[0]}: another shard has it too.")
        joined |= entries
    return joined


def _with_variant(name: str, variant: str | None) -> str:
    """File name of a `variant` as in transformers: model.VARIANT.safetensors."""
    if variant is None:
        return name
    if Path(variant).name != variant:
        raise ValueError(f"variant: found {variant!r}, expected a part of a file's name.")
    stem, _, suffix = name.rpartition(".")
    return f"{stem}.{variant}.{suffix}"


def _numbers(content: Any, name: str = "") -> Iterator[tuple[str, int | float]]:
    """All numbers in a configuration, with their names."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield from _numbers(value, f"{name}.{key}" if name else str(key))
    elif isinstance(content, list | tuple):
        for value in content:
            yield from _numbers(value, name)
    elif isinstance(content, int | float) and not isinstance(content, bool):
        yield from [(name, content)] if math.isfinite(content) else []
