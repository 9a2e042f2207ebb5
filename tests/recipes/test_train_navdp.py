"""What NavDP's recipe alone does: its published settings, cameras and groups of scenes."""

import json

import pytest
import torch
from safetensors.torch import load_file

from internnav_hf import NavDPModel, NavDPPolicy
from internnav_hf.arguments.training import parse_arguments
from internnav_hf.models.navdp.config import NavDPConfig
from tests.data.vln_n1 import intrinsic, walk, write_parquet, write_root
from tests.recipes.launch import history
from tests.recipes.navdp import GROUPS, HELD_OUT, KINDS, options, recipe, write_base

STEPS = {"eval_strategy": "steps", "eval_steps": 2}
FALLING = ("loss", "no_goal_action_loss", "mixed_goal_action_loss", "auxiliary_loss")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_base(tmp_path_factory.mktemp("navdp"))


def train(arguments: list[str]) -> None:
    recipe.main(*parse_arguments(KINDS, arguments))


def parse(*arguments: str):
    return parse_arguments(KINDS, ["--data_root=d", "--use_cpu", *arguments])


def test_the_losses_fall(base, tmp_path):
    run = {"max_steps": 60, "learning_rate": 5e-3, "logging_steps": 15, "save_steps": 60}
    train(options(base, tmp_path, **run))
    for name in FALLING:
        losses = history(tmp_path, name)
        assert losses[-1] < 0.7 * losses[0], name


def test_a_checkpoint_can_be_trained_on(base, tmp_path):
    train(options(base, tmp_path / "first", max_steps=1))
    further = {"model": tmp_path / "first", "model_config": None, "learning_rate": 1e-9}
    train(options(base, tmp_path / "second", max_steps=1, train_rgb_encoder=True, **further))
    first, second = (load_file(tmp_path / f / "model.safetensors") for f in ("first", "second"))
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, atol=1e-6, rtol=0)
    assert NavDPModel.from_pretrained(tmp_path / "second").config.train_rgb_encoder


# --------------------------------------------------------------------------- published settings


def test_what_was_executed():
    _, data_args, args = parse("--published=executed")
    assert args.per_device_train_batch_size == 32
    assert (args.learning_rate, args.num_train_epochs, args.weight_decay) == (1e-4, 1000, 0)
    assert args.lr_scheduler_type == "polynomial"
    assert (args.lr_scheduler_steps, args.lr_scheduler_kwargs) == (10_000, {"lr_end": 5e-5})
    assert (args.get_warmup_steps(10_000), args.max_grad_norm, args.bf16) == (0, 1, False)
    assert (args.save_strategy, args.save_total_limit) == ("epoch", 8)
    assert (data_args.samples_per_episode, args.dataloader_num_workers) == (50, 8)
    config = NavDPConfig()
    assert (config.image_size, config.num_memory_frames, config.action_horizon) == (224, 8, 24)
    assert (config.num_hidden_layers, config.hidden_size, config.dropout) == (16, 384, 0.1)


def test_the_end_of_the_schedule_can_be_chosen():
    _, _, args = parse("--published=executed", '--lr_scheduler_kwargs={"lr_end": 1e-6}')
    assert args.lr_scheduler_kwargs == {"lr_end": 1e-6}
    assert args.lr_scheduler_steps == 10_000


def test_without_options_the_recipe_is_as_documented():
    _, _, args = parse()
    assert args.per_device_train_batch_size == 16
    assert args.lr_scheduler_type == "cosine"
    assert args.lr_scheduler_steps is None


def test_an_option_wins_over_the_flag():
    chosen = ("--lr_scheduler_type=constant", "--per_device_train_batch_size=5")
    for published in ("executed", "documented"):
        _, _, args = parse(f"--published={published}", *chosen)
        assert args.lr_scheduler_type == "constant"
        assert args.lr_scheduler_steps is None
        assert args.per_device_train_batch_size == 5


@pytest.mark.parametrize(
    ("changes", "learns"),
    [
        ({"published": "executed"}, False),
        ({"published": "documented"}, True),
        ({"published": "documented", "train_rgb_encoder": False}, False),
    ],
)
def test_whether_the_colour_encoder_learns(base, tmp_path, changes, learns):
    train(options(base, tmp_path, max_steps=1, **changes))
    table = (tmp_path / "parameter_groups.txt").read_text()
    assert ("frozen" in table) != learns
    assert NavDPModel.from_pretrained(tmp_path).config.train_rgb_encoder == learns


# --------------------------------------------------- bad input: one clear message before any step


def test_another_camera_is_refused_before_any_step(base, tmp_path):
    write_root(tmp_path / "data", GROUPS)
    for unit in (tmp_path / "data" / GROUPS[1]).iterdir():
        for walk_index in range(3):
            poses = walk(40 + 4 * walk_index)
            write_parquet(unit, walk_index, poses, intrinsic=intrinsic(focal=80.0))
    run = {"data_root": tmp_path / "data", **HELD_OUT, **STEPS}
    with pytest.raises(ValueError, match="another camera than the model's: trained at 65.24° wide"):
        train(options(base, tmp_path / "out", **run))
    assert not (tmp_path / "out").exists()


def test_all_cameras_of_the_data_are_remembered(base, tmp_path):
    write_root(tmp_path / "data", GROUPS[:1])
    unit = next((tmp_path / "data" / GROUPS[0]).iterdir())
    write_parquet(unit, 0, walk(40), intrinsic=intrinsic(focal=80.0))
    run = {"data_root": tmp_path / "data", "max_steps": 1, "save_steps": 1}
    train(options(base, tmp_path / "out", **run))
    policy = NavDPPolicy.from_pretrained(tmp_path / "out")
    lenses = sorted(camera.hfov_deg for camera in policy.cameras)
    assert [round(lens) for lens in lenses] == [44, 65]


def test_an_unknown_size_names_the_nearest(base, tmp_path):
    (tmp_path / "sizes.yaml").write_text("num_memory_frame: 2\n")
    with pytest.raises(ValueError, match="num_memory_frames"):
        train(options(base, tmp_path, model_config=tmp_path / "sizes.yaml"))


def test_what_is_held_out_is_not_trained_on(base, tmp_path):
    train(options(base, tmp_path, max_steps=1, groups=None, save_steps=1, **HELD_OUT))
    state = json.loads((tmp_path / "trainer_state.json").read_text())
    assert state["epoch"] == pytest.approx(1 / 3)  # 24 samples, of one group
