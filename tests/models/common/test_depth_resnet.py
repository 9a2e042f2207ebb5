"""The depth encoder against upstream's numbers, and its sizes."""

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from internnav_hf.models.common.depth_resnet import DepthResNet, depth_grid_size
from tests.tiny.seeded_weights import seeded_tensor


@torch.no_grad()
def test_it_gives_the_published_numbers():
    data = load_file("tests/golden/depth_encoder.safetensors")
    encoder = DepthResNet().eval()
    # as upstream names them
    encoder.load_state_dict(
        {
            key: seeded_tensor(f"visual_encoder.{key}", tuple(value.shape))
            for key, value in encoder.state_dict().items()
        }
    )
    features = encoder(data["in.depth"][..., 0])
    # upstream's float32 is itself 2.9e-5 from the same in float64; this one 6e-6
    assert_close(features, data["out.features"], atol=4e-5, rtol=0)


@pytest.mark.parametrize(("size", "num_blocks"), [(256, (1, 1, 1, 1)), (64, (1, 1)), (100, (1, 2))])
def test_the_grid_is_as_large_as_announced(size, num_blocks):
    encoder = DepthResNet(base_planes=4, num_blocks=num_blocks, feature_channels=6)
    grid = depth_grid_size(size, len(num_blocks))
    assert encoder(torch.rand(1, size, size)).shape == (1, 6, grid, grid)
