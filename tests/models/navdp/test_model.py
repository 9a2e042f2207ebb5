"""NavDP: fast sampling equals the plain loop, goals of all kinds at once, exact losses."""

import pytest
import torch
from torch.testing import assert_close

from benchmarks.navdp_sampling import PlainLoop
from internnav_hf.models.navdp.model import NavDPModel
from tests.tiny.navdp import VISION, tiny_navdp_model, tiny_navdp_model_config


def goals_of_all_kinds(inputs: dict) -> list[dict]:
    point, image, pixel = (
        inputs[name][0] for name in ("goal_point", "goal_image", "goal_pixel_map")
    )
    both = {"point": point, "image": image}
    return [{"point": point}, {"image": image}, {"pixel": pixel}, {}, both]


def scenes(inputs: dict, num_rows: int) -> dict:
    """The two samples' memory and depth, in turn."""
    return {name: inputs[name][torch.arange(num_rows) % 2] for name in ("rgb", "depth")}


def test_sample_equals_the_plain_loop_on_torchs_decoder():
    model = tiny_navdp_model()
    inputs = model.dummy_inputs
    goals = goals_of_all_kinds(inputs)
    views = scenes(inputs, 5)
    generators = [torch.Generator().manual_seed(1) for _ in range(2)]
    paths, values = PlainLoop(model)(goals, **views, num_samples=3, generator=generators[0])
    ours = model.sample(goals, **views, num_samples=3, generator=generators[1])
    assert ours.trajectories.shape == (5, 3, 6, 3)
    assert_close(ours.trajectories, paths, atol=1e-5, rtol=0)
    assert_close(ours.values, values, atol=1e-5, rtol=0)


def test_a_batch_of_different_goals_samples_as_its_members_do():
    model = tiny_navdp_model()
    inputs = model.dummy_inputs
    goals, views = goals_of_all_kinds(inputs), scenes(inputs, 5)

    def generators() -> list[torch.Generator]:
        return [torch.Generator().manual_seed(seed) for seed in range(5)]

    together = model.sample(goals, **views, num_samples=4, generator=generators())
    tokens = model.encode_rgb(views["rgb"].flatten(0, 1)).unflatten(0, (5, 8))
    for row, generator in enumerate(generators()):
        one = slice(row, row + 1)
        alone = model.sample(
            goals[one],
            depth=views["depth"][one],
            rgb_tokens=tokens[one],
            num_samples=4,
            generator=[generator],
        )
        for ours, expected in zip(together, alone, strict=True):
            assert_close(ours[one], expected, atol=1e-5, rtol=0)


def test_samples_are_paths_from_the_robot_and_the_best_is_first():
    model = tiny_navdp_model()
    inputs = model.dummy_inputs
    views = scenes(inputs, 2)
    paths, values, actions = model.sample([{}, {}], **views, num_samples=6, num_inference_steps=5)
    assert_close(paths, actions.cumsum(2))
    assert (values.diff(dim=1) <= 0).all()
    assert (actions.abs() <= 0.25 + 1e-6).all()
    assert actions.std() > 0
    assert_close(model.values_of(actions, **views), values, atol=1e-5, rtol=0)


def test_the_critic_does_not_see_the_goal():
    model = tiny_navdp_model()
    inputs = model.dummy_inputs
    with torch.no_grad():
        value = model(**inputs).value
        assert_close(model(**{**inputs, "goal_point": inputs["goal_point"] + 1}).value, value)
        assert not torch.equal(model(**{**inputs, "depth": inputs["depth"] + 1}).value, value)


def test_the_critic_does_not_teach_the_embedding_of_actions():
    model = tiny_navdp_model(action_loss_weight=0.0, auxiliary_loss_weight=0.0)
    model(**model.dummy_inputs).loss.backward()
    assert not model.denoiser.action_embedding.weight.grad.any()
    assert model.denoiser.layers[0].linear1.weight.grad.any()


def test_a_frame_that_the_memory_lacks_is_encoded_as_zeros():
    model = tiny_navdp_model()
    frames = torch.rand(5, 3, 28, 28)
    frames[[0, 1, 3]] = 0
    with torch.no_grad():
        expected = torch.cat([model.rgbd_encoder.encode_rgb(frame[None]) for frame in frames])
        assert_close(model.encode_rgb(frames), expected, atol=1e-6, rtol=0)


def test_bytes_and_floats_show_the_same():
    model = tiny_navdp_model()
    inputs = model.dummy_inputs
    for name in ("rgb", "goal_image", "goal_pixel_map"):
        inputs[name] = (255 * inputs[name]).to(torch.uint8)
    floats = {name: t / 255 if t.dtype == torch.uint8 else t for name, t in inputs.items()}
    with torch.no_grad():
        assert_close(model(**floats).loss, model(**inputs).loss)


def test_slots_are_the_published_ones_unless_given():
    model = tiny_navdp_model()
    inputs = model.dummy_inputs
    with torch.no_grad():
        default = model(**inputs).loss
        given = torch.tensor([[0, 0, 0], [1, 0, 0]])
        assert_close(model(**inputs, goal_slots=given).loss, default)
        assert not torch.equal(model(**inputs, goal_slots=2 - given).loss, default)


def test_what_does_not_count_may_be_anything():
    model = tiny_navdp_model(dropout=0.0).train()
    inputs = model.dummy_inputs
    for name in ("rgb", "actions", "value", "goal_point"):
        inputs[name][1] = torch.nan
    model(**inputs, sample_mask=torch.tensor([True, False])).loss.backward()
    gradients = [p.grad for p in model.parameters() if p.requires_grad]
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_what_does_not_count_has_slots_even_without_points():
    model = tiny_navdp_model(goal_kinds=("image", "none"))
    inputs, mask = model.dummy_inputs, torch.tensor([True, False])
    with torch.no_grad():
        loss = model(**inputs, sample_mask=mask).loss
        given = torch.tensor([[1, 1, 1], [9, 9, 9]])
        assert_close(model(**inputs, sample_mask=mask, goal_slots=given).loss, loss)


@pytest.mark.parametrize(
    ("kinds", "losses"),
    [
        (("point",), {"mixed_goal_action_loss", "critic_loss"}),
        (("none",), {"no_goal_action_loss", "critic_loss"}),
        (
            ("pixel", "point", "none"),
            {
                "no_goal_action_loss",
                "mixed_goal_action_loss",
                "critic_loss",
                "auxiliary_loss",
            },
        ),
    ],
)
def test_a_model_for_some_kinds_learns_and_takes_only_those(kinds, losses, tmp_path):
    model = tiny_navdp_model(goal_kinds=kinds)
    inputs = model.dummy_inputs
    del inputs["goal_image"]
    output = model(**inputs)
    assert set(output.loss_counts) == losses
    assert {name for name in output if name.endswith("_loss")} == losses
    output.loss.backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
    model.save_pretrained(tmp_path)
    loaded = NavDPModel.from_pretrained(tmp_path)
    assert loaded.config.goal_kinds == kinds
    goals = goals_of_all_kinds(model.dummy_inputs)[:4]
    for kind, goal in zip(("point", "image", "pixel", "none"), goals, strict=True):
        if kind in kinds:
            assert loaded.sample([goal], **scenes(inputs, 1), num_samples=1).values.shape == (1, 1)
        else:
            with pytest.raises(ValueError, match=r"goal: found .*, expected one of .*trained for"):
                loaded.sample([goal], **scenes(inputs, 1), num_samples=1)


def test_seven_channels_of_a_pixel_goal():
    model = tiny_navdp_model(num_pixel_goal_channels=7)
    inputs = model.dummy_inputs
    assert inputs["goal_pixel_map"].shape == (2, 7, 28, 28)
    assert model(**inputs).loss.isfinite()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("rgb", r"B, 8, 3, 28, 28"),
        ("depth", "B, 28, 28"),
        ("perturbed_actions", "B, 6, 3"),
        ("value", "B,"),
        ("goal_point", "B, 3"),
        ("goal_image", "B, 6, 28, 28"),
        ("goal_pixel_map", "B, 4, 28, 28"),
    ],
)
def test_what_is_missing_or_misshapen_is_named(name, expected):
    model = tiny_navdp_model()
    inputs = model.dummy_inputs
    for value, found in ((None, "None"), (inputs[name][..., None], r".*1\)")):
        with pytest.raises(ValueError, match=rf"{name}: found {found}, expected \({expected}\)"):
            model(**{**inputs, name: value})


def test_a_goal_and_a_generator_for_each_scene():
    model = tiny_navdp_model()
    views = scenes(model.dummy_inputs, 2)
    with pytest.raises(ValueError, match="goal: found 1, expected 2"):
        model.sample([{}], **views)
    for count in (1, 3):
        with pytest.raises(ValueError, match=f"generator: found {count}, expected 2"):
            model.sample([{}, {}], **views, generator=[torch.Generator()] * count)


def test_the_colour_encoder_learns_only_when_asked(tmp_path):
    frozen = tiny_navdp_model()
    frozen.save_pretrained(tmp_path)
    for model in (frozen, NavDPModel.from_pretrained(tmp_path).train()):
        parameters = model.rgbd_encoder.rgb_encoder.parameters()
        assert not any(parameter.requires_grad for parameter in parameters)
    model = tiny_navdp_model(train_rgb_encoder=True)
    model(**model.dummy_inputs).loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_evaluation_draws_the_same_every_time_and_training_does_not():
    model = tiny_navdp_model(dropout=0.0)
    inputs = {k: v for k, v in model.dummy_inputs.items() if k not in ("noise", "timesteps")}
    with torch.no_grad():
        assert model(**inputs).loss == model(**inputs).loss
        model.train()
        assert model(**inputs).loss != model(**inputs).loss


def test_gradient_checkpointing_changes_no_gradient():
    gradients = []
    for checkpointing in (False, True):
        model = tiny_navdp_model(dropout=0.0).train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        model(**model.dummy_inputs).loss.backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.requires_grad})
    for name, gradient in gradients[0].items():
        assert_close(gradients[1][name], gradient, atol=1e-6, rtol=1e-4, msg=name)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"num_memory_frame": 4}, "Did you mean 'num_memory_frames'"),
        ({"num_pixel_goal_channels": 5}, "num_pixel_goal_channels: found 5, expected one of"),
        ({"channel_order": "gbr"}, "channel_order: found 'gbr'"),
        ({"num_memory_frames": 0}, "num_memory_frames: found 0, expected 1 or more"),
        ({"action_horizon": 0}, "action_horizon: found 0, expected 1 or more"),
        ({"action_scale": (4.0, 4.0)}, r"action_scale: found \(4.0, 4.0\), expected three"),
        ({"action_scale": (4.0, 4.0, 0.0)}, "action_scale: found .*, expected three positive"),
        ({"goal_kinds": ()}, "goal_kinds: found"),
        ({"goal_kinds": ("points",)}, "goal_kinds: found"),
        ({"goal_vision_config": VISION | {"patch_size": 5}}, "multiple of goal_vision_config"),
        ({"vision_config": VISION | {"hidden_size": 16}}, "vision_config.hidden_size: found 16"),
    ],
)
def test_config_refuses(fields, error):
    with pytest.raises(ValueError, match=error):
        tiny_navdp_model_config(**fields)


def test_fields_given_when_loading_are_checked_too(tmp_path):
    tiny_navdp_model().save_pretrained(tmp_path)
    loaded = NavDPModel.from_pretrained(tmp_path, train_rgb_encoder=True, vision_config=VISION)
    assert all(parameter.requires_grad for parameter in loaded.parameters())
    with pytest.raises(ValueError, match="channel_order: found 'gbr'"):
        NavDPModel.from_pretrained(tmp_path, channel_order="gbr")


def test_goal_encoders_are_as_large_as_that_of_depth_unless_given():
    small = VISION | {"hidden_size": 16}
    assert tiny_navdp_model_config().goal_vision_config.hidden_size == 32
    model = tiny_navdp_model(goal_vision_config=small)
    assert model.config.goal_vision_config.hidden_size == 16
    assert model(**model.dummy_inputs).loss.isfinite()
