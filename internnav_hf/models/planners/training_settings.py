"""ViPlanner's `model.yaml`: the settings of its training, whose tags name Python classes.

Nothing is imported or called: what a tag stands before is read as the mapping, list or text that it
is.
"""

import logging
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from internnav_hf.weights.weight_files import check_file

logger = logging.getLogger(__name__)

SETTINGS = "model.yaml"
_WHAT = "ViPlanner's training settings"
_LARGEST = 1 << 20  # bytes; the published one has some thousand
# fields of our configuration -> their published names; other published settings say how it was
# trained, not what it is
_NAMES = {
    "fear_distance_m": "fear_ahead_dist",
    "obstacle_loss_weight": "w_obs",
    "height_loss_weight": "w_height",
    "motion_loss_weight": "w_motion",
    "goal_loss_weight": "w_goal",
    "max_depth_m": "max_depth",
}
_SIZE = "img_input_size"
_ALIKE = 0.75  # of a name that can only be meant for another


class PlainLoader(yaml.SafeLoader):
    """Reads tagged nodes as if they had no tag."""


def _plain(loader: PlainLoader, suffix: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return loader.construct_scalar(node)


PlainLoader.add_multi_constructor("", _plain)


def read_settings(file: str | Path) -> dict[str, Any]:
    """The content of `model.yaml`: "config" and "loss". ValueError if it is none."""
    file = check_file(file, _WHAT)
    size = file.stat().st_size
    if size > _LARGEST:
        raise ValueError(f"{file}: found {size} bytes, expected {_WHAT}, at most {_LARGEST}.")
    try:
        content = yaml.load(file.read_text(encoding="utf-8"), PlainLoader)
    except (yaml.YAMLError, ValueError, RecursionError, TypeError) as error:
        told = " ".join(str(error).split())[:200]
        raise ValueError(f"{file}: found {told}, expected YAML, {_WHAT}.") from error
    if not isinstance(content, dict) or not isinstance(content.get("config"), dict):
        raise ValueError(f"{file}: config: found none, expected a mapping, {_WHAT}.")
    return content


def fields_of(file: str | Path) -> dict[str, Any]:
    """Fields of `ViPlannerConfig` that the settings in `file` name.

    Raises ValueError for a model that saw colours instead of semantics, which is not built here.
    """
    settings = read_settings(file)["config"]
    if settings.get("rgb"):
        raise ValueError(f"{file}: rgb: found True, expected a model of depth and semantics.")
    data = settings.get("data_cfg")
    data = data[0] if isinstance(data, list) and data else data
    settings = (data if isinstance(data, dict) else {}) | settings
    absent = [name for name in (*_NAMES.values(), _SIZE) if name not in settings]
    for name in absent:
        if alike := get_close_matches(name, map(str, settings), cutoff=_ALIKE):
            raise ValueError(f"{file}: found {alike[0]}, expected {name}.")
    if absent:
        logger.warning("%s: found no %s: the published values hold.", file, ", ".join(absent))
    return _size_of(settings, file) | {
        ours: _number(settings, name, file) for ours, name in _NAMES.items() if name in settings
    }


def _size_of(settings: dict[str, Any], file: str | Path) -> dict[str, int]:
    size = settings.get(_SIZE)
    if size is None:
        return {}
    is_pair = isinstance(size, list) and len(size) == 2 and all(type(n) is int for n in size)
    if not is_pair:
        raise ValueError(f"{file}: {_SIZE}: found {size!r}, expected rows and columns.")
    return {"image_height": size[0], "image_width": size[1]}


def _number(settings: dict[str, Any], name: str, file: str | Path) -> float:
    value = settings[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{file}: {name}: found {value!r}, expected a number.")
    return value
