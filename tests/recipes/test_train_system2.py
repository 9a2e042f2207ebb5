"""The recipe, run for a few steps with a tiny model: alone, in two processes, resumed, killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from internnav_hf import System2Model, System2Policy, System2Processor
from internnav_hf.arguments.training import parse_arguments
from recipes import train_system2 as recipe
from tests.data.vln_ce import straight_episode, write_scene
from tests.processes import run, started
from tests.recipes.launch import accelerate, world_size
from tests.tiny.system2 import tiny_processor, tiny_system2

ROOT = Path(__file__).parents[2]
RECIPE = "recipes/train_system2.py"
KINDS = (recipe.ModelArguments, recipe.DataArguments, recipe.System2TrainingArguments)
STEPS, BATCH = 6, 4
HELD_OUT = {"eval_datasets": "r2r_val_unseen_125cm_0_30", "eval_steps": 3}
LOSSES = ("loss", "language_loss", "pixel_goal_loss")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A folder with data of two training scenes and a held-out one, and a tiny VLM."""
    folder = tmp_path_factory.mktemp("system2")
    for scene, indices in {"r2r/a": [0, 1, 2], "r2r/b": [3, 4], "r2r_val_unseen/c": [5, 6]}.items():
        episodes = [straight_episode(index, instruction=f"Walk to {index}.") for index in indices]
        write_scene(folder / scene, episodes, size=(112, 84))
    tiny_system2(use_pixel_goal_head=False).save_vlm(folder / "vlm")
    tiny_processor().save_pretrained(folder / "vlm")
    return folder


def options(base: Path, output_dir: Path, **changes) -> list[str]:
    values = {
        "data_root": base,
        "datasets": "r2r_125cm_0_30",
        "vlm": base / "vlm",
        "output_dir": output_dir,
        "cache_dir": base / "cache",
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
        "max_steps": STEPS,
        "per_device_train_batch_size": BATCH,
        "learning_rate": 1e-3,
        "vision_tower_learning_rate": 1e-4,
        "pixel_goal_loss_weight": 1,
        "head_hidden_size": 32,
        "logging_steps": 1,
        "save_steps": 2,
        "dataloader_num_workers": 0,
    }
    return [f"--{name}={value}" for name, value in (values | changes).items()]


def train(arguments: list[str]) -> None:
    recipe.main(*parse_arguments(KINDS, arguments))


def launch(arguments: list[str], *launcher: str) -> str:
    """Run the recipe as a user does; its output."""
    command = [sys.executable, *launcher, RECIPE, *arguments]
    result = run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-4000:]
    return result.stdout + result.stderr


def history(output_dir: Path, key: str) -> list[float]:
    state = json.loads((output_dir / f"checkpoint-{STEPS}" / "trainer_state.json").read_text())
    return [entry[key] for entry in state["log_history"] if key in entry]


@pytest.fixture(scope="module")
def reference(base):
    """The uninterrupted run in one process."""
    output_dir = base / "reference"
    train(options(base, output_dir, per_device_eval_batch_size=4, **HELD_OUT))
    return output_dir


def test_it_learns_and_saves_all_that_inference_needs(base, reference):
    losses = history(reference, "loss")
    assert losses[-1] < losses[0]
    for folder in (reference, reference / f"checkpoint-{STEPS}"):
        policy = System2Policy.from_pretrained(folder)
        assert policy.model.config.image_width == 112
        assert policy.processor.camera["height_m"] == 1.25
        assert policy.processor.num_history == 2
    table = (reference / "parameter_groups.txt").read_text()
    assert {line.split()[0] for line in table.splitlines()[1:]} == {
        "vlm.model.visual",
        "vlm.model.visual.merger",
        "vlm.model.language_model",
        "pixel_goal_head",
    }


def test_held_out_scenes_are_evaluated_while_training(reference):
    for name in (
        "loss",
        "pixel_goal_loss",
        "turn_loss",
        "pixel_error_px",
        "within_20px",
        "format_validity",
    ):
        assert len(history(reference, f"eval_{name}")) == 2, name
    assert (reference / "eval_results.json").is_file()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "per_device", "accumulation"),
    [("ddp.yaml", 2, 1), ("zero2.yaml", 1, 2), ("zero3.yaml", 2, 1)],
)
def test_two_processes_have_the_losses_of_one(
    base, reference, tmp_path, config, per_device, accumulation
):
    arguments = options(
        base,
        tmp_path,
        per_device_train_batch_size=per_device,
        gradient_accumulation_steps=accumulation,
        per_device_eval_batch_size=2,
        **HELD_OUT,
    )
    launch(arguments, *accelerate(config, 2))
    assert world_size(tmp_path) == 2
    is_deepspeed = any((tmp_path / "checkpoint-6").glob("global_step6/*zero_pp_rank_1*"))
    assert is_deepspeed == config.startswith("zero")
    for name in LOSSES:
        assert history(tmp_path, name) == pytest.approx(history(reference, name), abs=1e-5), name
    for name in ("grad_norm", "learning_rate"):
        assert history(tmp_path, name) == pytest.approx(history(reference, name), rel=1e-4), name
    names = [f"eval_{name}" for name in LOSSES]
    names += ["eval_pixel_error_px", "eval_action_accuracy"] if config != "zero3.yaml" else []
    for name in names:
        assert history(tmp_path, name) == pytest.approx(history(reference, name), rel=1e-4), name
    ours, expected = (load_file(f / "model.safetensors") for f in (tmp_path, reference))
    for name, weight in expected.items():
        torch.testing.assert_close(ours[name], weight, atol=1e-4, rtol=1e-3)


def test_resuming_gives_the_losses_of_the_uninterrupted_run(base, reference, tmp_path):
    train(options(base, tmp_path, resume_from_checkpoint=reference / "checkpoint-2"))
    for name in (*LOSSES, "grad_norm", "learning_rate"):
        assert history(tmp_path, name) == history(reference, name), name


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was_saved(base, reference, tmp_path):
    arguments = options(base, tmp_path, save_steps=1)
    command = [sys.executable, RECIPE, *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with started(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while not (tmp_path / "checkpoint-2" / "trainer_state.json").exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "train_results.json").exists()
    train([*arguments, "--resume_from_checkpoint=auto"])
    for name in LOSSES:
        assert history(tmp_path, name) == history(reference, name), name


def test_lora_trains_adapters_and_saves_a_whole_model(base, tmp_path):
    train(options(base, tmp_path, lora_rank=2, max_steps=2, save_steps=1))
    assert (tmp_path / "checkpoint-1" / "adapter_model.safetensors").is_file()
    table = (tmp_path / "parameter_groups.txt").read_text()
    assert "frozen" in table
    again = options(base, tmp_path / "again", lora_rank=2, max_steps=2, save_steps=2)
    train([*again, f"--resume_from_checkpoint={tmp_path / 'checkpoint-1'}"])
    model = System2Model.from_pretrained(tmp_path)
    resumed = System2Model.from_pretrained(tmp_path / "again").state_dict()
    assert all(value.equal(resumed[name]) for name, value in model.state_dict().items())
    start = System2Model.from_pretrained(base / "vlm")
    moved = "vlm.model.language_model.layers.0.self_attn.q_proj.weight"
    stayed = "vlm.model.visual.merger.mlp.0.weight"
    assert not model.state_dict()[moved].equal(start.state_dict()[moved])
    assert model.state_dict()[stayed].equal(start.state_dict()[stayed])


@pytest.mark.parametrize(("published", "rate"), [("documented", "5e-06"), ("executed", "0.001")])
def test_documented_and_executed_differ_in_the_vision_towers_rate(base, tmp_path, published, rate):
    arguments = options(base, tmp_path, max_steps=1, published=published, tune_merger=False)
    train([option for option in arguments if "vision_tower" not in option])
    rows = [line.split() for line in (tmp_path / "parameter_groups.txt").read_text().splitlines()]
    assert {row[2] for row in rows if row[0] == "vlm.model.visual"} == {rate}
    assert {row[2] for row in rows if row[0] == "vlm.model.visual.merger"} == {"frozen"}


# bad input: one clear message, before anything is written


def test_an_output_folder_in_use_is_refused(base, reference):
    with pytest.raises(ValueError, match="checkpoint-6.*--resume_from_checkpoint true"):
        train(options(base, reference))


def test_a_checkpoint_without_a_key_is_refused(base, tmp_path):
    System2Processor.from_pretrained(base / "vlm").save_pretrained(tmp_path / "broken")
    tiny_system2(use_pixel_goal_head=False).save_vlm(tmp_path / "broken")
    weights = load_file(tmp_path / "broken" / "model.safetensors")
    key = next(name for name in weights if name.endswith("layers.1.mlp.up_proj.weight"))
    save_file(
        {k: v for k, v in weights.items() if k != key},
        tmp_path / "broken" / "model.safetensors",
        {"format": "pt"},
    )
    with pytest.raises(
        ValueError, match=r"broken does not fit.*lacks 1 key.*layers\.1\.mlp\.up_proj"
    ):
        train(options(base, tmp_path / "run", vlm=tmp_path / "broken"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data_root": "nowhere"}, "nowhere"),
        ({"datasets": "r3r_125cm_0_30"}, "did you mean"),
        ({"resume_from_checkpoint": "true"}, "no complete checkpoint"),
        ({"module_learning_rates": '{"pixel_head": 1e-3}'}, "pixel_goal_head"),
    ],
)
def test_a_wrong_value_is_one_clear_error(base, tmp_path, changes, message):
    with pytest.raises(ValueError, match=f"(?i){message}"):
        train(options(base, tmp_path, **changes))


def test_a_file_with_an_unknown_field_is_refused(base, tmp_path):
    (tmp_path / "run.yaml").write_text("pixel_goal_los_weight: 1\n")
    with pytest.raises(ValueError, match=r"run\.yaml.*did you mean 'pixel_goal_loss_weight'"):
        train([str(tmp_path / "run.yaml"), *options(base, tmp_path)])


def test_without_options_the_recipe_is_the_published_one():
    model_args, data_args, args = parse_arguments(KINDS, ["--data_root=d", "--use_cpu"])
    assert model_args.vlm == "Qwen/Qwen2.5-VL-7B-Instruct"
    assert data_args.datasets.count(",") == 7
    assert (args.learning_rate, args.num_train_epochs, args.max_grad_norm) == (2e-5, 2, 1)
    assert (args.weight_decay, args.save_steps, args.save_total_limit) == (0, 5000, 5)
    assert args.lr_scheduler_type == "cosine"
    assert args.get_warmup_steps(10_000) == 30


@pytest.mark.parametrize("path", sorted(ROOT.glob("recipes/*_system2.yaml")), ids=lambda p: p.name)
def test_every_file_of_settings_is_understood(path):
    model_args, _, args = parse_arguments(KINDS, [str(path)])
    assert args.max_steps > 0
    assert model_args.vlm.startswith("outputs/")


@pytest.mark.slow
def test_lora_under_zero3_saves_whole_tensors(base, tmp_path):
    arguments = options(base, tmp_path, lora_rank=4, per_device_train_batch_size=2, max_steps=2)
    launch(arguments, *accelerate("zero3.yaml", 2))
    weights = load_file(tmp_path / "model.safetensors")
    assert all(value.numel() > 0 for value in weights.values())
    assert not any("lora" in name for name in weights)
    System2Model.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"datasets": "r2x_125cm_0_30"}, "Unknown dataset 'r2x_125cm_0_30'.*Did you mean 'r2r'"),
        ({"eval_datasets": "r2r_125cm_0_99"}, "no images of camera"),
        (
            {"vlm": "outputs/no/such/folder"},
            "--vlm outputs.*: there is no such folder",
        ),
        ({"load_best_model_at_end": True, "save_steps": 5000}, "nothing is held out"),
    ],
)
def test_what_the_user_got_wrong_comes_before_any_model(base, tmp_path, changes, message):
    changes = {"vlm": "nobody/has-this-model", **changes}
    with pytest.raises(ValueError, match=message):
        train(options(base, tmp_path, **changes))


def test_a_typo_in_the_root_of_the_data_is_told(base, tmp_path):
    (tmp_path / "traj_data").mkdir()
    changes = {"data_root": tmp_path / "traj_dat", "vlm": "nobody/has-this-model"}
    with pytest.raises(ValueError, match=r"no such folder.*Did you mean '.*traj_data'"):
        train(options(base, tmp_path / "out", **changes))
