"""What the dual system's recipe alone does: experts, System2 that learns, published steps."""

import json
import sys

import pytest
import torch
from safetensors.torch import load_file

from internnav_hf import DualSystemModel, System2Model
from internnav_hf.arguments.training import parse_arguments, run_recipe
from tests.recipes.dual import EXPERTS, KINDS, options, recipe, write_base
from tests.recipes.launch import history, parameter_groups


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_base(tmp_path_factory.mktemp("dual"))


def train(arguments: list[str]) -> None:
    recipe.main(*parse_arguments(KINDS, arguments))


def test_a_dual_system_can_be_trained_on(base, tmp_path):
    train(options(base, tmp_path / "first", max_steps=1))
    further = {"model": tmp_path / "first", "action_expert_config": None, "learning_rate": 1e-9}
    train(options(base, tmp_path / "second", max_steps=1, **further))
    first, second = (load_file(tmp_path / f / "model.safetensors") for f in ("first", "second"))
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, atol=1e-6, rtol=0)


def test_it_trains_on_packs(base, tmp_path):
    train(options(base, tmp_path, packing_length=700, per_device_train_batch_size=1))
    assert len(history(tmp_path, "loss")) == 2


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
    for part in ("action_expert", "latent_queries"):
        assert groups[part] == {"0.001", "frozen"}  # PEFT keeps the original, frozen, too
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
    learning = {n: r for n, r in parameter_groups(tmp_path).items() if r != {"frozen"}}
    assert learning[f"system2.vlm.model.{module}"] == {"1e-05"}
    assert len([name for name in learning if name.startswith("system2")]) == 1


# --------------------------------------------------- bad input: one clear message before any step


def test_held_out_data_of_another_camera_are_refused_before_a_step(base, tmp_path):
    held_out = {"eval_datasets": "r2r_val_unseen_125cm_30_30"}
    with pytest.raises(ValueError, match="another camera than the model's: trained at 0°/30°"):
        train(options(base, tmp_path / "out", **held_out))
    assert not (tmp_path / "out").exists()


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


def test_a_system2_without_processor_ends_in_one_line(base, tmp_path, monkeypatch):
    System2Model.from_pretrained(base / "system2").save_pretrained(tmp_path / "bare")
    bare = options(base, tmp_path / "run", system2=tmp_path / "bare")
    monkeypatch.setattr(sys, "argv", [recipe.__file__, *bare])
    with pytest.raises(SystemExit) as ended:
        run_recipe(recipe.main, KINDS, recipe.__doc__)
    told = str(ended.value)
    assert told.startswith("train_dual_system: ")
    assert "bare has no processor" in told
    assert len(told.splitlines()) == 1


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
    assert recipe.BEST_STEPS == {"nextdit_async": 15_000, "navdp_async": 30_000}
    assert recipe.EPOCHS == 3


def test_epochs_that_are_asked_for_count_and_not_the_documented_steps(base, tmp_path):
    run = {"max_steps": -1, "num_train_epochs": 0.01, "published": "documented"}
    train(options(base, tmp_path, **run))
    assert json.loads((tmp_path / "trainer_state.json").read_text())["max_steps"] == 1
