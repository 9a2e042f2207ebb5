"""Against the published code's numbers."""

import json

import pytest
import torch
from safetensors.torch import load_file

from internnav_hf.training.ppo.losses import generalised_advantages, ppo_loss
from tests.golden import GOLDEN

SETTINGS = json.loads((GOLDEN / "ddppo_ppo.json").read_text())


@pytest.fixture(scope="module")
def golden():
    """(N, T) of what is (T, N, 1) there."""
    found = load_file(GOLDEN / "ddppo_ppo.safetensors")
    return found | {name: rows[..., 0].t() for name, rows in found.items() if rows.ndim > 1}


def test_advantages(golden):
    advantages = generalised_advantages(
        golden["rewards"],
        golden["value_preds"],
        golden["next_value"],
        golden["masks"].bool(),
        SETTINGS["gamma"],
        SETTINGS["tau"],
    )
    torch.testing.assert_close(advantages, golden["advantages"], rtol=0, atol=1e-5)
    returns = advantages + golden["value_preds"]
    torch.testing.assert_close(returns, golden["returns"], rtol=0, atol=1e-5)


def test_losses(golden):
    output = ppo_loss(
        golden["new_log_probs"],
        golden["old_log_probs"],
        golden["advantages"],
        golden["new_values"],
        golden["returns"],
        golden["entropy"],
        SETTINGS["clip"],
        SETTINGS["value_loss_coef"],
        SETTINGS["entropy_coef"],
    )
    for ours, theirs in (("loss", "total"), ("action_loss",) * 2, ("value_loss",) * 2):
        name = f"{theirs}_loss" if theirs == "total" else theirs
        torch.testing.assert_close(output[ours][None], golden[name], rtol=0, atol=1e-5)
    torch.testing.assert_close(output.entropy_loss, -golden["entropy"].mean())


def test_nothing_is_expected_beyond_an_episode():
    rewards, values = torch.tensor([[1.0, 2.0]]), torch.zeros(1, 2)
    masks = torch.tensor([[True, False, True]])
    found = generalised_advantages(rewards, values, torch.tensor([8.0]), masks, 0.5, 1.0)
    assert found.tolist() == [[1.0, 2.0 + 0.5 * 8]]
