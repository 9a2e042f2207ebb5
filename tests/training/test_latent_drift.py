import pytest
import torch

from internnav_hf.training.latent_drift import LatentDrift
from tests.tiny.toy_model import toy_action_model, toy_probe


def test_nothing_has_moved_at_the_start():
    model, drift = toy_action_model(), LatentDrift([toy_probe()], weight=1.0)
    drift.record(model)
    assert drift.measure(model) == pytest.approx(0, abs=1e-6)
    assert drift.loss(model, step=0).item() == 0


def test_the_queries_own_learning_is_no_drift():
    model, drift = toy_action_model(), LatentDrift([toy_probe(0), toy_probe(1)])
    drift.record(model)
    torch.nn.init.normal_(model.latent_queries.weight)
    moved = model.latent_queries.weight.clone()
    assert drift.measure(model) == pytest.approx(0, abs=1e-6)
    assert model.latent_queries.weight.equal(moved)


def test_drift_is_one_minus_the_mean_cosine():
    model, drift = toy_action_model(), LatentDrift([toy_probe(0), toy_probe(1)])
    drift.record(model)
    with torch.no_grad():
        model.system2.weight.neg_()
    assert drift.measure(model) == pytest.approx(2)
    assert model.training, "measuring leaves the mode as it was"


def test_the_loss_is_a_share_of_the_plans_size_and_reaches_system2():
    model, drift = toy_action_model(), LatentDrift([toy_probe()], weight=3.0)
    drift.record(model)
    with torch.no_grad():
        model.system2.weight.mul_(1.5)
    loss = drift.loss(model, step=7)
    assert loss.item() == pytest.approx(3 * 0.5**2)
    loss.backward()
    assert model.system2.weight.grad.abs().sum() > 0
    assert model.latent_queries.weight.grad is None
    assert model.action_expert.weight.grad is None


def test_probe_batches_take_turns():
    model, drift = toy_action_model(), LatentDrift([toy_probe(0), toy_probe(1)], weight=1.0)
    drift.record(model)
    with torch.no_grad():
        model.system2.weight.add_(0.1 * torch.randn_like(model.system2.weight))
    losses = [drift.loss(model, step).item() for step in range(4)]
    assert losses[0] == losses[2] != losses[1] == losses[3]


def test_without_weight_there_is_no_loss():
    model, drift = toy_action_model(), LatentDrift([toy_probe()])
    drift.record(model)
    assert drift.loss(model, step=0) is None


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="at least one probe"):
        LatentDrift([])
    with pytest.raises(ValueError, match=r"distillation_weight: found -1\.0"):
        LatentDrift([toy_probe()], weight=-1.0)
