"""Images to Qwen-VL patches, equal to `Qwen2VLImageProcessorPil` and about three times faster.

The shipped processor normalises every pixel in float and then moves the floats into patch order.
Here bytes are moved, and a table of 256 values per channel, made with the processor's own
arithmetic, turns them into floats at the end.

Legend: P patches of one image, C channels, T temporal patch size, S patch size.
"""

import functools
from collections.abc import Sequence

import numpy as np
from einops import rearrange
from PIL import Image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize


def image_patches(image: Image.Image, image_processor) -> tuple[np.ndarray, tuple[int, int, int]]:
    """Patches (P, C*T*S*S) float32 of an RGB image in the order of the vision tower, and its grid
    (1, rows, columns).

    The image is resized with the processor's limits and filter, as `image_processor(image)` would.
    """
    patch, merge = image_processor.patch_size, image_processor.merge_size
    grid = patch_grid(image.size, image_processor)
    height, width = grid[1] * patch, grid[2] * patch
    if (width, height) != image.size:
        image = image.resize((width, height), Image.Resampling(image_processor.resample))
    pixels = np.asarray(image)
    if pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(
            f"Expected an RGB image, found mode {image.mode!r} of shape {pixels.shape}."
        )
    patches = rearrange(
        pixels,
        "(row mh ph) (col mw pw) c -> (row col mh mw) c ph pw",
        mh=merge,
        ph=patch,
        mw=merge,
        pw=patch,
    )
    table = _normalised_bytes(
        image_processor.rescale_factor,
        tuple(image_processor.image_mean),
        tuple(image_processor.image_std),
    )
    frames = image_processor.temporal_patch_size  # a still image fills every frame of its patch
    values = np.empty((len(patches), 3, frames, patch, patch), dtype=np.float32)
    for channel in range(3):
        values[:, channel] = table[channel][patches[:, channel]][:, None]
    return values.reshape(len(patches), -1), grid


def patch_grid(size: Sequence[int], image_processor) -> tuple[int, int, int]:
    """The grid (1, rows, columns) of an image of `size` (width, height)."""
    patch = image_processor.patch_size
    height, width = smart_resize(
        size[1],
        size[0],
        factor=patch * image_processor.merge_size,
        min_pixels=image_processor.size["shortest_edge"],
        max_pixels=image_processor.size["longest_edge"],
    )
    return 1, height // patch, width // patch


@functools.lru_cache
def _normalised_bytes(scale: float, mean: tuple[float, ...], std: tuple[float, ...]) -> np.ndarray:
    """(3, 256) float32: what each byte value of each channel becomes."""
    rescaled = (np.arange(256, dtype=np.float64) * scale).astype(np.float32)
    mean_column = np.array(mean, dtype=np.float32)[:, None]
    std_column = np.array(std, dtype=np.float32)[:, None]
    return (rescaled - mean_column) / std_column
