"""The parts of NavDP's loss: what each is a mean of, and what it weighs."""

import pytest
import torch
from torch.testing import assert_close

from internnav_hf.models.navdp.losses import navdp_losses
from tests.tiny.navdp import tiny_navdp_model_config

WEIGHTS = {"action_loss_weight": 2.0, "critic_loss_weight": 3.0, "auxiliary_loss_weight": 5.0}


def losses(draws=("no_goal", "mixed_goal"), kinds=("image", "pixel"), num_in_batch=None):
    """Of errors that are 1 for noise without a goal, 2 for mixed ones, 3 for the values, 4 for
    points, in two samples, and 100 times as large in a third that does not count.
    """
    scale = torch.tensor([1.0, 1.0, 100.0])
    batch = {
        "noise": torch.zeros(3, 2, 6, 3),
        "value": torch.zeros(3),
        "perturbed_value": torch.zeros(3),
        "goal_point": torch.zeros(3, 3),
        "sample_mask": torch.tensor([True, True, False]),
    }
    error = {"no_goal": 1.0, "mixed_goal": 2.0}
    noises = {draw: error[draw] * scale[:, None, None].expand(-1, 6, 3) for draw in draws}
    points = {kind: 4 * scale[:, None].expand(-1, 3) for kind in kinds}
    config = tiny_navdp_model_config(**WEIGHTS, no_goal_share=0.25)
    values = 3 * scale[:, None].expand(-1, 2)
    return navdp_losses(config, batch, noises, values, points, num_in_batch)


def test_each_is_a_mean_over_samples_that_count():
    output = losses()
    assert output.no_goal_action_loss == 1
    assert output.mixed_goal_action_loss == 4
    assert output.critic_loss == 9 + 9  # the label's and the perturbed path's
    assert output.auxiliary_loss == 16
    assert all(count == 2 for count in output.loss_counts.values())


def test_the_loss_is_the_weighted_sum():
    action = 0.25 * 1 + 0.75 * 4
    expected = torch.tensor(2 * action + 3 * 18 + 5 * 16)
    assert_close(losses().loss, expected)
    assert_close(losses(num_in_batch=torch.tensor(8)).loss, expected * 2 / 8)


@pytest.mark.parametrize(("draw", "error"), [("no_goal", 1), ("mixed_goal", 4)])
def test_one_draw_alone_has_the_whole_weight_of_actions(draw, error):
    output = losses(draws=(draw,), kinds=())
    assert_close(output.loss, torch.tensor(2.0 * error + 3 * 18))
    assert set(output.loss_counts) == {f"{draw}_action_loss", "critic_loss"}
    assert output.auxiliary_loss is None
