"""What a model was made from: weights and data, each with its licence, judged by their content.

The licence of a folder is taken from its card (README.md; our cards list all origins of the parent,
other cards its base models and data sets), from its configuration, and from its repository in the
Hub's cache; that of a file from the names of its weights. Neither a folder's own name nor the
licence of its base can remove a restriction.
"""

import json
import logging
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HTTPError  # pyright: ignore[reportPrivateImportUsage]
from transformers.utils import CONFIG_NAME

from internnav_hf.publishing.licences import (
    NON_COMMERCIAL,
    QWEN,
    QWEN_RESEARCH,
    SCANS,
    Licence,
    licence_of_name,
    normal,
    restriction_of_name,
)
from internnav_hf.weights.inert_pickle import read_tensors

logger = logging.getLogger(__name__)

CARD = "README.md"
LIBRARY = "internnav_hf"
_WEIGHTS = (".bin", ".ckpt", ".pt", ".pth", ".safetensors")
_ADAPTER = "adapter_config.json"
_NOTHING = ("", "random", "random weights", "None")
_CACHED = re.compile(r"(models|datasets)--([^/]+)/snapshots/([^/]+)")
HEADER = re.compile(r"\A\ufeff?---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(\r?\n|\Z)", re.S)
_LARGEST_CARD = 1_000_000
_MOST_PARENTS = 32
_NOT_STATED = ("", "null", "~", "none", "unknown")
# Names that only the weights of these releases have.
_OF_TRANSFORMERS = ("model", "pytorch_model", "adapter_model")
_DD_PPO, _VLNCE, _LONG_CLIP = "actor_critic.net.", "net.", "positional_embedding_res"


class Origin(NamedTuple):
    """One source of weights or data. `licence` is None if it is not known."""

    name: str
    kind: str  # "weights" or "data"
    licence: Licence | None
    version: str = ""
    repository: str = ""
    """name on the Hub"""


def weights_origins(source: str | Path | None, model_type: str = "") -> list[Origin]:
    """All origins of the weights at `source`: folder, file, or Hub name (`@revision`).

    `model_type` is that of the model that starts from them. None and "random" are no weights.
    """
    return _origins(source, model_type, set())


def read_card(path: str | Path | None) -> dict[str, Any]:
    """The fields in the head of a card; empty if there is none, or none that can be read."""
    if path is None or not Path(path).is_file() or Path(path).stat().st_size > _LARGEST_CARD:
        return {}
    return read_head(Path(path).read_text(encoding="utf-8", errors="replace"), path)


def read_head(text: str, path: str | Path) -> dict[str, Any]:
    """The fields in the head of `text`, the card at `path`; all values are strings."""
    found = HEADER.match(text)
    try:  # strings only: a malformed date or number, or a tag, would be an error
        fields = yaml.load(found[1], yaml.BaseLoader) if found else {}
    except (yaml.YAMLError, RecursionError) as error:
        logger.warning("%s: its head is not YAML (%s): its licence is unknown.", path, error)
        return {}
    return fields if isinstance(fields, dict) else {}


def licences_of_card(card: Mapping[str, Any]) -> list[Licence]:
    """The licences in the field `license`; an unknown word counts as a licence of its own."""
    ids = [one for one in map(normal, texts(card.get("license"))) if one not in _NOT_STATED]
    name, link = (next(iter(texts(card.get(f"license_{end}"))), "") for end in ("name", "link"))
    return [Licence(one, name, link) if one == "other" else Licence(one) for one in ids]


def texts(value: Any) -> list[str]:
    """The strings of a field that is a string or a list; other values are left out."""
    return [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, str)]


def made_from(card: Mapping[str, Any]) -> list[Origin]:
    """The origins listed in one of our cards."""
    entries = card.get("made_from")
    origins = []
    for entry in entries if isinstance(entries, list) else []:
        if not isinstance(entry, dict) or "name" not in entry:
            continue
        names = ("name", "kind", "version", "repository")
        values = {name: " ".join(texts(entry.get(name))[:1]) for name in names}
        stated = {f"license{end}": entry.get(f"licence{end}") for end in ("", "_name", "_link")}
        licence = next(iter(licences_of_card(stated)), None)
        origins.append(Origin(licence=licence, **(values | {"kind": values["kind"] or "weights"})))
    return origins


def fields_of(origins: Iterable[Origin]) -> list[dict[str, str]]:
    """`origins` as rows for the head of a card, which `made_from` reads again."""
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
    """Repository and revision if `path` lies in the Hub's cache, else empty strings."""
    found = _CACHED.search(path.absolute().as_posix())
    return (found[2].replace("--", "/"), found[3]) if found else ("", "")


def downloaded(name: str, file: str, revision: str | None = None) -> Path | None:
    """`file` of the Hub repository `name`; None if there is none, or if the Hub is unreachable."""
    if not _is_hub_name(name):
        return None
    try:
        return Path(hf_hub_download(name, file, revision=revision))
    except (OSError, ValueError, HTTPError):  # no such file or repository, offline, no network
        return None


def _origins(source: str | Path | None, model_type: str, seen: set[str]) -> list[Origin]:
    """See `weights_origins`; `seen` holds the sources that were already looked up."""
    given = "" if source is None else str(source)
    if not given or (given in _NOTHING and not os.path.isdir(given)):
        return []
    if given in seen or len(seen) > _MOST_PARENTS:
        return []
    seen.add(given)
    path = Path(os.path.expanduser(given))
    if os.path.exists(path):
        return _of_path(path, model_type, seen)
    name, _, revision = given.partition("@")
    if not _is_hub_name(name):
        return [Origin(path.name, "weights", restriction_of_name(name), revision)]
    known = licence_of_name(name)
    names = () if known else (CARD, CONFIG_NAME, _ADAPTER)
    found = [downloaded(name, file, revision or None) for file in names]
    folder = next((file.parent for file in found if file is not None), None)
    if folder is not None:
        return _of_path(folder, model_type, seen)
    return [Origin(name, "weights", known, revision, name)]


def _of_path(path: Path, model_type: str, seen: set[str]) -> list[Origin]:
    folder = path if path.is_dir() else path.parent
    places = [folder]
    if folder.name.startswith("checkpoint-"):
        places.append(folder.parent)  # the run's own card
    real = path.resolve()
    repository, revision = max(cached_name(path), cached_name(real))
    name = repository or path.name or real.name
    found = [Origin(name, "weights", one, revision, repository) for one in _held(path, model_type)]
    known = licence_of_name(repository) if repository else None
    known = known or restriction_of_name(str(path)) or restriction_of_name(str(real))
    if known is not None:
        found.append(Origin(name, "weights", known, revision, repository))
    for place in places:
        card = read_card(place / CARD)
        if card:
            found += _of_card(card, Origin(name, "weights", None, revision, repository), seen)
            break
    found += _below_adapter(path, model_type, seen)
    return list(dict.fromkeys(found)) or [Origin(name, "weights", None, revision, repository)]


def _of_card(card: Mapping[str, Any], own: Origin, seen: set[str]) -> list[Origin]:
    """The parent itself, `own` with its stated licence, and the origins that its card lists."""
    parents = made_from(card)
    stated = [own._replace(licence=one) for one in licences_of_card(card)]
    if parents and not stated and own.repository:
        stated = [own._replace(licence=Licence("unrestricted"))]
    return [*stated, *parents, *_restricting(card, {one.repository for one in parents}, seen)]


def _restricting(card: Mapping[str, Any], listed: set[str], seen: set[str]) -> list[Origin]:
    """The restricting ones of a card's base models and data sets, without those `listed`."""
    names = [one for one in texts(card.get("base_model")) if one not in listed]
    bases = filter(_is_hub_name, names)
    found = [origin for one in bases for origin in _origins(one, "", seen)]
    data = [one for one in texts(card.get("datasets")) if one not in listed]
    found += [Origin(one, "data", restriction_of_name(one), "", one) for one in data]
    return [one for one in found if one.licence is not None and one.licence.restricts]


def _held(path: Path, model_type: str) -> list[Licence]:
    """The licences that follow from the content of a folder or file."""
    if path.is_file():
        return _held_by_file(path, model_type)
    files = [file for file in sorted(path.iterdir()) if file.suffix in _WEIGHTS]
    config = _json(path / CONFIG_NAME)
    if not any(file.name.startswith(_OF_TRANSFORMERS) for file in files) or not config:
        # third-party releases
        found = [licence for file in files for licence in _held_by_file(file, model_type)]
        if found or not config:
            return found
    kind = f"{config.get('model_type')} {config.get('architectures')}".lower()
    if "internvla" in kind or "streamvln" in kind:
        return [NON_COMMERCIAL]
    system2 = _part(config, "system2_config")
    return _qwen_terms(_part(system2, "vlm_config"))


def _qwen_terms(config: Mapping[str, Any]) -> list[Licence]:
    """Qwen's licence for model sizes that only Qwen has trained from scratch."""
    text = _part(config, "text_config")
    width, vocabulary = text.get("hidden_size"), text.get("vocab_size")
    if not isinstance(vocabulary, int) or vocabulary < 100_000:
        return []
    if width == 2048 and config.get("model_type") == "qwen2_5_vl":
        return [QWEN_RESEARCH]
    is_large = width == 8192 and config.get("model_type") in ("qwen2_vl", "qwen2_5_vl")
    return [QWEN] if is_large else []


def _part(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = config.get(name)
    return part if part and isinstance(part, dict) else config


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


def _below_adapter(path: Path, model_type: str, seen: set[str]) -> list[Origin]:
    """The origins of the model that an adapter was trained on."""
    base = _json(path / _ADAPTER).get("base_model_name_or_path") if path.is_dir() else None
    if not isinstance(base, str) or Path(base).absolute() == path.absolute():
        return []
    return _origins(base, model_type, seen)


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
