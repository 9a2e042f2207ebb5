"""What RDP draws does not depend on who else is in the batch."""

import pytest
import torch
from torch.testing import assert_close

from internnav_hf.models.rdp.draws import draw_for_sampling, draw_for_training, num_chains
from tests.tiny.rdp import tiny_rdp_config

CPU = torch.device("cpu")
NONE = dict.fromkeys(("noise", "timesteps", "image_drop", "condition_drop"))


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def test_a_row_draws_from_its_own_generator():
    config = tiny_rdp_config()
    start, between = draw_for_sampling(config, (2, 3), CPU, generators(0, 1))
    alone, alone_between = draw_for_sampling(config, (1, 3), CPU, generators(1))
    assert start.shape == (2, 3, 8, 3)
    assert between.shape == (9, 1, 2, 3, 8, 3)
    assert_close(start[1:], alone)
    assert_close(between[:, :, 1:], alone_between)


@pytest.mark.parametrize(("scale", "expected"), [(1.5, 2), (1.0, 1)])
def test_published_guidance_has_two_chains(scale, expected):
    config = tiny_rdp_config(guidance_drifts=True, guidance_scale=scale)
    assert num_chains(config) == expected
    assert draw_for_sampling(config, (1, 1), CPU, None)[1].shape[1] == expected


def test_training_drops_its_share_and_evaluation_nothing():
    config = tiny_rdp_config(view_drop_share=0.25, condition_drop_share=1.0)
    torch.manual_seed(0)
    draws = draw_for_training(config, torch.zeros(100, 100, 1), NONE, training=True)
    assert draws["image_drop"].float().mean().item() == pytest.approx(0.25, abs=0.02)
    assert draws["condition_drop"].all()
    assert draws["timesteps"].unique().tolist() == list(range(10))
    targets = torch.arange(16.0).view(4, 4, 1)
    draws = draw_for_training(config, targets, NONE, training=False)
    assert not draws["image_drop"].any()
    assert not draws["condition_drop"].any()
    alone = draw_for_training(config, targets[2:3, 1:3], NONE, training=False)
    assert_close(draws["noise"][2:3, 1:3], alone["noise"])
    assert_close(draws["timesteps"][2:3, 1:3], alone["timesteps"])


def test_what_is_given_is_not_drawn():
    given = torch.ones(2, 2, dtype=torch.bool)
    told = NONE | {"image_drop": given}
    draws = draw_for_training(tiny_rdp_config(), torch.zeros(2, 2, 1), told, training=False)
    assert_close(draws["image_drop"], given)
