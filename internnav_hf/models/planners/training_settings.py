"""ViPlanner's `model.yaml`: the settings of its training, whose tags name Python classes.

Nothing is imported or called: what a tag stands before is read as the mapping, list or text that it
is.
"""

import logging
from pathlib import Path
from typing import Any

import yaml

from internnav_hf.weights.weight_files import check_file

logger = logging.getLogger(__name__)

SETTINGS = "model.yaml"
_WHAT = "ViPlanner's training settings"
_LARGEST = 1 << 20  # bytes; the published one has some thousand
# Fields of our configuration -> names that they may have in the settings. What they stand for and
# their values are published with the model; how they are spelt in its file was not seen.
_NAMES = {
    "fear_distance_m": ("fear_ahead_dist",),
    "obstacle_loss_weight": ("w_obs",),
    "height_loss_weight": ("w_height",),
    "motion_loss_weight": ("w_motion",),
    "goal_loss_weight": ("w_goal",),
    "fear_threshold": (
        "obstacle_thread",
        "obstacle_thred",
        "obstalce_thread",
        "obstacle_threshold",
    ),
    "image_height": ("rows",),
    "image_width": ("columns",),
    "max_depth_m": ("max_depth",),
}
_NEGATIVE_REWARD = 0.5


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
    size = settings.get("img_input_size")
    if isinstance(size, list | tuple) and len(size) == 2:
        settings |= {"rows": size[0], "columns": size[1]}
    elif size is not None:
        raise ValueError(f"{file}: img_input_size: found {size!r}, expected rows and columns.")
    fields = {}
    for ours, names in _NAMES.items():
        value = next((settings[name] for name in names if name in settings), None)
        if isinstance(value, bool) or not isinstance(value, int | float | None):
            raise ValueError(f"{file}: {ours}: found {value!r}, expected a number.")
        if value is not None:
            fields[ours] = value + (_NEGATIVE_REWARD if ours == "fear_threshold" else 0)
    absent = [names[0] for ours, names in _NAMES.items() if ours not in fields]
    if absent:
        logger.warning("%s: found no %s: the published values hold.", file, ", ".join(absent))
    return fields
