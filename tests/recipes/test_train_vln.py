"""What the recipe of Seq2Seq, CMA and RDP alone does: kept features, DAgger, starts, words."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
import yaml
from safetensors.torch import load_file

from internnav_hf.arguments.training import parse_arguments
from internnav_hf.policies import load_vln_policy
from tests.data.vln_pe import read_walks, write_root
from tests.recipes.launch import history
from tests.recipes.vln import CAMERA, KINDS, MODELS, SCANS, options, recipe, write_base

HELD_OUT = {"eval_scans": [SCANS[1]], "eval_strategy": "steps", "eval_steps": 2}
ENCODERS = ("rgb_encoder", "depth_encoder")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_base(tmp_path_factory.mktemp("vln"))


def train(arguments: list[str]) -> None:
    recipe.main(*parse_arguments(KINDS, arguments))


def parse(*arguments: str):
    return parse_arguments(KINDS, ["--data_root=d", "--use_cpu", *arguments])


@pytest.mark.parametrize("model", MODELS)
def test_the_losses_fall(base, tmp_path, model):
    run = {"max_steps": 80, "learning_rate": 5e-3, "logging_steps": 20, "save_steps": 80}
    train(options(base, tmp_path, model, **run))
    for name in ("loss", "action_loss"):
        losses = history(tmp_path, name)
        assert losses[-1] < 0.9 * losses[0], name


@pytest.mark.parametrize("model", MODELS)
def test_kept_features_change_nothing_but_their_rounding(base, tmp_path, model):
    for keep in (True, False):
        train(options(base, tmp_path / str(keep), model, cache_features=keep, **HELD_OUT))
    for name in ("loss", "eval_loss"):
        expected = history(tmp_path / "False", name)
        assert history(tmp_path / "True", name) == pytest.approx(expected, rel=1e-2), name
    assert list((base / "cache" / "features").glob("*/*/*.safetensors"))


def test_an_encoder_that_learns_sees_images(base, tmp_path):
    sizes = yaml.safe_load((base / "seq2seq.yaml").read_text())
    file = tmp_path / "sizes.yaml"
    file.write_text(
        yaml.safe_dump(sizes | {"train_rgb_encoder": True, "train_depth_encoder": True})
    )
    run = {"model_config": file, "cache_dir": tmp_path / "cache"}
    train(options(base, tmp_path / "out", max_steps=1, save_steps=1, **run))
    assert not (tmp_path / "cache" / "features").exists()
    weights = load_file(tmp_path / "out" / "model.safetensors")
    train(options(base, tmp_path / "more", max_steps=2, **run))
    later = load_file(tmp_path / "more" / "model.safetensors")
    for encoder in ENCODERS:
        names = [name for name in weights if name.startswith(encoder) and name.endswith("weight")]
        assert any(not weights[name].equal(later[name]) for name in names)


def test_folders_with_other_scans_are_trained_on_together(base, tmp_path):
    """Each without what is held out; the model knows the cameras of both."""
    write_root(tmp_path / "more", ("another", SCANS[1]))
    other = replace(CAMERA, height_m=0.4)
    for info in tmp_path.glob("more/*/*/meta/info.json"):
        info.write_text(json.dumps({"camera": other.to_dict()}))
    roots = [base / "data", tmp_path / "more"]
    train(options(base, tmp_path / "out", data_root=roots, scans=None, **HELD_OUT))
    assert history(tmp_path / "out", "eval_num_walks")[-1] == 24
    assert load_vln_policy(tmp_path / "out", camera=other).cameras == (CAMERA, other)
    nothing_left = options(base, tmp_path, data_root=roots, scans=None, eval_scans=list(SCANS))
    with pytest.raises(ValueError, match="all held out"):
        train(nothing_left)


# ------------------------------------------------------------------------------------- DAgger

ROUNDS = {
    "dagger_iterations": 1,
    "dagger_episodes": 3,
    "dagger_scenes": 2,
    "dagger_num_rooms": [1, 1],
    "dagger_epochs": 0.5,
    "dagger_max_steps": 8,
}


@pytest.mark.parametrize("model", ["cma", "rdp"])
def test_a_round_learns_where_the_model_went(base, tmp_path, model):
    train(options(base, tmp_path / "out", model, **ROUNDS))
    folder = tmp_path / "out" / "dagger" / "1"
    walks = read_walks(folder / "data")
    assert sum(walk.length <= 8 for walk in walks) == 3
    assert (folder / "README.md").is_file()
    load_vln_policy(folder)
    before, after = (load_file(f / "model.safetensors") for f in (tmp_path / "out", folder))
    assert not all(after[name].equal(value) for name, value in before.items())
    state = json.loads((folder / "trainer_state.json").read_text())
    assert state["max_steps"] == 3  # half an epoch of 12 samples and those of 3 walks, by four


def test_a_run_that_ended_after_its_first_part_goes_on_with_a_round(base, tmp_path):
    """With the model and the walks of one that was never interrupted, and of one that was killed in
    its round.
    """
    rounds = ROUNDS | {
        "lr_scheduler_type": "constant",
        "max_steps": 2,
        "save_steps": 1,
        "save_total_limit": None,
    }
    train(options(base, tmp_path / "whole", "cma", **rounds))
    expected = tmp_path / "whole" / "dagger" / "1"
    train(options(base, tmp_path / "parts", "cma", **rounds | {"dagger_iterations": 0}))
    resumed = options(base, tmp_path / "parts", "cma", resume_from_checkpoint="auto", **rounds)
    train(resumed)
    folder = tmp_path / "parts" / "dagger" / "1"
    for attempt in ("fresh", "killed"):
        ours, theirs = (load_file(f / "model.safetensors") for f in (folder, expected))
        assert all(ours[name].equal(value) for name, value in theirs.items()), attempt
        assert history(folder, "loss") == history(expected, "loss"), attempt
        if attempt == "fresh":
            shutil.rmtree(folder / "checkpoint-3")
            (folder / "model.safetensors").unlink()
            train(resumed)


def test_a_round_needs_to_know_the_camera(base, tmp_path):
    write_root(tmp_path / "data", SCANS[:1])
    with pytest.raises(ValueError, match="--dagger_iterations: the data do not say which camera"):
        train(options(base, tmp_path / "out", data_root=[tmp_path / "data"], **ROUNDS))
    assert not (tmp_path / "out" / "checkpoint-2").exists()


# ----------------------------------------------------------------------------- starts of a model


def test_plus_goes_on_from_weights_with_their_words(base, tmp_path):
    train(options(base, tmp_path / "first", max_steps=1, save_steps=1))
    further = {"init_from": tmp_path / "first", "model_config": None, "learning_rate": 1e-9}
    train(options(base, tmp_path / "second", "seq2seq_plus", max_steps=1, **further))
    first, second = (load_file(tmp_path / f / "model.safetensors") for f in ("first", "second"))
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, atol=1e-6, rtol=0)
    files = [(tmp_path / f / "tokenizer.json").read_text() for f in ("first", "second")]
    assert files[0] == files[1]


def test_encoders_of_another_model_are_shared(base, tmp_path):
    train(options(base, tmp_path / "first", max_steps=1, save_steps=1))
    given = dict.fromkeys(ENCODERS, tmp_path / "first")
    train(options(base, tmp_path / "second", "cma", max_steps=1, seed=7, **given))
    first, second = (load_file(tmp_path / f / "model.safetensors") for f in ("first", "second"))
    shared = [name for name in first if name.startswith(ENCODERS)]
    assert shared
    assert all(first[name].equal(second[name]) for name in shared)


# --------------------------------------------------------------------------- published settings


@pytest.mark.parametrize(
    ("model", "epochs", "warmup", "decay"),
    [
        ("seq2seq", 80, 0.1, 1e-4),
        ("seq2seq_plus", 55, 0.1, 1e-4),
        ("cma", 80, 0.05, 1e-5),
        ("cma_plus", 55, 0.05, 1e-5),
        ("rdp", 50, 0.1, 1e-4),
    ],
)
def test_the_published_numbers(model, epochs, warmup, decay):
    *_, data_args, dagger_args, args = parse(f"--model={model}", "--published=executed")
    assert (args.num_train_epochs, args.learning_rate) == (epochs, 1e-4)
    assert (args.per_device_train_batch_size, args.lr_scheduler_type) == (2, "cosine")
    assert (args.warmup_steps, args.weight_decay) == (0, 0)
    assert (args.save_strategy, args.save_total_limit, args.bf16) == ("epoch", 8, False)
    assert (data_args.max_walk_steps, data_args.inflection_coefficient) == (200, 3.2)
    assert dagger_args.dagger_iterations == 0
    *_, args = parse(f"--model={model}")
    assert (args.warmup_steps, args.weight_decay) == (warmup, decay)
    *_, args = parse(f"--model={model}", "--warmup_steps=3")
    assert (args.warmup_steps, args.weight_decay) == (3, decay)


# --------------------------------------------------- bad input: one clear message before any step


def test_an_unknown_size_names_the_nearest(base, tmp_path):
    (tmp_path / "sizes.yaml").write_text("hiden_size: 2\n")
    with pytest.raises(ValueError, match="hidden_size"):
        train(options(base, tmp_path, model_config=tmp_path / "sizes.yaml"))


def test_weights_without_words_need_a_vocabulary(base, tmp_path):
    train(options(base, tmp_path / "first", max_steps=1))
    (tmp_path / "first" / "processor_config.json").unlink()
    with pytest.raises(ValueError, match="--vocabulary"):
        train(options(base, tmp_path / "second", init_from=tmp_path / "first", model_config=None))


def test_what_is_held_out_is_not_trained_on(base, tmp_path):
    train(options(base, tmp_path, max_steps=1, scans=None, save_steps=1, **HELD_OUT))
    state = json.loads((tmp_path / "trainer_state.json").read_text())
    assert state["epoch"] == pytest.approx(1 / 3)  # 12 samples, of one scan
