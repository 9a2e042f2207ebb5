"""What arrived at the servers of NavDP's benchmark."""

import numpy as np
import torch

from internnav_hf.catalog import FAMILIES
from internnav_hf.policies.benchmarked import noise_image, sent_depth
from internnav_hf.policies.loading import policy_settings


def test_depth_is_whole_tenths_of_millimetres_and_ends_at_a_wall():
    depth = np.array([[0.0, 1.23456, 6.6], [30.0, np.inf, np.nan], [-1.0, 6.5535, 3.0]], np.float32)
    expected = [[0, 1.2345, 6.5535], [6.5535, 6.5535, 0], [0, 6.5535, 3.0]]
    found = sent_depth(depth)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1.1e-4)


def test_noise_is_that_of_its_generator():
    one, same, other = (
        noise_image((3, 40, 50), torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert one.dtype == torch.uint8
    assert abs(float(one.float().mean()) / 255 - 0.449) < 0.02


def test_all_that_the_benchmark_served_otherwise_have_the_setting():
    """NavDP sees no farther than 5 m, so that its walls change nothing."""
    served = [one for one in FAMILIES if one.benchmark == "visual_navigation"]
    lacking = [o.name for o in served if "as_benchmarked" not in policy_settings(o.load("policy"))]
    assert lacking == ["NavDP"]
