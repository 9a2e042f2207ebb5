"""NavDP*: equal to the published network and its sampling, exact losses, what is frozen."""

import json

import pytest
import torch
from safetensors.torch import load_file

from benchmarks.navdp import PlainLoop
from internnav_hf.models.navdp.config import NavDPActionExpertConfig
from internnav_hf.models.navdp.expert import NavDPActionExpert
from internnav_hf.models.navdp.released import released_expert_keys
from tests.golden import GOLDEN
from tests.tiny.navdp import VISION, tiny_navdp, tiny_navdp_config
from tests.tiny.seeded_weights import seeded_tensor

SCALE = torch.tensor([4.0, 4.0, 1.0])


def released_weights() -> dict[str, torch.Tensor]:
    keys = json.loads((GOLDEN / "navdp_star_forward.json").read_text())["keys"]
    return {key: seeded_tensor(key, tuple(shape)) for key, shape in keys.items()}


@pytest.fixture(scope="module")
def released() -> NavDPActionExpert:
    """The published size, weights by the rule under the released names."""
    model = NavDPActionExpert(NavDPActionExpertConfig()).eval()
    model.load_state_dict(released_expert_keys(released_weights(), model.config))
    return model


def golden_views(name: str) -> tuple[dict, dict]:
    golden = load_file(GOLDEN / f"{name}.safetensors")
    rgb = golden["images_u8"].permute(0, 1, 4, 2, 3)
    return golden, {"rgb": rgb, "depth": golden["depths_mm"][..., 0] / 1000}


def test_rgbd_tokens_of_the_reference(released):
    golden, views = golden_views("navdp_star_rgbd_encoder")
    plan = torch.zeros(1, 4, released.config.plan_hidden_size)
    with torch.no_grad():
        condition = released.read_condition(plan, released.encode_views(**views))
    torch.testing.assert_close(condition[:, 1:], golden["out"], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "valid"), [("loss_all_valid", [True, True]), ("loss_only_first", [True, False])]
)
def test_loss_of_the_reference(released, name, valid):
    """Whose rows are pairs of frames, of which the second is the current one."""
    golden, views = golden_views("navdp_star_forward")
    actions = golden["traj_poses"].flatten(0, 1) / SCALE
    with torch.no_grad():
        loss = released(
            plan=golden["vlm_tokens"],
            actions=actions[:, None].repeat(1, 2, 1, 1),
            noise=golden["noise"][:, None].repeat(1, 2, 1, 1),
            timesteps=golden["timesteps"][:, None].repeat(1, 2),
            frame_mask=torch.tensor([[False, is_valid] for is_valid in valid]),
            **views,
        ).loss
    torch.testing.assert_close(loss, golden[name][0], atol=1e-5, rtol=0)


def test_sampling_of_the_reference(released):
    golden, views = golden_views("navdp_star_sampling")
    noises = {"noise": golden["init_noise"][None], "step_noise": golden["step_noise"][:, None]}
    actions = released.sample(golden["vlm_tokens"], **views, **noises)
    torch.testing.assert_close(actions[0] * SCALE, golden["out"], atol=5e-5, rtol=0)


def test_a_released_name_that_is_not_known_is_kept_for_strict_loading_to_find():
    state_dict = {"stranger.weight": torch.zeros(1), "critic_head.bias": torch.zeros(1)}
    assert released_expert_keys(state_dict, tiny_navdp_config()).keys() == {"stranger.weight"}


def test_sample_equals_the_plain_loop_on_torchs_decoder():
    model = tiny_navdp()
    inputs = model.dummy_inputs
    views = {name: inputs[name][:, :2] for name in ("rgb", "depth")}
    plain, ours = (
        sampler(
            inputs["plan"],
            **views,
            num_samples=3,
            generator=torch.Generator().manual_seed(1),
        )
        for sampler in (PlainLoop(model), model.sample)
    )
    assert ours.shape == (2, 3, 6, 3)
    torch.testing.assert_close(ours, plain, atol=1e-5, rtol=0)


def test_a_batch_samples_as_its_members_do_and_kept_features_serve_as_well():
    model = tiny_navdp()
    inputs = model.dummy_inputs
    rgb, depth, plan = inputs["rgb"][:, :2], inputs["depth"][:, :2], inputs["plan"]
    noise, step_noise = torch.randn(2, 4, 6, 3), torch.randn(9, 2, 4, 6, 3)
    both = model.sample(plan, rgb, depth, noise=noise, step_noise=step_noise)
    features = model.encode_views(rgb, depth)
    for row in range(2):
        one = slice(row, row + 1)
        alone = {"noise": noise[one], "step_noise": step_noise[:, one]}
        expected = model.sample(plan[one], rgb[one], depth[one], **alone)
        torch.testing.assert_close(both[one], expected, atol=1e-5, rtol=0)
        kept = model.sample(plan[one], views=features[one], **alone)
        torch.testing.assert_close(kept, expected, atol=1e-5, rtol=0)


def test_fewer_steps_end_in_range_too():
    model = tiny_navdp()
    inputs = model.dummy_inputs
    views = model.encode_views(inputs["rgb"][:, :2], inputs["depth"][:, :2])
    actions = model.sample(inputs["plan"], views=views, num_samples=2, num_inference_steps=5)
    assert (actions.abs() <= 1 / SCALE + 1e-6).all()
    assert actions.std() > 0


def test_bytes_and_floats_show_the_same():
    model = tiny_navdp()
    bytes_, depth = (
        torch.randint(256, (1, 2, 3, 28, 28), dtype=torch.uint8),
        torch.rand(1, 2, 28, 28),
    )
    with torch.no_grad():
        features = model.encode_views(bytes_, depth)
        torch.testing.assert_close(model.encode_views(bytes_ / 255, depth), features)


def test_the_colour_encoder_learns_only_when_asked(tmp_path):
    frozen = tiny_navdp()
    frozen.save_pretrained(tmp_path)
    for model in (frozen, NavDPActionExpert.from_pretrained(tmp_path).train()):
        parameters = model.rgbd_encoder.rgb_encoder.parameters()
        assert not any(parameter.requires_grad for parameter in parameters)
    model = tiny_navdp(train_rgb_encoder=True)
    model(**model.dummy_inputs).loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_evaluation_draws_the_same_every_time_and_training_does_not():
    model = tiny_navdp(dropout=0.0)
    inputs = {k: v for k, v in model.dummy_inputs.items() if k not in ("noise", "timesteps")}
    with torch.no_grad():
        assert model(**inputs).loss == model(**inputs).loss
        model.train()
        assert model(**inputs).loss != model(**inputs).loss


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("plan", "64"),
        ("rgb", "3, 28, 28"),
        ("depth", "28, 28"),
        ("actions", "6, 3"),
    ],
)
def test_what_is_missing_or_misshapen_is_named(name, expected):
    model = tiny_navdp()
    inputs = model.dummy_inputs
    for value, found in ((None, "None"), (inputs[name][..., :1], ".*1")):
        message = rf"{name}: found {found}.*, expected \(\.\.\., {expected}\)"
        with pytest.raises(ValueError, match=message):
            model(**{**inputs, name: value})


def test_gradient_checkpointing_changes_no_gradient():
    gradients = []
    for checkpointing in (False, True):
        model = tiny_navdp(dropout=0.0).train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        model(**model.dummy_inputs).loss.backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.requires_grad})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-6, rtol=1e-4, msg=name)


def test_config_refuses_unknown_fields_and_encoders_of_another_width():
    with pytest.raises(ValueError, match="Did you mean 'num_rgbd_queries'"):
        tiny_navdp_config(num_rgbd_query=3)
    with pytest.raises(ValueError, match="depth_vision_config.hidden_size: found 16"):
        tiny_navdp_config(depth_vision_config=VISION | {"hidden_size": 16})
