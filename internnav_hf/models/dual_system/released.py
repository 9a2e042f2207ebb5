"""Key names of released checkpoints, as transformers 4.51 wrote them, and ours."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor
from transformers import MODEL_MAPPING

from internnav_hf.models.dual_system.config import DualSystemConfig
from internnav_hf.models.system2.released import system2_keys
from internnav_hf.weights.renaming import under

_QUERIES = "model.latent_queries"
# System1's keys are stored under the language model's; the match is removed from a key.
_EXPERT_PREFIX = re.compile(
    r"^model\.(navdp\.|(?=(traj_dit|action_encoder|action_decoder|cond_projector|rgb_model"
    r"|memory_encoder|rgb_resampler)\.))"
)


def dual_system_keys(
    state_dict: Mapping[str, Tensor], config: DualSystemConfig
) -> dict[str, Tensor]:
    """Rename a released InternVLA-N1 with System1 for `DualSystemModel`."""
    expert = {key for key in state_dict if _EXPERT_PREFIX.match(key)}
    rest = state_dict.keys() - expert - {_QUERIES}
    system2 = system2_keys({key: state_dict[key] for key in rest}, config.system2_config)
    experts = {_EXPERT_PREFIX.sub("", key): state_dict[key] for key in expert}
    expert_class: Any = MODEL_MAPPING[type(config.action_expert_config)]
    experts = expert_class.released_keys(experts, config.action_expert_config)
    converted = under("system2.", system2) | under("action_expert.", experts)
    if _QUERIES in state_dict:
        converted["latent_queries.weight"] = state_dict[_QUERIES].flatten(0, 1)
    return converted
