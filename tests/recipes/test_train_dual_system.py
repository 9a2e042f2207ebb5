"""The dual system's recipe, some steps with tiny parts: alone, resumed, in two processes."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from internnav_hf import DualSystemModel, DualSystemPolicy, System2Model
from internnav_hf.arguments.training import parse_arguments
from recipes import train_dual_system as recipe
from tests.recipes.dual import EXPERTS, options, write_base
from tests.recipes.fixed_noise import FixedNoiseCollator
from tests.recipes.launch import ROOT, accelerate, history, launch, world_size

KINDS = (recipe.ModelArguments, recipe.DataArguments, recipe.DualTrainingArguments)
HELD_OUT = {"eval_datasets": "r2r_val_unseen_125cm_0_30", "eval_steps": 2}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_base(tmp_path_factory.mktemp("dual"))


def train(arguments: list[str]) -> None:
    recipe.main(*parse_arguments(KINDS, arguments))


def parameter_groups(output_dir: Path) -> dict[str, str]:
    """Module -> its learning rate, or "frozen"."""
    lines = (output_dir / "parameter_groups.txt").read_text().splitlines()[1:]
    return {line.split()[0]: line.split()[2] for line in lines}


@pytest.mark.parametrize("system1", EXPERTS)
def test_two_steps_train_the_expert_and_nothing_of_system2(base, tmp_path, system1):
    train(options(base, tmp_path, system1, **HELD_OUT))
    assert len(history(tmp_path, "action_loss")) == 2
    assert not history(tmp_path, "latent_drift")
    assert history(tmp_path, "eval_action_loss")
    groups = parameter_groups(tmp_path)
    assert groups["action_expert"] == groups["latent_queries"] == "0.001"
    assert {rate for name, rate in groups.items() if "system2" in name} == {"frozen"}
    model = DualSystemModel.from_pretrained(tmp_path)
    start = System2Model.from_pretrained(base / "system2").state_dict()
    for name, value in model.system2.state_dict().items():
        assert value.equal(start[name]), name
    assert DualSystemPolicy.from_pretrained(tmp_path).processor.camera["height_m"] == 1.25
    assert "DualSystemPolicy" in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize("system1", ["nextdit_async", "navdp_async"])
def test_resuming_gives_the_losses_of_the_uninterrupted_run(base, tmp_path, system1):
    run = {"max_steps": 4, "lora_rank": 2, "distillation_weight": 0.1}
    train(options(base, tmp_path / "whole", system1, **run))
    checkpoint = tmp_path / "whole" / "checkpoint-2"
    train(options(base, tmp_path / "again", system1, resume_from_checkpoint=checkpoint, **run))
    for name in ("loss", "action_loss", "latent_drift", "grad_norm", "learning_rate"):
        ours, expected = (history(tmp_path / run, name) for run in ("again", "whole"))
        assert ours == expected, name
        assert len(ours) == 4
    ours, expected = (load_file(tmp_path / run / "model.safetensors") for run in ("again", "whole"))
    assert all(ours[name].equal(value) for name, value in expected.items())


def test_a_dual_system_can_be_trained_on(base, tmp_path):
    train(options(base, tmp_path / "first", max_steps=1))
    further = {"model": tmp_path / "first", "action_expert_config": None, "learning_rate": 1e-9}
    train(options(base, tmp_path / "second", max_steps=1, **further))
    first, second = (load_file(tmp_path / f / "model.safetensors") for f in ("first", "second"))
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, atol=1e-6, rtol=0)


# --------------------------------------------------------------------------- several processes


MOVING = {"lora_rank": 2, "distillation_weight": 1.0}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "per_device", "accumulation", "system1", "run"),
    [
        ("ddp.yaml", 2, 1, "navdp_async", {}),
        ("ddp.yaml", 1, 2, "nextdit_async", MOVING),
        ("zero2.yaml", 2, 1, "nextdit_async", {}),
        ("zero2.yaml", 1, 2, "navdp_async", MOVING),
    ],
)
def test_two_processes_have_the_losses_of_one(
    base, tmp_path, monkeypatch, config, per_device, accumulation, system1, run
):
    """Noise belongs to the sample here, so that it does not matter who draws it."""
    run = {"max_steps": 3, **HELD_OUT, **run}
    monkeypatch.setattr(recipe, "DualSystemCollator", FixedNoiseCollator)
    train(options(base, tmp_path / "one", system1, **run))
    run |= {
        "per_device_train_batch_size": per_device,
        "gradient_accumulation_steps": accumulation,
    }
    arguments = options(base, tmp_path / "two", system1, **run)
    done = launch(arguments, *accelerate(config, 2), script="tests/recipes/fixed_noise.py")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert world_size(tmp_path / "two") == 2
    names = ["loss", "action_loss", "eval_action_loss"]
    for name in names + (["distillation_loss", "latent_drift"] if "lora_rank" in run else []):
        expected = history(tmp_path / "one", name)
        assert expected
        assert history(tmp_path / "two", name) == pytest.approx(expected, abs=1e-5), name
    expected = history(tmp_path / "one", "grad_norm")
    assert history(tmp_path / "two", "grad_norm") == pytest.approx(expected, rel=1e-3)
    one, two = (load_file(tmp_path / folder / "model.safetensors") for folder in ("one", "two"))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, atol=1e-4, rtol=1e-3)


# ------------------------------------------------------------------------------ when System2 moves


def test_lora_logs_drift_and_distillation_holds_it(base, tmp_path):
    drifts = {}
    for weight in (0.0, 10.0):
        folder = tmp_path / str(weight)
        run = {"lora_rank": 2, "distillation_weight": weight, "max_steps": 6, "warmup_steps": 0}
        train(options(base, folder, language_model_learning_rate=0.3, **run))
        drifts[weight] = history(folder, "latent_drift")
        assert len(drifts[weight]) == 6
    assert drifts[0.0][-1] > 1e-4
    assert drifts[10.0][-1] < drifts[0.0][-1]
    groups = parameter_groups(tmp_path / "0.0")
    assert groups["action_expert"] == groups["latent_queries"] == "0.001"
    model = DualSystemModel.from_pretrained(tmp_path / "0.0")
    start = System2Model.from_pretrained(base / "system2").state_dict()
    moved = {n for n, v in model.system2.state_dict().items() if not v.equal(start[n])}
    assert moved
    assert all(name.startswith("vlm.model.language_model.layers") for name in moved)


@pytest.mark.parametrize("part", ["language_model", "vision_tower"])
def test_parts_of_system2_can_learn(base, tmp_path, part):
    train(options(base, tmp_path, **{f"tune_{part}": True, f"{part}_learning_rate": 1e-5}))
    assert len(history(tmp_path, "latent_drift")) == 2
    module = {"language_model": "language_model", "vision_tower": "visual"}[part]
    learning = {n: rate for n, rate in parameter_groups(tmp_path).items() if rate != "frozen"}
    assert learning[f"system2.vlm.model.{module}"] == "1e-05"
    assert len([name for name in learning if name.startswith("system2")]) == 1


# --------------------------------------------------- bad input: one clear message before any step


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data_root": "nowhere"}, "nowhere"),
        ({"distillation_weight": 1}, "distillation_weight: found 1.0, but System2 is frozen"),
        ({"action_expert_config": "nowhere.json"}, "nowhere.json: there is no such file"),
    ],
)
def test_a_wrong_value_is_one_clear_error(base, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        train(options(base, tmp_path, **changes))
    assert not (tmp_path / "checkpoint-2").exists()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"plan_hidden_size": 3584}, "plan_hidden_size is 3584.*hidden_size is 64"),
        ({"hiden_size": 16}, r"expert\.json.*Did you mean 'hidden_size'"),
        ({"model_type": "internnav_navdp_action_expert"}, "model_type: found.*navdp"),
    ],
)
def test_an_expert_that_does_not_fit_is_refused(base, tmp_path, fields, message):
    (tmp_path / "expert.json").write_text(json.dumps(EXPERTS["nextdit_async"] | fields))
    with pytest.raises(ValueError, match=message):
        train(options(base, tmp_path, action_expert_config=tmp_path / "expert.json"))


def test_a_dataset_without_depth_is_refused_for_navdp_only(base, tmp_path):
    write_base(tmp_path / "data")
    for folder in (tmp_path / "data").glob("r2r/*/videos/*/observation.images.depth.*"):
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
    without = {"data_root": tmp_path / "data", "cache_dir": tmp_path / "cache"}
    with pytest.raises(ValueError, match="depth"):
        train(options(base, tmp_path / "navdp", "navdp_async", **without))
    train(options(base, tmp_path / "nextdit", "nextdit_async", max_steps=1, **without))


def test_a_system2_without_processor_ends_in_one_line(base, tmp_path):
    System2Model.from_pretrained(base / "system2").save_pretrained(tmp_path / "bare")
    done = launch(options(base, tmp_path / "run", system2=tmp_path / "bare"))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("train_dual_system: ")
    assert "bare has no processor" in done.stderr


def test_another_mode_than_the_models_is_refused(base, tmp_path):
    train(options(base, tmp_path / "first", max_steps=1))
    other = {"model": tmp_path / "first", "action_expert_config": None}
    with pytest.raises(ValueError, match=r"found 'navdp_async', but .*first.*'nextdit_async'"):
        train(options(base, tmp_path / "second", "navdp_async", **other))


# ---------------------------------------------------------------------------------- the published


def test_without_options_the_recipe_is_the_published_one():
    model_args, data_args, args = parse_arguments(KINDS, ["--data_root=d", "--use_cpu"])
    assert model_args.system2 == "InternRobotics/InternVLA-N1-System2"
    assert data_args.datasets.count("%30") == 6
    assert (args.learning_rate, args.num_train_epochs, args.max_grad_norm) == (1e-4, None, 1)
    assert (args.weight_decay, args.save_steps, args.save_total_limit) == (0, 5000, 5)
    assert args.lr_scheduler_type == "cosine_with_min_lr"
    assert args.lr_scheduler_kwargs == {"min_lr_rate": 0.1}
    assert args.get_warmup_steps(10_000) == 30
    assert recipe.BEST_STEPS == {"nextdit_async": 15_000, "navdp_async": 30_000, "nextdit": -1}
    assert recipe.EPOCHS == 3


def test_epochs_that_are_asked_for_count_and_not_the_documented_steps(base, tmp_path):
    run = {"max_steps": -1, "num_train_epochs": 0.01, "published": "documented"}
    train(options(base, tmp_path, **run))
    assert json.loads((tmp_path / "trainer_state.json").read_text())["max_steps"] == 1


def test_navdp_keeps_its_colour_encoder_frozen(base, tmp_path):
    train(options(base, tmp_path, "navdp_async"))
    rows = [line.split() for line in (tmp_path / "parameter_groups.txt").read_text().splitlines()]
    expert = [row for row in rows if row[0] == "action_expert"]
    assert {row[2] for row in expert} == {"frozen", "0.001"}


@pytest.mark.parametrize("path", sorted(ROOT.glob("recipes/*_dual.yaml")), ids=lambda p: p.name)
def test_every_file_of_settings_is_understood(path):
    model_args, _, args = parse_arguments(KINDS, [str(path)])
    assert args.max_steps > 0
    assert yaml.safe_load(Path(model_args.action_expert_config).read_text())
