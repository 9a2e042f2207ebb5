"""GNM, ViNT and NoMaD are the published networks: encoders, predictions, losses, gradients."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from internnav_hf.models.gnm.base import ImageGoalModel
from internnav_hf.models.gnm.encoders import positions
from internnav_hf.models.gnm.released import released_keys
from tests.tiny.gnm_golden import golden, notes, released_model, views

EXACT = {"atol": 1e-5, "rtol": 1e-5}
HEADINGS = {"atol": 5e-5, "rtol": 0}  # of short vectors: GNM's are 1.5e-5 from float64's
FEATURES = {"atol": 5e-5, "rtol": 1e-4}  # before the mean, of 81 layers in another order
LOOP = {"atol": 5e-5, "rtol": 0}

pytestmark = pytest.mark.slow  # models of the published size


@pytest.fixture(scope="module")
def nomad() -> ImageGoalModel:
    return released_model("nomad")


def assert_gradients(model: ImageGoalModel, loss: Tensor, name: str) -> None:
    loss.backward()
    parameters = dict(model.named_parameters())
    for key, norm in notes(name)["grad_norms_of_total_loss"].items():
        (ours,) = released_keys({key: torch.zeros(1)}, model.config)
        assert parameters[ours].grad.norm().item() == pytest.approx(norm, rel=1e-4), key
    model.zero_grad()


@pytest.mark.parametrize("name", ["gnm", "vint"])
def test_waypoints_distances_losses_and_gradients(name):
    given = golden(f"{name}_bn_calibrated")
    model = released_model(name, given)
    output = model(
        **views(given),
        actions=given["action_label"],
        distance=given["dist_label"],
        action_mask=given["action_mask"].bool(),
    )
    assert_close(output.waypoints[..., :2], given["action_pred"][..., :2], **EXACT)
    assert_close(output.waypoints, given["action_pred"], **HEADINGS)
    assert_close(output.distance, given["dist_pred"][:, 0], **EXACT)
    for ours, theirs in (
        (output.loss, "total_loss"),
        (output.action_loss, "action_loss"),
        (output.distance_loss, "dist_loss"),
    ):
        assert_close(ours, given[f"loss.{theirs}"].reshape(()), **EXACT)
    assert_gradients(model, output.loss, f"{name}_bn_calibrated")


def test_encoders_of_vint():
    given = golden("vint_bn_calibrated")
    model = released_model("vint", given)
    current = given["obs_img"][:, -3:]
    with torch.no_grad():
        rgb = model.rgb_encoder.features(current)
        goal = model.goal_encoder.features(torch.cat([current, given["goal_img"]], dim=1))
    assert_close(rgb, given["obs_features_last_frame"], **FEATURES)
    assert_close(goal, given["goal_features"], **FEATURES)
    assert_close(positions(5, 256), golden("nomad_forward")["pos_enc"][0], **EXACT)


def test_condition_noise_and_distance_of_nomad(nomad):
    given = golden("nomad_forward")
    shown = torch.ones(2, dtype=torch.bool)
    with torch.no_grad():
        assert_close(
            nomad.condition(**views(given), goal_mask=shown), given["cond_no_mask"], **EXACT
        )
        hidden = nomad.condition(**views(given), goal_mask=~shown)
        noise = nomad.denoiser(given["sample"], given["timestep"], given["cond_no_mask"])
        distance = nomad.distance(given["cond_no_mask"])
    assert_close(hidden, given["cond_goal_masked"], **EXACT)
    assert_close(noise, given["noise_pred"], **EXACT)
    assert_close(distance, given["dist_pred"][:, 0], **EXACT)


def test_losses_and_gradients_of_nomad_as_executed(nomad):
    given = golden("nomad_loss")
    nomad.config.distance_mask = "batch"
    goal_mask = given["goal_mask"] == 0
    batch = {name: given[name] for name in ("actions", "distance", "noise", "timesteps")}
    batch |= {"action_mask": given["action_mask"].bool(), "goal_mask": goal_mask}
    output = nomad(**views(given), **batch)
    assert_close(nomad.scaled(given["actions"]), given["normalised_actions"], **EXACT)
    assert_close(output.noise, given["noise_pred"], **EXACT)
    for ours, theirs in (
        (output.loss, "total_loss"),
        (output.diffusion_loss, "diffusion_loss"),
        (output.distance_loss, "dist_loss"),
    ):
        assert_close(ours, given[theirs].reshape(()), **EXACT)
    assert_gradients(nomad, output.loss, "nomad_loss")
    nomad.config.distance_mask = "sample"
    errors = (output.distance - given["distance"]).square()
    meant = (errors * goal_mask).sum() / (goal_mask.sum() + 0.01 * len(errors))
    with torch.no_grad():
        assert_close(nomad(**views(given), **batch).distance_loss, meant)


def test_sampling_of_nomad(nomad):
    given = golden("nomad_sampling")
    found = nomad.denoise(
        given["cond"],
        noise=given["init_noise"][:, None],
        step_noise=given["step_noise"][:-1, :, None],
    )
    assert_close(found[:, 0], given["actions"], **LOOP)
