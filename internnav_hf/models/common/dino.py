"""DINOv2 patch tokens of frames: transformers' `Dinov2Model`, as InternVLA-N1 and NavDP use it.

Differs from `Dinov2Model`: the position table is resized as in the original code, whose scale
factor has an offset of 0.1, so that released weights give the same numbers; the class token, which
is unused, and the mask token, which only pre-training uses, are dropped.

Legend: N images, S image size, P patches of an image, C width.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor
from transformers import DepthAnythingForDepthEstimation, Dinov2Config
from transformers.models.dinov2.modeling_dinov2 import Dinov2Model

from internnav_hf.weights.inert_pickle import read_tensors
from internnav_hf.weights.loading import fill, load_published
from internnav_hf.weights.renaming import below, in_three, renamed, without
from internnav_hf.weights.weight_files import is_weight_file

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# Names in the original DINOv2 -> transformers 5.23's, in this order.
_ORIGINAL_NAMES = (
    (r"^cls_token$", "embeddings.cls_token"),
    (r"^pos_embed$", "embeddings.position_embeddings"),
    (r"^patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
    (r"^blocks\.", "encoder.layer."),
    (r"\.attn\.proj\.", ".attention.o_proj."),
    (r"\.ls([12])\.gamma$", r".layer_scale\1.lambda1"),
    (r"^norm\.", "layernorm."),
)
_MASK_TOKENS = ("mask_token", "embeddings.mask_token")
_PUBLISHED = {"depth_anything": DepthAnythingForDepthEstimation, "dinov2": Dinov2Model}


class DinoEncoder(Dinov2Model):
    """Patch tokens of images, the final LayerNorm applied.

    `normalise`: whether the encoder applies ImageNet's mean and standard deviation to images in
    [0, 1], or takes images as they are.
    """

    def __init__(self, config: Dinov2Config, normalise: bool = True):
        super().__init__(config)
        self.embeddings.mask_token = None
        self.normalise = normalise

    def forward(self, images: Tensor) -> Tensor:
        """Tokens (N, P, C) of float `images` (N, 3, S, S). ValueError unless patches tile S."""
        num_rows = self._num_rows(images)
        images = images.to(self.dtype)
        if self.normalise:
            mean, std = (images.new_tensor(v)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD))
            images = (images - mean) / std
        patches = self.embeddings.patch_embeddings(images)
        class_token = self.embeddings.cls_token.expand(len(patches), -1, -1)
        hidden = torch.cat([class_token, patches], dim=1) + self.positions(num_rows)
        hidden = self.encoder(self.embeddings.dropout(hidden)).last_hidden_state
        return self.layernorm(hidden)[:, 1:]

    def positions(self, num_rows: int) -> Tensor:
        """(1, 1 + P, C): the position table for square images of `num_rows` rows of patches."""
        table = self.embeddings.position_embeddings
        table_rows = round((table.shape[1] - 1) ** 0.5)
        if num_rows == table_rows:
            return table
        grid = rearrange(table[:, 1:], "n (row column) c -> n c row column", row=table_rows)
        scale = (num_rows + 0.1) / table_rows
        # In float32: bicubic weights in half precision shift the table.
        grid = F.interpolate(grid.float(), scale_factor=(scale, scale), mode="bicubic")
        patches = rearrange(grid.to(table.dtype), "n c row column -> n (row column) c")
        return torch.cat([table[:, :1], patches], dim=1)

    def _num_rows(self, images: Tensor) -> int:
        height, width = images.shape[-2:]
        patch_size = self.embeddings.patch_embeddings.projection.kernel_size[0]
        if height != width or height % patch_size:
            raise ValueError(
                f"Images must be square and a multiple of vision_config.patch_size="
                f"{patch_size} pixels wide; these are {width}x{height}."
            )
        return height // patch_size


def to_unit(rgb: Tensor) -> Tensor:
    """`rgb` as floats in [0, 1]: bytes are divided by 255, floats are in that range already."""
    return rgb if rgb.is_floating_point() else rgb.float() / 255


def released_dino_keys(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of an original DINOv2 for a `DinoEncoder`.

    The joint projection to queries, keys and values becomes three; the mask token is dropped.
    Names unknown to DINOv2 are kept, so that strict loading reports them.
    """
    named = renamed(without(state_dict, _MASK_TOKENS), _ORIGINAL_NAMES)
    return in_three(named, ".attn.qkv.", ".attention.{}_proj.")


def load_dino(encoder: DinoEncoder, path: str | Path) -> None:
    """Start `encoder` from pretrained weights.

    `path` is an original DINOv2 or Depth-Anything-V2 file, or the folder or Hub name of a DINOv2
    or Depth-Anything-V2 in transformers' form. Raises ValueError if anything does not fit.
    """
    if is_weight_file(path):
        weights = read_tensors(path)
        weights = released_dino_keys(below(weights, "pretrained.") or weights)
    else:
        model = load_published(_PUBLISHED, path)
        model = model.backbone if isinstance(model, DepthAnythingForDepthEstimation) else model
        weights = without(model.state_dict(), _MASK_TOKENS)
    fill(encoder, weights, path)
