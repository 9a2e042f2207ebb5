"""Released planners: iPlanner's `plannernet.pt`, a pickled pair of the network and its loss;
ViPlanner's `model.pt`, the same of a state dict; state dicts by themselves, as mirrors have them.

They have no configuration: the kind of planner and its sizes are read from names and shapes.
ViPlanner's training settings may lie beside it, see `training_settings`.
"""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from internnav_hf.models.common.rgb_resnet import torchvision_resnet_keys
from internnav_hf.models.planners.config import PlannerConfig
from internnav_hf.weights.renaming import Names, below, renamed, under, without

_ENCODERS = ("encoder.", "encoder_depth.", "encoder_sem.")
_BATCH_NORM = "encoder.layer2.0.downsample.1.weight"
_DECODER = "decoder.conv1.weight"
_NAMES: Names = (
    (r"^decoder\.fg\.", "decoder.goal_projection."),
    (r"^decoder\.conv(\d)\.", lambda m: f"decoder.convolutions.{int(m[1]) - 1}."),
    (r"^decoder\.fc1\.", "decoder.trunk."),
    (r"^decoder\.fc(\d)\.", lambda m: f"decoder.keypoint_head.{int(m[1]) - 2}."),
    (r"^decoder\.frc(\d)\.", lambda m: f"decoder.fear_head.{int(m[1]) - 1}."),
)
_PREFIX = "module."  # of models that were saved while several GPUs trained them


def released_kind(names: Collection[str]) -> str | None:
    """The family that weights of these `names` belong to; None for none of the planners."""
    names = {name.removeprefix(_PREFIX) for name in names}
    if _DECODER not in names or "decoder.frc1.weight" not in names:
        return None
    if any(name.startswith("encoder_depth.") for name in names):
        return "ViPlanner"
    return "iPlanner" if _BATCH_NORM in names else "ViPlanner"


def is_released(family: str, stored: dict, names: Callable[[], Collection[str]]) -> bool:
    """Whether these are `names` of the weights of the planner `family`, released without a
    configuration.
    """
    return not stored and released_kind(names()) == family


def released_fields(
    config_class: type[PlannerConfig], state_dict: Mapping[str, Tensor], source: str | Path
) -> dict[str, Any]:
    """Fields of the configuration of a released `state_dict`, read from its shapes and names.

    Raises ValueError naming `source` if it is not the planner of `config_class`.
    """
    state_dict = _plain(state_dict)
    name = config_class.__name__.removesuffix("Config")
    kind = released_kind(state_dict)
    if kind != name:
        raise ValueError(f"{source}: found {kind or 'no planner'}, expected {name}.")
    convolutions = _widths(state_dict, "conv")
    linear, fear = _widths(state_dict, "fc"), _widths(state_dict, "frc")
    fields = {
        "num_keypoints": linear[-1] // 3,
        "num_goal_channels": state_dict["decoder.fg.weight"].shape[0],
        "decoder_conv_sizes": tuple(convolutions),
        "decoder_hidden_sizes": tuple(linear[:-1]),
        "fear_hidden_sizes": tuple(fear[:-1]),
    }
    if name == "ViPlanner":
        fields["use_semantics"] = any(key.startswith("encoder_sem.") for key in state_dict)
    return fields


def released_keys(state_dict: Mapping[str, Tensor], config: PlannerConfig) -> dict[str, Tensor]:
    """Rename a released planner."""
    state_dict = _plain(state_dict)
    converted = renamed(without(state_dict, _ENCODERS), _NAMES)
    for prefix in _ENCODERS:
        converted |= under(prefix, torchvision_resnet_keys(below(state_dict, prefix)))
    return converted


def _plain(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(_PREFIX): value for key, value in state_dict.items()}


def _widths(state_dict: Mapping[str, Tensor], kind: str) -> list[int]:
    """Numbers of outputs of the decoder's layers `kind`1, `kind`2, ..."""
    found = []
    while (key := f"decoder.{kind}{len(found) + 1}.weight") in state_dict:
        found.append(state_dict[key].shape[0])
    return found
