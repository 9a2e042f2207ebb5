"""What DD-PPO's recipe does: it goes on from a clone, without data, and knows no other options."""

import pytest

from internnav_hf.arguments.training import parse_arguments
from internnav_hf.policies.loading import load_policy
from tests.recipes.ddppo import KINDS, options, recipe
from tests.recipes.launch import history
from tests.tiny.ddppo import tiny_ddppo

CAMERA = {"width": 16, "height": 16, "height_m": 1.25}


def train(arguments: list[str]) -> None:
    recipe.main(*parse_arguments(KINDS, arguments))


@pytest.fixture
def clone(tmp_path):
    model = tiny_ddppo(image_height=16, image_width=16, turn_angle_deg=15.0, camera=CAMERA)
    model.save_pretrained(tmp_path / "clone")
    return tmp_path / "clone"


def test_it_goes_on_from_a_clone_and_needs_no_data(clone, tmp_path):
    train(options(tmp_path / "ppo", init_from=clone))
    assert sum(history(tmp_path / "ppo", "frames")) == 8
    policy = load_policy(tmp_path / "ppo")
    assert policy.model.config.turn_angle_deg == 15  # the clone's
    assert policy.camera.height_m == 1.25
    train(options(tmp_path / "ppo", init_from=clone, max_steps=8, resume_from_checkpoint="auto"))
    assert sum(history(tmp_path / "ppo", "frames")) == 16


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data_root": "DATA"}, "data_root"),
        ({"inflection_coefficient": 2}, "inflection_coefficient"),
    ],
)
def test_options_of_cloning_are_unknown(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        train(options(tmp_path, **changes))


@pytest.mark.parametrize("name", ["per_device_train_batch_size", "num_train_epochs"])
def test_what_follows_from_ppo_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match=f"{name}: found 5, expected none: .*num_minibatches"):
        train(options(tmp_path, **{name: 5}))


def test_the_optimiser_is_the_published_one(tmp_path):
    args = parse_arguments(KINDS, [f"--output_dir={tmp_path}", "--use_cpu"])[-1]
    found = (args.learning_rate, args.adam_epsilon, args.max_grad_norm, args.lr_scheduler_type)
    assert found == (2.5e-4, 1e-5, 0.2, "constant")
