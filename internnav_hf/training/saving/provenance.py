"""Origins of a trained model for its card: weights and data with licences, and other facts."""

import json
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
import transformers
from torch.utils.data import ConcatDataset, Subset

from internnav_hf.data.episode import is_simulated
from internnav_hf.publishing.licences import (
    NON_COMMERCIAL,
    SCANS,
    UNRESTRICTED,
    Licence,
    licence_of_name,
    restriction_of_name,
    strictest,
)
from internnav_hf.publishing.origins import CARD, Origin, cached_name, licences_of_card, read_card

INTERN_DATA = "InternRobotics/InternData-N1"
SIMULATED = re.compile(r"simulated(_.*)?|dagger")
"""Names given by scripts/make_dataset.py."""
_SIMULATOR = "simulator of internnav_hf"
# Names of Matterport3D scans: eleven letters and digits; of HM3D scans: with a number before.
_SCAN = re.compile(r"(\d{5}-)?(?=.*[a-z])(?=.*[A-Z])(?=.*\d)[A-Za-z0-9]{11}(\.basis)?")
_CARDS_ABOVE = 3


@runtime_checkable
class HasScenes(Protocol):
    """What a model learns from, if it tells where that is."""

    def scenes(self) -> Mapping[str, Sequence[Path]]:
        """Files or folders of scenes by the name of their group."""
        ...


def data_origins(dataset: Any) -> list[Origin]:
    """Return one origin for each data set, group of scenes or scan that `dataset` reads."""
    if isinstance(dataset, ConcatDataset):
        found = [origin for part in dataset.datasets for origin in data_origins(part)]
        return list(dict.fromkeys(found))
    if isinstance(dataset, Subset):
        return data_origins(dataset.dataset)
    is_ours = isinstance(dataset, HasScenes)
    groups = dataset.scenes() if is_ours else {type(dataset).__name__: []}
    return [_origin(name, scenes) for name, scenes in sorted(groups.items())]


def cameras_of(dataset: Any) -> list[dict[str, Any]]:
    """Return all different cameras that recorded `dataset`, as far as it states them."""
    parts = dataset.datasets if isinstance(dataset, ConcatDataset) else [dataset]
    found = (camera for part in parts for camera in getattr(part, "cameras", ()))
    return [camera.to_dict() for camera in dict.fromkeys(found)]


def settings_of(args: Any) -> dict[str, Any]:
    """Return the training settings for the model card."""
    total = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
    length = {"epochs": args.num_train_epochs}
    if args.max_steps > 0:
        length = {"steps": args.max_steps}
    precision = "bfloat16" if args.bf16 else "float16" if args.fp16 else "float32"
    return length | {
        "samples a step": total,
        "learning rate": args.learning_rate,
        **{f"learning rate of {name}": rate for name, rate in args.rates_by_module.items()},
        "schedule": args.lr_scheduler_type.value,
        "warm-up": args.warmup_steps,
        "weight decay": args.weight_decay,
        "optimiser": args.optim.value,
        "precision": precision,
        "seed": args.seed,
        "processes": args.world_size,
        "versions": f"internnav_hf {version('internnav-hf')}, transformers "
        f"{transformers.__version__}, torch {torch.__version__}",
    }


def _origin(name: str, scenes: Sequence[Path]) -> Origin:
    if scenes and all(map(is_simulated, scenes)):
        return Origin(name, "data", UNRESTRICTED, _SIMULATOR)
    places = [_above(scene) for scene in {scene.parent: scene for scene in scenes}.values()]
    stated = [licence for place in places for licence in place.licences]
    paths = [str(scene.resolve()) for scene in scenes[:1]]
    known = [restriction_of_name(one) for one in (name, *paths)]
    if not any(stated + known) and _are_scans(scenes):
        known.append(SCANS)
    licence = strictest(one for one in (*stated, *known) if one)
    if licence is None and stated and all(place.licences for place in places):
        licence = stated[0]
    if licence is None and SIMULATED.fullmatch(name):
        return Origin(name, "data", UNRESTRICTED, _SIMULATOR)
    repository, revision = next(
        ((one.repository, one.revision) for one in places if one.repository), ("", "")
    )
    if not repository and NON_COMMERCIAL in known:
        repository = INTERN_DATA
    return Origin(name, "data", licence, revision or _version(scenes), repository)


class _Place(NamedTuple):
    """Location of scenes: its stated licences, and its repository on the Hub."""

    licences: list[Licence]
    repository: str
    revision: str


def _above(scene: Path) -> _Place:
    """Read licences and repository from the card of the data set that contains `scene`."""
    repository, revision = max(cached_name(scene), cached_name(scene.resolve()))
    stated: list[Licence] = []
    for folder in scene.absolute().parents[: _CARDS_ABOVE + 1]:
        card = read_card(folder / CARD)
        if card and "pipeline_tag" not in card:  # a model card describes the model's making
            text = Path(folder, CARD).read_text(encoding="utf-8", errors="replace")
            repository = repository or (INTERN_DATA if "InternData-N1" in text else "")
            stated = licences_of_card(card)
            break
    known = licence_of_name(repository) if repository else None
    return _Place([*stated, *([known] if known else [])], repository, revision)


def _are_scans(scenes: Sequence[Path]) -> bool:
    """Return whether most have names like scans of Matterport3D or HM3D."""
    named = [any(map(_SCAN.fullmatch, scene.parts[-2:])) for scene in scenes]
    return sum(named) * 2 > len(named)


def _version(scenes: Sequence[Path]) -> str:
    path = Path(scenes[0], "meta", "info.json") if scenes else None
    if path is None or not path.is_file():
        return ""
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return ""
    stated = info.get("codebase_version") if isinstance(info, dict) else None
    return f"LeRobot {stated}" if stated else ""
