"""NavDP's preprocessing of views, the same in training and inference.

A view is resized by its longer side, padded with zeros on both sides of the shorter one, and, if
the number of rows or columns to pad is odd, resized once more. All bilinear, without antialiasing,
as OpenCV does it (uint8 within 1/255 of it).

    colours  uint8 (..., H, W, 3) -> uint8 (..., 3, S, S)     channels first, the order as it came
    depth    metres (..., H, W) -> float32 (..., S, S)        0 where unknown, too near or too far
    mask     a pixel (u, v) -> uint8 (S, S), 255 at the goal

A goal's pixel is painted into a mask of the view, which is resized and padded alike. Training and
inference paint it differently: `marked_rectangle` in NavDP's dataset, `goal_mask` in the NavDP
repository.

Legend: H, W height and width of a view, S side of the square.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

NEAREST_DEPTH_M = 0.1
FARTHEST_DEPTH_M = 5.0
GOAL_MARK_PX = (
    10  # half the side of the square that the NavDP repository paints; width of its bands
)


def letterbox(images: np.ndarray, size: int) -> Tensor:
    """Resize and pad (..., H, W, 3) uint8 to (..., 3, S, S) uint8; all views have one size."""
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim < 3 or images.shape[-1] != 3:
        raise ValueError(
            f"image: found {images.dtype} of shape {images.shape}, expected uint8 (..., H, W, 3)."
        )
    pixels = torch.from_numpy(np.require(images, requirements=["C", "W"]))
    views = pixels.reshape(-1, *images.shape[-3:]).permute(0, 3, 1, 2)
    squares = _squared(_shrunk_and_padded(views, size), size)
    return squares.contiguous().reshape(*images.shape[:-3], 3, size, size)


def letterbox_depth(depth: np.ndarray, size: int, cut_before_last_resize: bool = False) -> Tensor:
    """Resize and pad (..., H, W) metres to (..., S, S) float32 metres; NaN, inf are unknown.

    In float64, as OpenCV: a pixel at exactly 5 m stays if its PNG was divided in float64 too.
    Depths outside 0.1 to 5 m become 0 at the end, as in the NavDP repository;
    `cut_before_last_resize` is the order of the published dataset. Both give the same if the
    padding is even.
    """
    metres = torch.from_numpy(np.require(depth, np.float64, ["C", "W"]))
    views = metres.nan_to_num(0.0, 0.0, 0.0).reshape(-1, 1, *metres.shape[-2:])
    padded = _shrunk_and_padded(views, size)
    if cut_before_last_resize:
        squares = _squared(_cut(padded), size)
    else:
        squares = _cut(_squared(padded, size))
    return squares.float().reshape(*metres.shape[:-2], size, size)


def goal_mask(
    pixel: tuple[float, float], view_size: tuple[int, int], size: int, half_side: int = GOAL_MARK_PX
) -> Tensor:
    """(S, S) uint8 mask of a goal at `pixel` (u, v) of a view (H, W), by the rule of inference.

    It is a square of twice `half_side` pixels. If the square does not fit into the view, the mask
    is a band of `half_side` pixels along the first edge that it crosses: left, top, right or
    bottom.
    """
    height, width = view_size
    left, top = int(pixel[0]) - half_side, int(pixel[1]) - half_side
    right, bottom = left + 2 * half_side, top + 2 * half_side
    mask = torch.zeros(1, 1, height, width, dtype=torch.uint8)
    if left < 0:
        mask[..., :half_side] = 255
    elif top < 0:
        mask[..., :half_side, :] = 255
    elif right > width:
        mask[..., -half_side:] = 255
    elif bottom > height:
        mask[..., -half_side:, :] = 255
    else:
        mask[..., top:bottom, left:right] = 255
    return _squared(_shrunk_and_padded(mask, size, mode="nearest"), size)[0, 0]


def marked_rectangle(
    pixel: tuple[float, float],
    view_size: tuple[int, int],
    size: int,
    offsets: tuple[int, int, int, int],
) -> Tensor:
    """(S, S) uint8 mask of a goal at `pixel` (u, v) of a view (H, W), by the rule of training.

    The rectangle reaches `offsets` (left, top, right, bottom) pixels from it, its last row and
    column included. A pixel outside the view leaves the mask empty.
    """
    height, width = view_size
    u, v = int(np.floor(pixel[0])), int(np.floor(pixel[1]))
    mask = torch.zeros(1, 1, height, width, dtype=torch.uint8)
    if 0 <= u < width and 0 <= v < height:
        left, top, right, bottom = offsets
        rows = slice(max(v - top, 0), v + bottom + 1)
        mask[..., rows, max(u - left, 0) : u + right + 1] = 255
    return _squared(_shrunk_and_padded(mask, size), size)[0, 0]


def _shrunk_and_padded(views: Tensor, size: int, mode: str = "bilinear") -> Tensor:
    """(N, C, H, W) with the longer side `size`, the shorter one `size` or one pixel less."""
    height, width = views.shape[-2:]
    scale = size / max(height, width)
    shape = (max(round(height * scale), 1), max(round(width * scale), 1))
    views = _resized(views, shape, mode)
    above, beside = ((size - length) // 2 for length in shape)
    return functional.pad(views, (beside, beside, above, above))


def _squared(views: Tensor, size: int) -> Tensor:
    return _resized(views, (size, size), "bilinear")


def _resized(views: Tensor, shape: tuple[int, int], mode: str) -> Tensor:
    if views.shape[-2:] == shape:
        return views
    aligned = {"align_corners": False} if mode == "bilinear" else {}
    return functional.interpolate(views, size=shape, mode=mode, **aligned)


def _cut(depth: Tensor) -> Tensor:
    known = (depth >= NEAREST_DEPTH_M) & (depth <= FARTHEST_DEPTH_M)
    return torch.where(known, depth, 0.0)
