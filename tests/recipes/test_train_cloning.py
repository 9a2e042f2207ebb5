"""What the recipe of cloning alone does: the loss falls, and it starts from released weights."""

import pytest
import torch

from internnav_hf.arguments.training import parse_arguments
from internnav_hf.training.ddppo import start_ddppo
from tests.models.ddppo.test_released import SIZE, released
from tests.recipes.cloning import HELD_OUT, KINDS, options, recipe, write_base
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


def test_held_out_walks_are_opened_with_the_steps_of_the_training_data(base, tmp_path, monkeypatch):
    """Which those without actions are laid in; the walks' turns are 15 degrees, the model's 10."""
    turns = []

    class Seen(recipe.DDPPODataset):
        def __init__(self, root, config, *args, **kwargs):
            turns.append(config.turn_angle_deg)
            super().__init__(root, config, *args, **kwargs)

    monkeypatch.setattr(recipe, "DDPPODataset", Seen)
    train(options(base, tmp_path, **HELD_OUT, max_steps=1, save_steps=1))
    assert turns == [10.0, 15.0]
