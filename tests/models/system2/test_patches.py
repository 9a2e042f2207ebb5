"""Fast patches equal the shipped image processor's, bit for bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from internnav_hf.models.system2.patches import image_patches


def _noise(width: int, height: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@settings(max_examples=15, deadline=None)
@given(
    st.integers(28, 300),
    st.integers(28, 300),
    st.sampled_from([(14, 2, 2), (16, 1, 1), (16, 2, 2)]),
)
def test_equal_to_the_shipped_processor(width, height, sizes):
    patch, merge, frames = sizes
    processor = Qwen2VLImageProcessorPil(
        patch_size=patch, merge_size=merge, temporal_patch_size=frames
    )
    image = _noise(width, height)
    expected = processor(image, return_tensors="np")
    patches, grid = image_patches(image, processor)
    np.testing.assert_array_equal(patches, expected["pixel_values"])
    assert grid == tuple(expected["image_grid_thw"][0])


def test_other_normalisation_is_honoured():
    processor = Qwen2VLImageProcessorPil(image_mean=[0.5, 0.4, 0.3], image_std=[0.1, 0.2, 0.3])
    image = _noise(56, 56)
    expected = processor(image, return_tensors="np")["pixel_values"]
    np.testing.assert_array_equal(image_patches(image, processor)[0], expected)


def test_an_image_that_is_not_rgb_is_refused():
    with pytest.raises(ValueError, match="Expected an RGB image, found mode 'L'"):
        image_patches(Image.new("L", (56, 56)), Qwen2VLImageProcessorPil())
