"""ViPlanner's `model.yaml`: the settings of its training, whose tags name Python classes.

Nothing is imported or called: what a tag stands before is read as the mapping, list or text that it
is.
"""

from pathlib import Path
from typing import Any

import yaml

from internnav_hf.weights.weight_files import check_file

SETTINGS = "model.yaml"
_WHAT = "ViPlanner's training settings"
_LARGEST = 1 << 20  # bytes; the published one has some thousand
# Settings -> fields of our configuration.
_FIELDS = {
    "fear_ahead_dist": "fear_distance_m",
    "w_obs": "obstacle_loss_weight",
    "w_height": "height_loss_weight",
    "w_motion": "motion_loss_weight",
    "w_goal": "goal_loss_weight",
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
    fields = {ours: settings[name] for name, ours in _FIELDS.items() if name in settings}
    if "obstacle_thred" in settings:
        fields["fear_threshold"] = settings["obstacle_thred"] + _NEGATIVE_REWARD
    if "img_input_size" in settings:
        fields["image_height"], fields["image_width"] = settings["img_input_size"]
    data = settings.get("data_cfg")
    data = data[0] if isinstance(data, list) and data else data
    if isinstance(data, dict) and "max_depth" in data:
        fields["max_depth_m"] = data["max_depth"]
    for name, value in fields.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{file}: {name}: found {value!r}, expected a number.")
    return fields
