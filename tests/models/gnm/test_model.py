"""What is particular to GNM, ViNT and NoMaD: hidden goals, shared views, refused inputs."""

import pytest
import torch
from torch.testing import assert_close

from internnav_hf.models.gnm.config import GNMConfig, NoMaDConfig, ViNTConfig
from tests.tiny.cases import image_goal_batch
from tests.tiny.gnm import CLASSES, EFFICIENTNET, tiny_image_goal


@pytest.mark.parametrize("name", ["gnm", "vint"])
def test_several_goals_share_the_views(name):
    model = tiny_image_goal(name)
    given = model.dummy_inputs
    rgb, goals = given["rgb"], given["goal_image"]
    with torch.no_grad():
        expected = model.predict(rgb[[0, 0]], goals)
        found = model.predict(rgb[[0, 0]], goals, model.read(rgb[:1])[[0, 0]])
    for ours, theirs in zip(found, expected, strict=True):
        assert_close(ours, theirs)


def test_several_goals_share_the_views_of_nomad():
    model = tiny_image_goal("nomad")
    given = model.dummy_inputs
    rgb, rest = given["rgb"][[0, 0]], (given["goal_image"], given["goal_mask"])
    with torch.no_grad():
        expected = model.condition(rgb, *rest)
        assert_close(model.condition(rgb, *rest, model.read(rgb[:1])[[0, 0]]), expected)


def test_a_hidden_goal_is_not_seen():
    model = tiny_image_goal("nomad")
    given = model.dummy_inputs
    shown = torch.tensor([True, True])
    with torch.no_grad():
        first = model.condition(given["rgb"], given["goal_image"], shown)
        other = model.condition(given["rgb"], 1 - given["goal_image"], shown)
        hidden = model.condition(given["rgb"], given["goal_image"], ~shown)
        again = model.condition(given["rgb"], 1 - given["goal_image"], ~shown)
    assert not torch.allclose(first, other)
    assert_close(hidden, again)


def test_samples_of_a_robot_do_not_depend_on_the_others():
    model = tiny_image_goal("nomad")
    given = model.dummy_inputs
    views = [given["rgb"], given["goal_image"], given["goal_mask"]]

    def generators(*seeds):
        return [torch.Generator().manual_seed(seed) for seed in seeds]

    both = model.sample(*views, num_samples=3, generator=generators(1, 2))
    alone = model.sample(*(one[1:] for one in views), num_samples=3, generator=generators(2))
    assert both.waypoints.shape == (2, 3, 8, 2)
    assert_close(both.waypoints[1:], alone.waypoints, atol=1e-5, rtol=1e-5)
    assert_close(both.distance[1:], alone.distance, atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="generator: found 1, expected 2"):
        model.sample(*views, generator=generators(1))


@pytest.mark.parametrize("name", CLASSES)
def test_batch_norm_has_the_published_momentum(name):
    momenta = {
        module.momentum
        for module in tiny_image_goal(name).modules()
        if isinstance(module, torch.nn.BatchNorm2d)
    }
    assert momenta == {"gnm": {0.1}, "vint": {0.01}, "nomad": set()}[name]


@pytest.mark.parametrize("name", CLASSES)
def test_a_new_model_sees_its_images(name):
    model = tiny_image_goal(name).train()
    norms = (torch.nn.BatchNorm2d, torch.nn.GroupNorm)
    factors = [module.weight for module in model.modules() if isinstance(module, norms)]
    assert all(bool((factor == 1).all()) for factor in factors)
    views = torch.rand(16, 3, 3, 32, 40, generator=torch.Generator().manual_seed(0))
    assert model.read(views).std(0).mean() > 0.05


def test_features_of_images_are_dropped_in_training_as_published():
    vision = EFFICIENTNET | {"drop_connect_rate": 0.0}
    encoder = tiny_image_goal("vint", vision_config=vision).rgb_encoder.train()
    images = torch.rand(64, 3, 32, 40, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    zeros = (encoder(images) == 0).float().mean()
    assert 0.17 < zeros < 0.23
    assert torch.equal(encoder.eval()(images), encoder.features(images).mean((2, 3)))


@pytest.mark.parametrize("name", CLASSES)
def test_a_misshapen_input_is_named(name):
    model = tiny_image_goal(name)
    batch = image_goal_batch(model)
    for key in ("rgb", "goal_image", "actions"):
        wrong = batch | {key: batch[key][..., :-1]}
        with pytest.raises(ValueError, match=rf"{type(model).__name__}: {key}: found .*expected"):
            model(**wrong)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: GNMConfig(context_size=5), "GNMConfig has no field 'context_size'"),
        (lambda: GNMConfig(waypoint_spacing_m=0.0), "waypoint_spacing_m: found 0.0"),
        (lambda: ViNTConfig(waypoint_spacing_m={"a": 0.2, "b": -1.0}), "waypoint_spacing_m"),
        (lambda: ViNTConfig(num_memory_frames=0), "num_memory_frames: found 0"),
        (lambda: ViNTConfig(num_attention_heads=5), "hidden_size: found 512, expected a multiple"),
        (lambda: NoMaDConfig(action_horizon=6), "action_horizon: found 6, expected a multiple"),
        (lambda: NoMaDConfig(predicts_heading=True), "NoMaD has no headings"),
        (lambda: NoMaDConfig(step_max=(-3.0, 4.0)), "step_max: found"),
        (lambda: NoMaDConfig(distance_mask="goal"), "distance_mask: found 'goal'"),
    ],
)  # fmt: skip
def test_a_configuration_that_cannot_be_is_one_error(make, told):
    with pytest.raises(ValueError, match=told):
        make()
