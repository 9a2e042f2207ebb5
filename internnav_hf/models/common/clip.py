"""CLIP's towers as RDP reads them: all text tokens, and five tokens of an image.

They are transformers' `CLIPTextModel` and `CLIPVisionModel`. Published models use Long-CLIP-B
(arXiv 2403.15378), a CLIP ViT-B/16 whose text tower reads 248 tokens: the first 20 positions are
CLIP's, the rest come from a second table, and here both are one. Differs from there: float32
throughout, where the published code runs the towers in half precision on GPUs.

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
from internnav_hf.weights.checkpoints import load_published, published_type
from internnav_hf.weights.inert_pickle import read_tensors
from internnav_hf.weights.loading import check_fit, check_loading

_FILES = (".pt", ".pth", ".bin", ".ckpt", ".safetensors")
NUM_KEPT_POSITIONS = 20  # of CLIP's own table in Long-CLIP
_IN_BLOCKS = (
    (".ln_1.", ".layer_norm1."),
    (".ln_2.", ".layer_norm2."),
    (".mlp.c_fc.", ".mlp.fc1."),
    (".mlp.c_proj.", ".mlp.fc2."),
    (".attn.out_proj.", ".self_attn.out_proj."),
)
_TEXT_NAMES = {
    "token_embedding.weight": "embeddings.token_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_final.weight": "final_layer_norm.weight",
    "ln_final.bias": "final_layer_norm.bias",
}
_VISION_NAMES = {
    "class_embedding": "embeddings.class_embedding",
    "positional_embedding": "embeddings.position_embedding.weight",
    "conv1.weight": "embeddings.patch_embedding.weight",
    "ln_pre.weight": "pre_layrnorm.weight",
    "ln_pre.bias": "pre_layrnorm.bias",
}
# Of the projections to the space that text and images share, which no policy reads.
_UNREAD = ("text_projection", "logit_scale", "proj", "ln_post.weight", "ln_post.bias")


class ClipTextEncoder(CLIPTextModel):
    """All tokens after the last LayerNorm, not projected."""

    def forward(self, instruction_ids: Tensor) -> Tensor:
        """(B, L, C) of ids (B, L), right-padded with 0: zeros at padding, and none that is padding
        in all rows.
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

    def forward(self, images: Tensor) -> Tensor:
        """(N, 5, C) of normalised `images` (N, 3, S, S), of which there may be none."""
        if not len(images):
            width = self.config.hidden_size
            return torch.empty(0, NUM_IMAGE_TOKENS, width, device=images.device, dtype=self.dtype)
        output: Any = super().forward(pixel_values=images.to(self.dtype))
        tokens = output.last_hidden_state
        patches = tokens[:, 1:]
        grid = rearrange(patches, "n (h w) c -> n c h w", h=round(patches.shape[1] ** 0.5))
        pooled = F.adaptive_avg_pool2d(grid, GRID)
        return torch.cat([tokens[:, :1], rearrange(pooled, "n c h w -> n (h w) c")], dim=1)


def normalise_images(
    rgb: Tensor, mean: tuple[float, ...] | None, std: tuple[float, ...] | None
) -> Tensor:
    """`rgb` (..., 3, S, S), bytes or floats in [0, 1], as floats, less `mean`, by `std`."""
    images = rgb if rgb.is_floating_point() else rgb.float() / 255
    if mean is None or std is None:
        return images
    shift, scale = (images.new_tensor(values)[:, None, None] for values in (mean, std))
    return (images - shift) / scale


def long_clip_text_keys(
    state_dict: Mapping[str, Tensor], prefix: str = "", target: str = ""
) -> dict[str, Tensor]:
    """The text tower of an original CLIP or Long-CLIP under `prefix`, for a `ClipTextEncoder` under
    `target`. Names that CLIP does not have stay, for strict loading to find.
    """
    tower = {
        key.removeprefix(prefix): value
        for key, value in state_dict.items()
        if key.startswith(prefix) and not key.startswith(f"{prefix}visual.")
    }
    late = tower.pop("positional_embedding_res", None)
    if late is not None and "positional_embedding" in tower:
        early = tower["positional_embedding"]
        rows = [early[:NUM_KEPT_POSITIONS], late[NUM_KEPT_POSITIONS:]]
        tower["positional_embedding"] = torch.cat(rows)
    return _renamed(tower, _TEXT_NAMES, target)


def clip_vision_keys(
    state_dict: Mapping[str, Tensor], prefix: str = "visual.", target: str = ""
) -> dict[str, Tensor]:
    """The vision tower of an original CLIP under `prefix`, for a `ClipImageEncoder` under `target`.
    Names that CLIP does not have stay, for strict loading to find.
    """
    tower = {
        key.removeprefix(prefix): value
        for key, value in state_dict.items()
        if key.startswith(prefix)
    }
    return _renamed(tower, _VISION_NAMES, target)


def load_clip(
    text: ClipTextEncoder | None, vision: ClipImageEncoder | None, source: str | Path
) -> None:
    """Start either tower, or both, from pretrained weights.

    `source` is Long-CLIP's file (`longclip-B.pt`), or the folder or Hub name of a CLIP in
    transformers' form. Raises ValueError where anything does not fit; so does a CLIP of 77
    positions for a text tower of 248.
    """
    if str(source).endswith(_FILES) or Path(source).is_file():
        weights = read_tensors(source)
        if "token_embedding.weight" not in weights:
            raise ValueError(f"{source}: found no token_embedding.weight, expected a CLIP.")
        text_keys, vision_keys = long_clip_text_keys(weights), clip_vision_keys(weights)
    else:
        text_keys, vision_keys = _transformers_weights(str(source))
    if text is not None:
        _check_positions(text.config, text_keys, source)
        check_fit(source, text_keys, text)
        text.load_state_dict(text_keys)
    if vision is not None:
        check_fit(source, vision_keys, vision)
        vision.load_state_dict(vision_keys)


def _renamed(tower: Mapping[str, Tensor], names: dict[str, str], target: str) -> dict[str, Tensor]:
    converted = {}
    for key, value in tower.items():
        if key in _UNREAD:
            continue
        name = names.get(key, key)
        if name.startswith("transformer.resblocks."):
            name = name.replace("transformer.resblocks.", "encoder.layers.", 1)
            for old, new in _IN_BLOCKS:
                name = name.replace(old, new)
        value = value.float() if value.is_floating_point() else value
        if ".attn.in_proj_" in name:
            for letter, part in zip("qkv", value.chunk(3), strict=True):
                part_name = name.replace(".attn.in_proj_", f".self_attn.{letter}_proj.")
                converted[target + part_name] = part
        else:
            converted[target + name] = value
    return converted


def _transformers_weights(source: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    model_type = published_type(source)
    if model_type != "clip":
        raise ValueError(f"{source}: found a {model_type!r}, expected a 'clip'.")
    model, info = load_published(CLIPModel, source)
    check_loading(source, info)
    vision = model.vision_model.state_dict()
    kept = {key: value for key, value in vision.items() if not key.startswith("post_layernorm.")}
    return model.text_model.state_dict(), kept


def _check_positions(config: CLIPTextConfig, keys: Mapping[str, Tensor], source) -> None:
    found = len(keys["embeddings.position_embedding.weight"])
    expected = config.max_position_embeddings
    if found != expected:
        raise ValueError(
            f"{source}: its text tower reads {found} tokens, expected {expected}. Take Long-CLIP's "
            f"weights, or set text_config.max_position_embeddings to {found}."
        )
