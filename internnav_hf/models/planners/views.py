"""The planners' images: cut, resized and coloured alike in training and at inference.

Legend: H and W rows and columns of the model's images.
"""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

UNKNOWN_CLASS = (0, 0, 0)  # "static" in ViPlanner's table


def depth_view(depth: np.ndarray, height: int, width: int, max_depth_m: float) -> Tensor:
    """(H, W) metres of `depth` (rows, columns): 0 where it is unknown, negative or too far; then
    resized bilinearly, not keeping the aspect ratio.
    """
    with np.errstate(invalid="ignore"):
        is_known = (depth > 0) & (depth <= max_depth_m)  # not NaN, not infinity
    image = Image.fromarray(np.where(is_known, depth, 0).astype(np.float32))
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(image))


def semantic_view(colours: np.ndarray, height: int, width: int) -> Tensor:
    """(3, H, W) bytes of the classes' `colours` (rows, columns, 3), resized by nearest neighbours,
    so that no colour is one that no class has.
    """
    image = Image.fromarray(np.ascontiguousarray(colours))
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.NEAREST)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def rgb_view(picture: np.ndarray, height: int, width: int) -> Tensor:
    """(3, H, W) bytes of a `picture` (rows, columns, 3), resized bilinearly as depth is."""
    image = Image.fromarray(np.ascontiguousarray(picture))
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def without_unknown_colours(colours: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, float]:
    """`colours` (rows, columns, 3) with `UNKNOWN_CLASS` where they are none of `known` (C, 3), and
    the share of such pixels.
    """
    is_known = np.isin(packed(colours), packed(known))
    return np.where(is_known[..., None], colours, np.uint8(UNKNOWN_CLASS)), 1 - is_known.mean()


def packed(colours: np.ndarray) -> np.ndarray:
    """(...,) one number for each colour (..., 3)."""
    red, green, blue = np.moveaxis(np.asarray(colours, np.int32), -1, 0)
    return (red << 16) | (green << 8) | blue
