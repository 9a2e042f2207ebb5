"""DD-PPO's agent: sequences and steps, views, continuous actions, statistics, first weights."""

import pytest
import torch
from torch.testing import assert_close

from internnav_hf.models.ddppo.config import DDPPOConfig
from internnav_hf.models.ddppo.model import DDPPOModel
from tests.tiny.ddppo import SIZES, tiny_ddppo

STEPS = ("pointgoal", "depth", "rgb", "previous_actions", "masks")


@torch.no_grad()
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"views": ("rgb", "depth"), "block_type": "resnext", "squeeze_excite": True},
        {"views": ()},
        {"action_space": "continuous", "num_actions": 2, "has_value_head": False},
    ],
)
def test_a_sequence_at_once_is_its_steps_one_by_one(fields):
    model = tiny_ddppo(**fields)
    batch = {key: value for key, value in model.dummy_inputs.items() if key in STEPS}
    batch["masks"][0, 2] = False
    whole, state, logits = model(**batch), None, []
    for t in range(3):
        step = model(**{k: v[:, t : t + 1] for k, v in batch.items()}, hidden_states=state)
        state = step.hidden_states
        logits.append(step.logits)
    assert_close(torch.cat(logits, 1), whole.logits, atol=1e-6, rtol=1e-5)
    assert_close(state, whole.hidden_states, atol=1e-6, rtol=1e-5)
    assert (whole.state_values is None) == (not model.config.has_value_head)


@torch.no_grad()
def test_at_the_first_step_nothing_was_before():
    model = tiny_ddppo()
    batch = {key: value for key, value in model.dummy_inputs.items() if key in STEPS}
    expected = model(**batch).logits
    batch["previous_actions"][:, 0] = 3
    state = torch.randn(2, 4, 32, generator=torch.Generator().manual_seed(0))
    assert_close(model(**batch, hidden_states=state).logits, expected)
    del batch["masks"]
    assert_close(model(**batch).logits, expected)
    assert not torch.allclose(model(**batch, hidden_states=state).logits, expected)


@torch.no_grad()
def test_continuous_actions_are_a_bounded_gaussian():
    model = tiny_ddppo(action_space="continuous", num_actions=2)
    chances = model.distribution(torch.tensor([[0.0, 99.0, -99.0, 99.0]]))
    assert_close(chances.mean, torch.tensor([[0.0, 1.0]]))
    assert_close(chances.stddev.log(), torch.tensor([[-5.0, 2.0]]))
    assert chances.log_prob(torch.zeros(1, 2)).shape == (1,)


@torch.no_grad()
def test_statistics_are_those_of_all_frames_seen_in_training():
    model = tiny_ddppo(views=("rgb", "depth")).train()
    seen = []
    for seed in range(2):
        generator = torch.Generator().manual_seed(seed)
        depth = torch.rand(1, 2 + seed, 32, 48, 1, generator=generator)
        rgb = torch.randint(256, (1, 2 + seed, 32, 48, 3), generator=generator, dtype=torch.uint8)
        model(torch.zeros(1, 2 + seed, 2), depth=depth, rgb=rgb)
        seen.append(torch.cat([rgb / 255, depth], -1)[0].permute(0, 3, 1, 2))
    halved = torch.nn.functional.avg_pool2d(torch.cat(seen), 2)
    statistics = model.visual_encoder.statistics
    variance, mean = torch.var_mean(halved, (0, 2, 3), correction=0, keepdim=True)
    assert_close(statistics.mean, mean)
    assert_close(statistics.variance, variance)
    assert statistics.count == 5
    model.eval()(torch.zeros(1, 1, 2), depth=depth[:, :1], rgb=rgb[:, :1])
    assert statistics.count == 5


def test_the_first_weights_are_the_published():
    model = tiny_ddppo()
    weights = model.state_dict()
    head, value = weights["action_head.weight"], weights["value_head.weight"]
    assert_close(head @ head.T, 1e-4 * torch.eye(4), atol=1e-8, rtol=0)
    assert_close(value @ value.T, torch.ones(1, 1))
    recurrent = weights["state_encoder.rnn.weight_hh_l1"]
    assert_close(recurrent.T @ recurrent, torch.eye(32), atol=1e-5, rtol=0)
    assert not model.state_encoder.rnn.bias_ih_l0.any()
    bound = model.visual_projection.weight.shape[1] ** -0.5  # torch's own
    assert 0.9 * bound < model.visual_projection.weight.abs().max() <= bound


@pytest.mark.parametrize("size", [(224, 224), (256, 256), (212, 240)])
def test_published_sizes_leave_the_published_grid(size):
    config = DDPPOConfig(image_height=size[0], image_width=size[1])
    with torch.device("meta"):
        model = DDPPOModel(config)
        features = model.visual_encoder(torch.empty(1, 1, *size))
    assert features.shape == (1, 128, 4, 4)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"depth": None}, r"depth: found None, expected \(2, 3, 32, 48, 1\)"),
        ({"depth": torch.zeros(2, 3, 32, 48)}, r"depth: found \(2, 3, 32, 48\), expected"),
        (
            {"pointgoal": torch.zeros(2, 3, 3)},
            r"pointgoal: found \(2, 3, 3\), expected \(2, 3, 2\)",
        ),
        ({"masks": torch.ones(3, 2)}, r"masks: found \(3, 2\), expected \(2, 3\)"),
        ({"hidden_states": torch.zeros(2, 2, 32)}, r"hidden_states: .* expected \(2, 4, 32\)"),
    ],
)
def test_inputs_of_other_shapes_are_named(change, told):
    model = tiny_ddppo()
    with pytest.raises(ValueError, match=f"DDPPOModel: {told}"):
        model(**(model.dummy_inputs | change))


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"views": ("depth", "thermal")}, "views: .*some of"),
        ({"block_type": "plain"}, "block_type: found 'plain', expected one of"),
        ({"base_planes": 5}, "base_planes: found 5, expected an even number"),
        ({"min_depth_m": 10.0}, "max_depth_m: found 10.0, expected metres, more than min_depth_m"),
        ({"turn_angle_deg": 0}, "turn_angle_deg: found 0, expected degrees"),
        ({"actoin_space": "discrete"}, "Did you mean 'action_space'"),
    ],
)
def test_broken_configurations_are_one_error(fields, told):
    with pytest.raises(ValueError, match=told):
        DDPPOConfig(**(SIZES | fields))
