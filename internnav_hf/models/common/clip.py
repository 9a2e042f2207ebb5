"""CLIP's towers as RDP uses them: all text tokens, and five tokens per image.

They are transformers' `CLIPTextModel` and `CLIPVisionModel`. Published models use Long-CLIP-B
(arXiv 2403.15378), a CLIP ViT-B/16 whose text tower reads 248 tokens: the first 20 positions are
CLIP's, the rest come from a second table; here both are one table. Differs from the published code:
float32 throughout; the published code runs the towers in half precision on GPUs.

Legend: N images, S image size, B instructions, L tokens, C width.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPModel, CLIPTextConfig, CLIPVisionConfig
from transformers.models.clip.modeling_clip import CLIPTextModel, CLIPVisionModel

from internnav_hf.models.common.clip_config import GRID, NUM_IMAGE_TOKENS
from internnav_hf.models.common.dino import to_unit
from internnav_hf.weights.inert_pickle import read_tensors
from internnav_hf.weights.loading import fill, load_published
from internnav_hf.weights.renaming import Names, below, in_three, renamed, without
from internnav_hf.weights.weight_files import is_weight_file

NUM_KEPT_POSITIONS = 20  # rows of CLIP's own position table that Long-CLIP keeps
_TEXT_NAMES = (
    (r"^token_embedding\.", "embeddings.token_embedding."),
    (r"^positional_embedding$", "embeddings.position_embedding.weight"),
    (r"^ln_final\.", "final_layer_norm."),
)
_VISION_NAMES = (
    (r"^class_embedding$", "embeddings.class_embedding"),
    (r"^positional_embedding$", "embeddings.position_embedding.weight"),
    (r"^conv1\.", "embeddings.patch_embedding."),
    (r"^ln_pre\.", "pre_layrnorm."),
)
_IN_BLOCKS = (
    (r"^transformer\.resblocks\.", "encoder.layers."),
    (r"\.ln_1\.", ".layer_norm1."),
    (r"\.ln_2\.", ".layer_norm2."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
    (r"\.attn\.out_proj\.", ".self_attn.out_proj."),
)
# Projections to the space that text and images share; no policy uses them.
_UNREAD = ("text_projection", "logit_scale", "proj", "ln_post.weight", "ln_post.bias")


class ClipTextEncoder(CLIPTextModel):
    """All tokens after the last LayerNorm, not projected."""

    def forward(self, instruction_ids: Tensor) -> Tensor:
        """Tokens (B, L, C) for ids (B, L), right-padded with 0: zeros at padding; columns that are
        padding in all rows are cut off.
        """
        mask = instruction_ids != 0
        length = max(int(mask.any(0).sum()), 1)
        output: Any = super().forward(input_ids=instruction_ids[:, :length])
        return output.last_hidden_state.masked_fill(~mask[:, :length, None], 0)


class ClipImageEncoder(CLIPVisionModel):
    """The class token, and the patches averaged to a grid of 2x2, row by row; before the last
    LayerNorm, which is dropped.
    """

    def __init__(self, config: CLIPVisionConfig):
        super().__init__(config)
        self.post_layernorm = nn.Identity()
        self.feature_shape = (NUM_IMAGE_TOKENS, config.hidden_size)

    def forward(self, images: Tensor) -> Tensor:
        """Tokens (N, 5, C) for normalised `images` (N, 3, S, S); N may be 0."""
        if not len(images):
            return torch.empty(0, *self.feature_shape, device=images.device, dtype=self.dtype)
        output: Any = super().forward(pixel_values=images.to(self.dtype))
        tokens = output.last_hidden_state
        patches = tokens[:, 1:]
        grid = rearrange(patches, "n (h w) c -> n c h w", h=round(patches.shape[1] ** 0.5))
        pooled = F.adaptive_avg_pool2d(grid, GRID)
        return torch.cat([tokens[:, :1], rearrange(pooled, "n c h w -> n (h w) c")], dim=1)


def normalise_images(
    rgb: Tensor, mean: tuple[float, ...] | None, std: tuple[float, ...] | None
) -> Tensor:
    """`rgb` (..., 3, S, S), bytes or floats in [0, 1], as floats minus `mean`, divided by `std`."""
    images = to_unit(rgb)
    if mean is None or std is None:
        return images
    shift, scale = (images.new_tensor(values)[:, None, None] for values in (mean, std))
    return (images - shift) / scale


def long_clip_text_keys(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the text tower of an original CLIP or Long-CLIP for a `ClipTextEncoder`. Names unknown
    to CLIP are kept, so that strict loading reports them.
    """
    tower = without(state_dict, ("visual.",))
    late = tower.pop("positional_embedding_res", None)
    if late is not None and "positional_embedding" in tower:
        early = tower["positional_embedding"]
        rows = [early[:NUM_KEPT_POSITIONS], late[NUM_KEPT_POSITIONS:]]
        tower["positional_embedding"] = torch.cat(rows)
    return _renamed(tower, _TEXT_NAMES)


def clip_vision_keys(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the vision tower of an original CLIP for a `ClipImageEncoder`. Names unknown to CLIP
    are kept, so that strict loading reports them.
    """
    return _renamed(below(state_dict, "visual."), _VISION_NAMES)


def load_clip(
    text: ClipTextEncoder | None, vision: ClipImageEncoder | None, source: str | Path
) -> None:
    """Start either tower, or both, from pretrained weights.

    `source` is Long-CLIP's file (`longclip-B.pt`), or the folder or Hub name of a CLIP in
    transformers' form. Raises ValueError if anything does not fit, such as a CLIP of 77 positions
    for a text tower of 248.
    """
    if is_weight_file(source):
        weights = read_tensors(source)
        if "token_embedding.weight" not in weights:
            raise ValueError(f"{source}: found no token_embedding.weight, expected a CLIP.")
        text_keys, vision_keys = long_clip_text_keys(weights), clip_vision_keys(weights)
    else:
        text_keys, vision_keys = _transformers_weights(str(source))
    if text is not None:
        _check_positions(text.config, text_keys, source)
        fill(text, text_keys, source)
    if vision is not None:
        fill(vision, vision_keys, source)


def _renamed(tower: Mapping[str, Tensor], names: Names) -> dict[str, Tensor]:
    read = {key: value for key, value in tower.items() if key not in _UNREAD}
    named = renamed(read, (*names, *_IN_BLOCKS))
    return in_three(named, ".attn.in_proj_", ".self_attn.{}_proj.")


def _transformers_weights(source: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    model = load_published({"clip": CLIPModel}, source)
    vision = without(model.vision_model.state_dict(), ("post_layernorm.",))
    return model.text_model.state_dict(), vision


def _check_positions(config: CLIPTextConfig, keys: Mapping[str, Tensor], source) -> None:
    table = keys.get("embeddings.position_embedding.weight")
    found, expected = 0 if table is None else len(table), config.max_position_embeddings
    if table is not None and found != expected:
        raise ValueError(
            f"{source}: its text tower reads {found} tokens, expected {expected}. Take Long-CLIP's "
            f"weights, or set text_config.max_position_embeddings to {found}."
        )
