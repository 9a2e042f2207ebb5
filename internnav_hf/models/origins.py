"""What a model was made from: weights and data, each with its licence, judged by what they hold.

A folder tells its licence by its card (README.md), ours with all that the parent was made from; by
its configuration; by where the Hub's cache keeps it; a file by the names of its weights. A folder's
own name frees nothing.
"""

import json
import logging
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HTTPError  # pyright: ignore[reportPrivateImportUsage]
from transformers.utils import CONFIG_NAME

from .inert_pickle import read_tensors
from .licences import (
    NON_COMMERCIAL,
    QWEN,
    QWEN_RESEARCH,
    SCANS,
    Licence,
    licence_of_name,
)

logger = logging.getLogger(__name__)

CARD = "README.md"
LIBRARY = "internnav_hf"
_WEIGHTS = (".bin", ".ckpt", ".pt", ".pth", ".safetensors")
_ADAPTER = "adapter_config.json"
_NOTHING = ("", "random", "random weights", "None")
_CACHED = re.compile(r"(models|datasets)--([^/]+)/snapshots/([^/]+)")
_HEADER = re.compile(r"\A\ufeff?---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(\r?\n|\Z)", re.S)
_LARGEST_CARD = 1_000_000
# What only weights of these releases have, by name.
_DD_PPO, _VLNCE, _LONG_CLIP = "actor_critic.net.", "net.", "positional_embedding_res"


class Origin(NamedTuple):
    """One thing that a model was made from. `licence` is None where nobody knows."""

    name: str
    kind: str  # "weights" or "data"
    licence: Licence | None
    version: str = ""
    repository: str = ""
    """on the Hub"""


def weights_origins(source: str | Path | None, model_type: str = "") -> list[Origin]:
    """All that the weights at `source` were made from: folder, file, or Hub name (`@revision`).

    `model_type` is that of the model that starts from them. None and "random" are no weights.
    """
    if source is None or str(source) in _NOTHING:
        return []
    path = Path(source).expanduser()
    if path.exists():
        return _of_path(path, model_type)
    name, _, revision = str(source).partition("@")
    known, repository = licence_of_name(name), name if _is_hub_name(name) else ""
    if known is None and repository:
        card = read_card(_downloaded_card(name, revision or None))
        return _of_card(card, name, "weights", repository, revision) or [
            Origin(name, "weights", None, revision, repository)
        ]
    return [Origin(name if repository else path.name, "weights", known, revision, repository)]


def read_card(path: str | Path | None) -> dict[str, Any]:
    """The fields at the head of a card; empty where there is none, or none that can be read."""
    if path is None or not Path(path).is_file() or Path(path).stat().st_size > _LARGEST_CARD:
        return {}
    found = _HEADER.match(Path(path).read_text(encoding="utf-8", errors="replace"))
    try:
        fields = yaml.safe_load(found[1]) if found else {}
    except (yaml.YAMLError, RecursionError) as error:
        logger.warning("%s: its head is no YAML (%s): its licence is unknown.", path, error)
        return {}
    return fields if isinstance(fields, dict) else {}


def licences_of_card(card: Mapping[str, Any]) -> list[Licence]:
    """What `license` says, one or several; an unknown word counts as a licence of its own."""
    stated = card.get("license")
    ids = [str(one).lower() for one in (stated if isinstance(stated, list) else [stated]) if one]
    name, link = str(card.get("license_name") or ""), str(card.get("license_link") or "")
    return [
        Licence(one, name, link) if one == "other" else Licence(one)
        for one in ids
        if one != "unknown"
    ]


def made_from(card: Mapping[str, Any]) -> list[Origin]:
    """What a card of ours says that its model was made from."""
    entries = card.get("made_from")
    origins = []
    for entry in entries if isinstance(entries, list) else []:
        if not isinstance(entry, dict) or "name" not in entry:
            continue
        told = {key: str(entry.get(key) or "") for key in ("name", "kind", "version", "repository")}
        stated = {f"license{end}": entry.get(f"licence{end}") for end in ("", "_name", "_link")}
        licence = next(iter(licences_of_card(stated)), None)
        origins.append(Origin(licence=licence, **(told | {"kind": told["kind"] or "weights"})))
    return origins


def fields_of(origins: Iterable[Origin]) -> list[dict[str, str]]:
    """`origins` for the head of a card, as `made_from` reads them; `license` is the model's."""
    rows = []
    for origin in dict.fromkeys(origins):
        licence = origin.licence or Licence("")
        row = {"name": origin.name, "kind": origin.kind, "licence": licence.id}
        row |= {"licence_name": licence.name, "licence_link": licence.link}
        row |= {"version": origin.version, "repository": origin.repository}
        # One line each: a line of dashes would end the head.
        rows.append({key: " ".join(value.split()) for key, value in row.items() if value})
    return rows


def cached_name(path: Path) -> tuple[str, str]:
    """Repository and revision where `path` lies in the Hub's cache; else empty."""
    found = _CACHED.search(path.absolute().as_posix())
    return (found[2].replace("--", "/"), found[3]) if found else ("", "")


def _of_path(path: Path, model_type: str) -> list[Origin]:
    folder = path if path.is_dir() else path.parent
    places = [folder]
    if folder.name.startswith("checkpoint-"):
        places.append(folder.parent)  # the run's own card
    repository, revision = cached_name(path)
    name = repository or path.name or path.resolve().name
    found = [Origin(name, "weights", one, revision, repository) for one in _held(path, model_type)]
    known = licence_of_name(repository or str(path))
    if known is not None:
        found.append(Origin(name, "weights", known, revision, repository))
    for place in places:
        card = read_card(place / CARD)
        if card:
            found += _of_card(card, name, "weights", repository, revision)
            break
    found += _below_adapter(path, model_type)
    return list(dict.fromkeys(found)) or [Origin(name, "weights", None, revision, repository)]


def _of_card(
    card: Mapping[str, Any], name: str, kind: str, repository: str, version: str
) -> list[Origin]:
    """The parent itself, under its stated licence, and what it says that it was made from."""
    parents = made_from(card)
    stated = [Origin(name, kind, one, version, repository) for one in licences_of_card(card)]
    if parents and not stated:
        own = [Origin(name, kind, Licence("unrestricted"), version, repository)]
        return [*(own if repository else ()), *parents]
    return [*stated, *parents]


def _held(path: Path, model_type: str) -> list[Licence]:
    """What the content of a folder or file tells."""
    if path.is_file():
        return _held_by_file(path, model_type)
    if not (path / CONFIG_NAME).is_file():  # as others release weights
        files = (file for file in sorted(path.iterdir()) if file.suffix in _WEIGHTS)
        return [licence for file in files for licence in _held_by_file(file, model_type)]
    config = _json(path / CONFIG_NAME)
    kind = f"{config.get('model_type')} {config.get('architectures')}".lower()
    if "internvla" in kind or "streamvln" in kind:
        return [NON_COMMERCIAL]
    text = config.get("vlm_config") or config.get("system2_config") or config
    text = text.get("vlm_config") or text
    return _qwen_terms(text)


def _qwen_terms(config: Mapping[str, Any]) -> list[Licence]:
    """Sizes that nobody but Qwen has trained from the start, under terms of their own."""
    text = config.get("text_config") or config
    width, vocabulary = text.get("hidden_size"), text.get("vocab_size")
    if not isinstance(vocabulary, int) or vocabulary < 100_000:
        return []
    if width == 2048 and config.get("model_type") == "qwen2_5_vl":
        return [QWEN_RESEARCH]
    is_large = width == 8192 and config.get("model_type") in ("qwen2_vl", "qwen2_5_vl")
    return [QWEN] if is_large else []


def _held_by_file(path: Path, model_type: str) -> list[Licence]:
    if model_type.startswith("internnav_navdp"):
        return [NON_COMMERCIAL]  # the only layout that loads from a file is the release's
    try:
        names = read_tensors(path).keys()
    except ValueError:
        return []
    if any(name.startswith((_DD_PPO, _VLNCE)) for name in names):
        return [SCANS]
    return [Licence("apache-2.0")] if _LONG_CLIP in names else []


def _below_adapter(path: Path, model_type: str) -> list[Origin]:
    """Of what an adapter was trained on."""
    base = _json(path / _ADAPTER).get("base_model_name_or_path") if path.is_dir() else None
    if not base or Path(base).absolute() == path.absolute():
        return []
    return weights_origins(str(base), model_type)


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file() or path.stat().st_size > _LARGEST_CARD:
        return {}
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}


def _is_hub_name(name: str) -> bool:
    return name.count("/") == 1 and not name.startswith((".", "/", "~")) and ":" not in name


def _downloaded_card(name: str, revision: str | None) -> str | None:
    try:
        return hf_hub_download(name, CARD, revision=revision)
    except (OSError, ValueError, HTTPError):  # no such file or repository, offline, no network
        return None
