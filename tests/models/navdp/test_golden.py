"""NavDP is the published network: forward, heads, sampling, and all goals at run time."""

import json

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from internnav_hf.models.navdp.model import NavDPModel, NavDPOutput
from tests.golden import GOLDEN
from tests.tiny.navdp import tiny_navdp_model
from tests.tiny.navdp_golden import (
    INTERNNAV,
    goal_views,
    golden,
    released_model,
    views,
)

SCALE = 4
EXACT = {"atol": 1e-5, "rtol": 0}
LOOP = {"atol": 5e-5, "rtol": 0}

pytestmark = pytest.mark.slow  # models of the published size


@pytest.fixture(scope="module")
def model() -> NavDPModel:
    return released_model(INTERNNAV)


@pytest.fixture(scope="module")
def memory(model) -> dict[str, Tensor]:
    """What all goldens saw, the colours encoded."""
    rgb, depth = views(golden(INTERNNAV)).values()
    with torch.no_grad():
        tokens = model.encode_rgb(rgb.flatten(0, 1)).unflatten(0, rgb.shape[:2])
    return {"rgb_tokens": tokens, "depth": depth}


@pytest.fixture(scope="module")
def output(model) -> NavDPOutput:
    given = golden(INTERNNAV)
    with torch.no_grad():
        return model(
            **views(given),
            **goal_views(given),
            goal_point=given["goal_point"],
            actions=given["label_actions"] / SCALE,
            perturbed_actions=given["augment_actions"] / SCALE,
            value=given["label_critic"],
            perturbed_value=given["augment_critic"],
            noise=given["noises"].transpose(0, 1),
            timesteps=given["timesteps"].T,
        )


@pytest.mark.parametrize(
    ("name", "released"),
    [
        ("no_goal_noise", "noise_pred_ng"),
        ("mixed_goal_noise", "noise_pred_mg"),
        ("value", "cr_label_pred"),
        ("perturbed_value", "cr_augment_pred"),
        ("image_goal_point", "imagegoal_aux_pred"),
        ("pixel_goal_point", "pixelgoal_aux_pred"),
    ],
)
def test_predictions_of_the_reference(output, name, released):
    assert_close(output[name], golden(INTERNNAV)[released], **EXACT)


def test_losses_of_the_reference(output):
    no_goal, mixed_goal, auxiliary, _, critic, total = golden(INTERNNAV)["losses"]
    assert_close(output.no_goal_action_loss, no_goal, **EXACT)
    assert_close(output.mixed_goal_action_loss, mixed_goal, **EXACT)
    assert_close(output.auxiliary_loss, auxiliary, **EXACT)
    assert_close(output.critic_loss, critic, **EXACT)
    assert_close(output.loss, total, **EXACT)


def test_tokens_of_the_reference(model, memory):
    given = golden(INTERNNAV)
    images = goal_views(given)
    goals = {
        "point": given["goal_point"],
        "image": images["goal_image"],
        "pixel": images["goal_pixel_map"],
    }
    for kind, of_rows in goals.items():
        with torch.no_grad():
            condition = model.read_condition([{kind: goal} for goal in of_rows], **memory)
        assert_close(condition[:, 3:], given["rgbd_embed"], **EXACT)
        for slot in range(3):
            assert_close(condition[:, slot], given[f"{kind}_embed"], **EXACT)


def test_heads_of_the_reference(model):
    given = golden("navdp_standalone_heads")
    denoiser, scene = model.denoiser, given["rgbd_embed"]
    time = denoiser.time_tokens(given["timestep"])
    with torch.no_grad():
        condition = torch.cat([time, given["goal_embed"].expand(-1, 3, -1), scene], dim=1)
        noise = denoiser(given["actions"], denoiser.read(condition))
        summary = denoiser.summarise(given["actions"], denoiser.read(scene, start=4))
        values = model.critic_head(summary)
    assert_close(noise, given["noise_pred"], **EXACT)
    assert_close(values[:, 0], given["critic"], **EXACT)


@pytest.mark.parametrize("kind", ["point", "nogoal"])
def test_sampling_of_the_reference(model, memory, kind):
    given = golden("navdp_standalone_sampling")
    goal = {"point": given["goal_point"][0]} if kind == "point" else {}
    noises = {"noise": given["init_noise"][None], "step_noise": given["step_noise"][:, None]}
    first = {name: tensor[:1] for name, tensor in memory.items()}
    found = model.sample([goal], **first, **noises)
    values, order = given[f"{kind}_critic"].sort(descending=True)
    assert_close(found.values[0], values, **LOOP)
    assert_close(found.actions[0], given[f"{kind}_actions"][order] / SCALE, **LOOP)
    assert_close(found.trajectories[0, :8], given[f"{kind}_positive"], **LOOP)
    assert_close(found.trajectories[0, -8:].flip(0), given[f"{kind}_negative"], **LOOP)


def test_the_published_mixture_of_goals():
    expected = json.loads((GOLDEN / "navdp_goal_mix.json").read_text())
    slots = tiny_navdp_model().goal_encoder.published_slots(len(expected), torch.device("cpu"))
    assert {str(row): kinds for row, kinds in enumerate(slots.tolist())} == expected
