"""RDP's losses: the reference's reduction, and what counts."""

import pytest
import torch
from torch.testing import assert_close

from internnav_hf.models.rdp.losses import rdp_losses
from tests.tiny.rdp import tiny_rdp_config
from tests.tiny.vln_golden import golden

MASK = torch.tensor([[True, True, False], [True, False, False]])


def predictions(**values: float) -> dict[str, torch.Tensor]:
    shapes = {"action": (2, 3, 8, 3), "progress": (2, 3), "stop": (2, 3)}
    return {name: torch.full(shape, values.get(name, 0.0)) for name, shape in shapes.items()}


def test_the_reduction_of_the_reference():
    given = golden("rdp_action_reduce")
    errors = given["in.loss"][None]
    predicted = predictions() | {"action": errors.sqrt()}
    targets = {name: torch.zeros_like(value) for name, value in predicted.items()}
    blank = {name: torch.zeros(1, 6) for name in ("progress", "stop")}
    output = rdp_losses(
        tiny_rdp_config(loss_epsilon=0.01),
        predicted | blank,
        targets | blank,
        given["in.mask"][None].bool(),
    )
    assert_close(output.action_loss, given["out.value"], atol=1e-6, rtol=0)


def test_the_loss_is_the_weighted_sum_of_means_over_valid_steps():
    predicted = predictions(action=2.0, progress=0.5, stop=0.1)
    predicted["stop"][~MASK] = torch.nan
    config = tiny_rdp_config(progress_loss_weight=3.0)
    output = rdp_losses(config, predicted, predictions(), MASK)
    assert output.action_loss.item() == pytest.approx(4)
    assert output.progress_loss.item() == pytest.approx(0.25)
    assert output.stop_loss.item() == pytest.approx(0.01)
    assert output.loss.item() == pytest.approx(4 + 3 * 0.25 + 10 * 0.01)
    assert output.loss_counts == dict.fromkeys(("action_loss", "progress_loss", "stop_loss"), 3)


def test_published_padding_counts_as_steps():
    predicted = predictions()
    predicted["progress"][~MASK] = 1.0
    config = tiny_rdp_config(padded_loss=True, loss_epsilon=0.01)
    output = rdp_losses(config, predicted, predictions(), MASK)
    assert output.progress_loss.item() == pytest.approx(0.5 / 1.01)


@pytest.mark.parametrize("padded_loss", [False, True])
def test_parts_of_a_batch_weigh_as_many_steps_as_they_have(padded_loss):
    config = tiny_rdp_config(padded_loss=padded_loss)
    predicted, targets = predictions(action=1.0), predictions()
    whole = rdp_losses(config, predicted, targets, MASK)
    parts = [
        rdp_losses(
            config,
            {name: value[row] for name, value in predicted.items()},
            {name: value[row] for name, value in targets.items()},
            MASK[row],
            num_steps_in_batch=MASK.sum(),
        ).loss
        for row in (slice(0, 1), slice(1, 2))
    ]
    assert_close(torch.stack(parts).sum(), whole.loss)


def test_a_batch_without_steps_is_no_loss():
    steps = {"action": torch.ones(1, 2, 8, 3), "progress": torch.ones(1, 2)}
    steps["stop"] = steps["progress"]
    blank = {name: torch.zeros_like(value) for name, value in steps.items()}
    output = rdp_losses(tiny_rdp_config(), steps, blank, torch.zeros(1, 2, dtype=torch.bool))
    assert output.loss == output.action_loss == 0
