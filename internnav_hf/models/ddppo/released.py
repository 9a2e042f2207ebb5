"""Released agents of DD-PPO: the files of 2019 (`gibson-2plus-resnet50.pth` and the like), and
those that VLFM ships, `pointnav_weights.pth` and `spot_pointnav_weights.pth`.

Their settings are not read: what the agent is follows from names and shapes, which show all but the
size of the views and the range of depth. Those are the published ones of the file's kind; another
agent's are arguments of `from_pretrained`.
"""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers.utils import CONFIG_NAME

from internnav_hf.models.common.depth_resnet import num_blocks_of
from internnav_hf.weights.inert_pickle import read_tensors
from internnav_hf.weights.renaming import Names, below, count_layers, renamed, sizes, without
from internnav_hf.weights.weight_files import released_file

_OF_2019 = "actor_critic."
_ENCODER = "net.visual_encoder."
_MARK = "net.tgt_embeding.weight"
_STEM = f"{_ENCODER}backbone.conv1.0.weight"
_LAST = f"{_ENCODER}backbone.layer1.0.convs.6.weight"
_FIRST = f"{_ENCODER}backbone.layer1.0.convs.0.weight"
_MEAN = "action_distribution.mu_maybe_std.weight"
_NAMES: Names = (
    (r"^net\.visual_encoder\.running_mean_and_var\._mean$", "visual_encoder.statistics.mean"),
    (r"^net\.visual_encoder\.running_mean_and_var\._var$", "visual_encoder.statistics.variance"),
    (r"^net\.visual_encoder\.running_mean_and_var\._count$", "visual_encoder.statistics.count"),
    (r"^net\.visual_encoder\.", "visual_encoder."),
    (r"^net\.visual_fc\.1\.", "visual_projection."),
    (r"^net\.tgt_embeding\.", "goal_projection."),
    (r"^net\.prev_action_embedding(_cont|_discrete)?\.", "previous_action_embedding."),
    (r"^net\.state_encoder\.", "state_encoder."),
    (r"^action_distribution\.(linear|mu_maybe_std)\.", "action_head."),
    (r"^critic\.fc\.", "value_head."),
)
_SIZES = {
    "net.tgt_embeding.weight": ("embedding_size", 0),
    "net.state_encoder.rnn.weight_hh_l0": ("hidden_size", 1),
    "action_distribution.linear.weight": ("num_actions", 0),
    _STEM: ("base_planes", 0),
}
# Channels of the first layer. Which come first was never tried on a file with both.
_VIEWS = {1: ("depth",), 3: ("rgb",), 4: ("rgb", "depth")}
# Rows, columns, nearest and farthest depth in metres.
_AGENT_OF_2019 = (256, 256, 0.0, 10.0)
_AGENT_OF_VLFM = (224, 224, 0.5, 5.0)
_AGENT_ON_SPOT = (212, 240, 0.5, 5.0)


def find_released(path: str | Path) -> Path | None:
    """The weights at `path`, a file, or a folder that has them and no configuration; else None."""
    return None if (Path(path) / CONFIG_NAME).exists() else released_file(path)


def is_released(family: str, stored: dict, names: Callable[[], Collection[str]]) -> bool:
    """Whether these are `names` of the weights of a released agent, without a configuration."""
    return not stored and any(name.removeprefix(_OF_2019) == _MARK for name in names())


def released_fields(state_dict: Mapping[str, Tensor], source: str | Path) -> dict[str, Any]:
    """Fields of the configuration of a released `state_dict`.

    Raises ValueError naming `source` if it is no agent of DD-PPO.
    """
    weights = _plain(state_dict)
    if _MARK not in weights:
        raise ValueError(f"{source}: found no {_MARK}, expected an agent of DD-PPO.")
    fields = sizes(weights, _SIZES)
    layers = count_layers(weights, r"net\.state_encoder\.rnn\.weight_ih_l(\d+)$")
    fields |= {"num_recurrent_layers": layers, "has_value_head": "critic.fc.weight" in weights}
    if _MEAN in weights:
        fields |= {"action_space": "continuous", "num_actions": len(weights[_MEAN]) // 2}
    fields |= _encoder_fields(weights, source)
    agent = _AGENT_ON_SPOT if _MEAN in weights else _AGENT_OF_VLFM
    if any(name.startswith(_OF_2019) for name in state_dict):
        agent = _AGENT_OF_2019
    names = ("image_height", "image_width", "min_depth_m", "max_depth_m")
    return fields | dict(zip(names, agent, strict=True))


def released_keys(
    state_dict: Mapping[str, Tensor], unused: tuple[str, ...] = ()
) -> dict[str, Tensor]:
    """Rename a released agent, without names that start with one of `unused`."""
    return renamed(without(_plain(state_dict), tuple(unused)), _NAMES)


def visual_encoder_weights(path: str | Path) -> dict[str, Tensor]:
    """The visual encoder of the released agent in the file `path`, its keys below `backbone.` and
    `compression.`, for another model's depth encoder.

    Raises ValueError if it has none.
    """
    taken = below(_plain(read_tensors(path)), _ENCODER)
    if not taken:
        keys = f"{_OF_2019}{_ENCODER}*"
        raise ValueError(f"{path}: found no key {keys}, expected a policy of DD-PPO.")
    return taken


def _encoder_fields(weights: Mapping[str, Tensor], source: str | Path) -> dict[str, Any]:
    stem = weights.get(_STEM)
    if stem is None:
        return {"views": ()}
    views = _VIEWS.get(stem.shape[1])
    if views is None:
        raise ValueError(f"{source}: {_STEM}: found {stem.shape[1]} channels, expected 1, 3 or 4.")
    first = weights.get(_FIRST)
    is_wide = first is not None and len(first) == 2 * len(stem)
    block = "resnext" if is_wide else "bottleneck"
    return {
        "views": views,
        "num_blocks": num_blocks_of(weights, _ENCODER),
        "block_type": block if _LAST in weights else "basic",
        "squeeze_excite": any(".se.excite." in name for name in weights),
    }


def _plain(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(_OF_2019): value for key, value in state_dict.items()}
