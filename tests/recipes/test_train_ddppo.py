"""What DD-PPO's recipe alone does: the loss falls, it starts from released weights, and PPO."""

import pytest
import torch

from internnav_hf.arguments.training import parse_arguments
from internnav_hf.policies.loading import load_policy
from internnav_hf.training.ddppo import start_ddppo
from tests.models.ddppo.test_released import SIZE, released
from tests.recipes.ddppo import KINDS, options, recipe, write_base
from tests.recipes.launch import history
from tests.tiny.ddppo import tiny_ddppo


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_base(tmp_path_factory.mktemp("ddppo"))


def train(arguments: list[str]) -> None:
    recipe.main(*parse_arguments(KINDS, arguments))


def test_the_loss_falls_and_a_checkpoint_can_be_trained_on(base, tmp_path):
    run = {"max_steps": 60, "learning_rate": 5e-3, "logging_steps": 15, "save_steps": 60}
    run["lr_scheduler_type"] = "constant"
    train(options(base, tmp_path / "first", **run))
    losses = history(tmp_path / "first", "loss")
    assert losses[-1] < 0.75 * losses[0]
    further = {"init_from": tmp_path / "first", "model_config": None, "max_steps": 1}
    train(options(base, tmp_path / "second", **further, learning_rate=1e-9))
    assert history(tmp_path / "second", "action_loss")[0] < 1.1 * losses[-1]


def test_it_starts_from_released_weights(tmp_path):
    model = tiny_ddppo()
    weights = {f"actor_critic.{key}": value for key, value in released(model).items()}
    torch.save({"state_dict": weights}, tmp_path / "gibson.pth")
    (tmp_path / "sizes.yaml").write_text("".join(f"{k}: {v}\n" for k, v in SIZE.items()))
    found = start_ddppo(str(tmp_path / "gibson.pth"), str(tmp_path / "sizes.yaml"))
    expected = model.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in found.state_dict().items())


def test_ppo_goes_on_from_a_clone_and_needs_no_data(base, tmp_path):
    train(options(base, tmp_path / "clone", max_steps=1))
    asked = {"algorithm": "ppo", "init_from": tmp_path / "clone", "model_config": None}
    asked |= {"data_root": None, "groups": None, "num_environments": 2, "rollout_steps": 4}
    asked |= {"scenes": 1, "num_rooms": [1, 1], "num_objects": [1, 1], "grid_resolution": 0.1}
    train(options(base, tmp_path / "ppo", max_steps=4, save_steps=4, **asked))
    assert sum(history(tmp_path / "ppo", "frames")) == 8
    policy = load_policy(tmp_path / "ppo")
    assert policy.model.config.turn_angle_deg == 15  # the clone's
    assert policy.camera.height_m == 1.25
    train(options(base, tmp_path / "ppo", max_steps=8, resume_from_checkpoint="auto", **asked))
    assert sum(history(tmp_path / "ppo", "frames")) == 16


def test_cloning_needs_data(base, tmp_path):
    with pytest.raises(ValueError, match="--data_root: expected the folder of walks to clone"):
        train(options(base, tmp_path, data_root=None))
