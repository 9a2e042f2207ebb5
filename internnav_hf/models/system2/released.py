"""Key names of released System2 checkpoints."""

import re
from collections.abc import Mapping

from torch import Tensor

# Released names of a Qwen2.5-VL -> ours. The first match counts.
_SYSTEM2_KEYS = (
    (re.compile(r"^model\.(visual|language_model)\."), r"vlm.model.\1."),
    (re.compile(r"^visual\."), "vlm.model.visual."),
    (re.compile(r"^model\."), "vlm.model.language_model."),
    (re.compile(r"^lm_head\."), "vlm.lm_head."),
)
_EMBEDDING = "vlm.model.language_model.embed_tokens.weight"
_OUTPUT = "vlm.lm_head.weight"


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
