"""Key names of released System2 checkpoints."""

from collections.abc import Mapping

from torch import Tensor

from internnav_hf.models.system2.config import System2Config
from internnav_hf.weights.renaming import renamed

# Released names of a Qwen2.5-VL -> ours.
_NAMES = (
    (r"^model\.(visual|language_model)\.", r"vlm.model.\1."),
    (r"^visual\.", "vlm.model.visual."),
    (r"^model\.", "vlm.model.language_model."),
    (r"^lm_head\.", "vlm.lm_head."),
)
_EMBEDDING = "vlm.model.language_model.embed_tokens.weight"
_OUTPUT = "vlm.lm_head.weight"


def system2_keys(state_dict: Mapping[str, Tensor], config: System2Config) -> dict[str, Tensor]:
    """Rename a released System2 for `System2Model`; tied embeddings may be stored once."""
    converted = renamed(state_dict, _NAMES)
    if config.tie_word_embeddings and _EMBEDDING in converted:
        converted.setdefault(_OUTPUT, converted[_EMBEDDING])
    return converted
