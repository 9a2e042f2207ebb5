"""Key names of released checkpoints, as transformers 4.51 wrote them, and ours."""

import importlib
import re
from collections.abc import Mapping

from torch import Tensor, nn
from transformers import PreTrainedConfig

from .dual_system_config import DualSystemConfig
from .loading import check_loading

# Released names of a Qwen2.5-VL -> ours. The first match counts.
_SYSTEM2_KEYS = (
    (re.compile(r"^model\.(visual|language_model)\."), r"vlm.model.\1."),
    (re.compile(r"^visual\."), "vlm.model.visual."),
    (re.compile(r"^model\."), "vlm.model.language_model."),
    (re.compile(r"^lm_head\."), "vlm.lm_head."),
)
_EMBEDDING = "vlm.model.language_model.embed_tokens.weight"
_OUTPUT = "vlm.lm_head.weight"

_QUERIES = "model.latent_queries"
# System1's keys stand among the language model's; a match is what to take off.
_EXPERT_PREFIX = re.compile(
    r"^model\.(navdp\.|(?=(traj_dit|action_encoder|action_decoder|cond_projector|rgb_model"
    r"|memory_encoder|rgb_resampler)\.))"
)
_EXPERT_MODULES = {
    "internnav_nextdit": ".nextdit",
    "internnav_navdp_action_expert": ".navdp_action_expert",
    "internnav_navdp": ".navdp_released",
}


def system2_keys(state_dict: Mapping[str, Tensor], tied: bool) -> dict[str, Tensor]:
    """A released System2 under `System2Model`'s names; `tied` embeddings may be stored once."""
    converted = {_system2_key(key): value for key, value in state_dict.items()}
    if tied and _EMBEDDING in converted:
        converted.setdefault(_OUTPUT, converted[_EMBEDDING])
    return converted


def _system2_key(key: str) -> str:
    for pattern, replacement in _SYSTEM2_KEYS:
        if pattern.match(key):
            return pattern.sub(replacement, key)
    return key


def action_expert_keys(
    state_dict: Mapping[str, Tensor], config: PreTrainedConfig
) -> dict[str, Tensor]:
    """A released expert, without the prefix it has in a whole model, or NavDP, under ours."""
    name = _EXPERT_MODULES.get(config.model_type)
    if name is None:
        raise ValueError(f"No checkpoint of a {config.model_type} was released by others.")
    module = importlib.import_module(name, __package__)
    return module.released_keys(dict(state_dict), config)


def dual_system_keys(
    state_dict: Mapping[str, Tensor], config: DualSystemConfig
) -> dict[str, Tensor]:
    """A released InternVLA-N1 with System1 under `DualSystemModel`'s names."""
    expert = {key for key in state_dict if _EXPERT_PREFIX.match(key)}
    rest = state_dict.keys() - expert - {_QUERIES}
    tied = config.system2_config.tie_word_embeddings
    system2 = system2_keys({key: state_dict[key] for key in rest}, tied)
    experts = {_EXPERT_PREFIX.sub("", key): state_dict[key] for key in expert}
    experts = action_expert_keys(experts, config.action_expert_config)
    converted = {f"system2.{key}": value for key, value in system2.items()}
    converted |= {f"action_expert.{key}": value for key, value in experts.items()}
    if _QUERIES in state_dict:
        converted["latent_queries.weight"] = state_dict[_QUERIES].flatten(0, 1)
    return converted


def check_fit(source, converted: Mapping[str, Tensor], model: nn.Module) -> None:
    """Raise ValueError naming keys that `model` misses, does not know, or has in another shape."""
    expected = model.state_dict()
    shared = converted.keys() & expected.keys()
    report = {
        "missing_keys": expected.keys() - converted.keys(),
        "unexpected_keys": converted.keys() - expected.keys(),
        "mismatched_keys": [(k,) for k in shared if converted[k].shape != expected[k].shape],
    }
    check_loading(source, report)
