"""Losses against upstream's numbers, and what does not count."""

import pytest
import torch
from torch.testing import assert_close

from internnav_hf.models.vln.losses import vln_losses
from tests.tiny.vln_golden import golden

NUM_STEPS, NUM_EPISODES = 7, 3
LENGTHS = torch.tensor([5, 3, 7])


def by_episode(rows: torch.Tensor) -> torch.Tensor:
    return rows.unflatten(0, (NUM_STEPS, NUM_EPISODES)).transpose(0, 1)


@pytest.fixture
def data() -> dict:
    return golden("cma_collate_and_loss")


@pytest.fixture
def batch(data) -> dict:
    return {
        "logits": by_episode(data["in.logits"]).log_softmax(-1),
        "predicted_progress": by_episode(data["in.progress_hat"])[..., 0],
        "targets": {
            "actions": data["out.collated.actions"].T,
            "inflection_weights": data["out.collated.weights"].T,
            "progress": by_episode(data["out.collated.progress"]),
        },
        "step_mask": torch.arange(NUM_STEPS) < LENGTHS[:, None],
        "progress_loss_weight": 1.0,
    }


def test_they_are_upstreams(data, batch):
    losses = vln_losses(**batch)
    for name in ("loss", "action_loss", "progress_loss"):
        assert_close(losses[name], data[f"out.{name}"], atol=1e-6, rtol=1e-6)
    assert losses["loss_counts"] == {"action_loss": 3, "progress_loss": 3}


def test_one_episode_is_weighted_as_it_is_among_others(batch):
    rows = {k: v[:1] for k, v in batch.items() if torch.is_tensor(v)}
    rows["targets"] = {key: value[:1] for key, value in batch["targets"].items()}
    others = {k: v[1:] for k, v in batch.items() if torch.is_tensor(v)}
    others["targets"] = {key: value[1:] for key, value in batch["targets"].items()}
    parts = [vln_losses(**part, progress_loss_weight=1, num_episodes=3) for part in (rows, others)]
    assert_close(parts[0]["loss"] + parts[1]["loss"], vln_losses(**batch)["loss"])


def test_what_does_not_count_may_be_anything(batch):
    expected = vln_losses(**batch)["loss"]
    padding = ~batch["step_mask"]
    targets = batch["targets"]
    targets["actions"][padding] = -100
    targets["progress"][padding] = torch.nan
    targets["inflection_weights"][padding] = torch.inf
    batch["logits"][padding] = torch.nan
    batch["predicted_progress"][padding] = torch.nan
    assert_close(vln_losses(**batch)["loss"], expected)


def test_without_weights_all_steps_count_the_same(batch):
    targets = batch["targets"]
    targets["inflection_weights"] = None
    chosen = batch["logits"].gather(-1, targets["actions"][..., None])[..., 0]
    means = [-chosen[row, :length].mean() for row, length in enumerate(LENGTHS)]
    assert_close(vln_losses(**batch)["action_loss"], torch.stack(means).mean())


def test_the_monitor_can_be_without_and_must_have_something_to_learn(batch):
    batch["targets"]["progress"] = None
    with pytest.raises(ValueError, match="progress: found None"):
        vln_losses(**batch)
    losses = vln_losses(**(batch | {"predicted_progress": None}))
    assert "progress_loss" not in losses
    assert_close(losses["loss"], losses["action_loss"])


def test_its_weight_counts(batch):
    losses = vln_losses(**(batch | {"progress_loss_weight": 3.0}))
    assert_close(losses["loss"], losses["action_loss"] + 3 * losses["progress_loss"])


def test_a_batch_without_episodes_is_no_loss(batch):
    losses = vln_losses(**(batch | {"step_mask": torch.zeros_like(batch["step_mask"])}))
    assert all(losses[name] == 0 for name in ("loss", "action_loss", "progress_loss"))
