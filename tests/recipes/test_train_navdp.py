"""NavDP's recipe, some steps with a tiny model: alone, resumed, killed, in two processes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from internnav_hf import NavDPModel, NavDPPolicy
from internnav_hf.arguments.training import parse_arguments
from internnav_hf.models.navdp.config import NavDPConfig
from recipes import train_navdp as recipe
from tests.data.vln_n1 import intrinsic, walk, write_parquet, write_root
from tests.processes import started
from tests.recipes.fixed_navdp_noise import FixedNoiseCollator
from tests.recipes.launch import accelerate, history, launch, world_size
from tests.tiny.navdp import SIZES

ROOT = Path(__file__).parents[2]
KINDS = (recipe.ModelArguments, recipe.DataArguments, recipe.NavDPTrainingArguments)
GROUPS = ("simulated_train", "simulated_val_unseen")
HELD_OUT = {"eval_groups": GROUPS[1], "num_eval_samples": 4, "num_trajectories": 2}
STEPS = {"eval_strategy": "steps", "eval_steps": 2}
LOSSES = ("no_goal_action_loss", "mixed_goal_action_loss", "critic_loss", "auxiliary_loss")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Two groups of two scenes with three walks each, and the sizes of a tiny model."""
    folder = tmp_path_factory.mktemp("navdp")
    write_root(folder / "data", GROUPS)
    sizes = SIZES | {"num_memory_frames": 2, "dropout": 0.0}
    (folder / "model.yaml").write_text(yaml.safe_dump(sizes))
    return folder


def options(base: Path, output_dir: Path, **changes) -> list[str]:
    """The recipe's command line; an option that is None is left out."""
    values = {
        "data_root": base / "data",
        "model_config": base / "model.yaml",
        "rgb_encoder": "random",
        "published": "executed",
        "groups": GROUPS[0],
        "samples_per_episode": 4,  # 24 samples an epoch
        "output_dir": output_dir,
        "cache_dir": base / "cache",
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
        "max_steps": 2,
        "per_device_train_batch_size": 8,
        "learning_rate": 1e-3,
        "logging_steps": 1,
        "save_strategy": "steps",
        "save_steps": 2,
        "dataloader_num_workers": 0,
    }
    chosen = {name: value for name, value in (values | changes).items() if value is not None}
    return [f"--{name}={value}" for name, value in chosen.items()]


def train(arguments: list[str]) -> None:
    recipe.main(*parse_arguments(KINDS, arguments))


def parse(*arguments: str):
    return parse_arguments(KINDS, ["--data_root=d", "--use_cpu", *arguments])


def test_two_steps_log_every_loss_and_metric_and_leave_a_model(base, tmp_path):
    train(options(base, tmp_path, **HELD_OUT, **STEPS))
    for name in LOSSES:
        assert len(history(tmp_path, name)) == 2
        assert history(tmp_path, f"eval_{name}")
    for name in ("eval_point_ade_m", "eval_none_collision_share", "eval_straight_ade_m"):
        assert history(tmp_path, name)
    assert "frozen" in (tmp_path / "parameter_groups.txt").read_text()  # the colour encoder
    model = NavDPModel.from_pretrained(tmp_path)
    assert model.config.camera["height_m"] == 0.5
    assert model.config.num_memory_frames == 2
    assert not model.config.train_rgb_encoder
    assert "`simulated_train`" in (tmp_path / "README.md").read_text()


def test_the_losses_fall(base, tmp_path):
    run = {"max_steps": 60, "learning_rate": 5e-3, "logging_steps": 15, "save_steps": 60}
    train(options(base, tmp_path, **run))
    for name in ("loss", "no_goal_action_loss", "mixed_goal_action_loss", "auxiliary_loss"):
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


# ------------------------------------------------------------------- resuming, several processes


@pytest.mark.parametrize("stop_at", [2, 4])
def test_resuming_gives_the_losses_of_the_uninterrupted_run(base, tmp_path, stop_at):
    """Three steps an epoch: it goes on in the middle of the first and of the second."""
    run = {"max_steps": 6, "save_total_limit": None, "gradient_accumulation_steps": 2}
    run |= {"per_device_train_batch_size": 4}
    train(options(base, tmp_path / "whole", **run))
    checkpoint = tmp_path / "whole" / f"checkpoint-{stop_at}"
    train(options(base, tmp_path / "again", resume_from_checkpoint=checkpoint, **run))
    for name in ("loss", *LOSSES, "grad_norm", "learning_rate"):
        assert history(tmp_path / "again", name) == history(tmp_path / "whole", name), name
    ours, expected = (load_file(tmp_path / run / "model.safetensors") for run in ("again", "whole"))
    assert all(ours[name].equal(value) for name, value in expected.items())


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was_saved(base, tmp_path):
    run = {"max_steps": 6, "save_steps": 1, "dataloader_num_workers": 1}
    train(options(base, tmp_path / "whole", **run))
    arguments = options(base, tmp_path / "killed", **run)
    command = [sys.executable, "recipes/train_navdp.py", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with started(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while not (tmp_path / "killed" / "checkpoint-2" / "trainer_state.json").exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed" / "train_results.json").exists()
    train([*arguments, "--resume_from_checkpoint=auto"])
    assert history(tmp_path / "killed", "loss") == history(tmp_path / "whole", "loss")


@pytest.mark.slow
@pytest.mark.parametrize(("per_device", "accumulation"), [(4, 1), (2, 2)])
def test_two_processes_have_the_losses_of_one(
    base, tmp_path, monkeypatch, per_device, accumulation
):
    """Noise belongs to the sample here; four steps reach into the second epoch, whose draws are
    others.
    """
    run = {"max_steps": 4, **HELD_OUT, **STEPS}
    monkeypatch.setattr(recipe, "NavDPCollator", FixedNoiseCollator)
    train(options(base, tmp_path / "one", **run))
    run |= {"per_device_train_batch_size": per_device, "gradient_accumulation_steps": accumulation}
    arguments = options(base, tmp_path / "two", **run)
    launcher = accelerate("ddp.yaml", 2)
    done = launch(arguments, *launcher, script="tests/recipes/fixed_navdp_noise.py")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert world_size(tmp_path / "two") == 2
    for name in (
        "loss",
        *LOSSES,
        "eval_loss",
        "eval_point_ade_m",
        "eval_critic_pooled_correlation",
    ):
        expected = history(tmp_path / "one", name)
        assert expected
        assert history(tmp_path / "two", name) == pytest.approx(expected, abs=1e-4), name
    expected = history(tmp_path / "one", "grad_norm")
    assert history(tmp_path / "two", "grad_norm") == pytest.approx(expected, rel=1e-3)
    one, two = (load_file(tmp_path / folder / "model.safetensors") for folder in ("one", "two"))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, atol=1e-4, rtol=1e-3)


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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data_root": "nowhere"}, "nowhere"),
        ({"groups": "hssd_zed"}, r"found no group hssd_zed; there is \['simulated_train"),
        ({"groups": GROUPS[0], "eval_groups": GROUPS[0]}, "all held out"),
        ({"model_config": "nowhere.yaml"}, "nowhere.yaml: there is no such file"),
        ({"model": "./nowhere"}, "--model ./nowhere: there is no such folder"),
        ({"dataloader_persistent_workers": True}, "do not see that a new epoch"),
        ({"rgb_encoder": "./nowhere"}, "--rgb_encoder ./nowhere: there is no such folder"),
    ],
)
def test_a_wrong_value_is_one_clear_error(base, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        train(options(base, tmp_path, **changes))
    assert not (tmp_path / "checkpoint-2").exists()


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


@pytest.mark.parametrize("path", sorted(ROOT.glob("recipes/*_navdp.yaml")), ids=lambda p: p.name)
def test_every_file_of_settings_is_understood(path):
    model_args, _, args = parse_arguments(KINDS, [str(path)])
    assert args.max_steps > 0
    sizes = yaml.safe_load((ROOT / model_args.model_config).read_text())
    assert NavDPConfig(**sizes).image_size == sizes["image_size"]
