"""Configurations of the CLIP towers of RDP and of CMA over CLIP: Long-CLIP-B's sizes.

Apart from `clip.py` so that configurations import no modelling code.
"""

import copy
from typing import Any

from transformers import CLIPTextConfig, CLIPVisionConfig, PreTrainedConfig

# The ids serve only CLIP's pooled output, which no policy uses, but must lie in the vocabulary.
_UNREAD_IDS = {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}
LONG_CLIP_TEXT = {"max_position_embeddings": 248} | _UNREAD_IDS
LONG_CLIP_VISION = {"patch_size": 16}
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
GRID = 2  # side of the grid of averaged patches, which follow the class token
NUM_IMAGE_TOKENS = 1 + GRID**2


def read_clip_text_config(given: dict | PreTrainedConfig | None) -> PreTrainedConfig:
    """Configuration of a text tower; fields missing from a dict are Long-CLIP's."""
    return _read(CLIPTextConfig, LONG_CLIP_TEXT, given)


def read_clip_vision_config(given: dict | PreTrainedConfig | None) -> PreTrainedConfig:
    """Configuration of a vision tower; fields missing from a dict are Long-CLIP's."""
    return _read(CLIPVisionConfig, LONG_CLIP_VISION, given)


def check_clip(config: PreTrainedConfig) -> None:
    """Raise ValueError if the vision tower's image size differs from the model's, or its patches do
    not divide into a grid of `GRID` by `GRID`.
    """
    vision: Any = getattr(config, "vision_config")  # noqa: B009
    name, size = type(config).__name__, getattr(config, "image_size")  # noqa: B009
    if vision.image_size != size:
        raise ValueError(
            f"{name}: vision_config.image_size: found {vision.image_size}, expected "
            f"image_size={size}."
        )
    if size % (GRID * vision.patch_size):
        raise ValueError(
            f"{name}: image_size: found {size}, expected a multiple of {GRID} patches of "
            f"{vision.patch_size} pixels."
        )


def _read(
    config_class: type[PreTrainedConfig], defaults: dict, given: dict | PreTrainedConfig | None
) -> PreTrainedConfig:
    if isinstance(given, PreTrainedConfig):
        # A copy: the base class writes its attention implementation into sub-configurations.
        return copy.deepcopy(given)
    return config_class(**(defaults | (given or {})))
