"""What every recipe keeps, whatever it trains; `cases` has an entry for each."""

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

from internnav_hf import System2Model
from internnav_hf.arguments.training import parse_arguments
from tests.processes import started
from tests.recipes.cases import CASES, HELPERS, Case, fix_draws
from tests.recipes.launch import ROOT, history, launch, launch_warm, world_size
from tests.warm import Program

RESUMED = [name for name, case in CASES.items() if case.resumed]
SETTINGS = {
    path: next(name for name in HELPERS if path.name.startswith(f"demo_{name}"))
    for path in sorted(ROOT.glob("recipes/*.yaml"))
    if not path.stem.endswith(("_model", "_expert", "_learnt"))
}


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    """Data and tiny parts of each recipe, written once."""
    written: dict[str, Path] = {}

    def base(case: Case) -> Path:
        name = case.helpers.__name__
        if name not in written:
            written[name] = case.helpers.write_base(tmp_path_factory.mktemp("base"))
        return written[name]

    return base


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def assert_same(ours: Path, expected: Path, names: tuple[str, ...]) -> None:
    """Bit for bit: losses, gradients, learning rates, weights."""
    for name in ("loss", *names, "grad_norm", "learning_rate"):
        assert history(expected, name)
        assert history(ours, name) == history(expected, name), name
    theirs = weights(expected)
    assert all(value.equal(theirs[name]) for name, value in weights(ours).items())


@pytest.mark.parametrize("name", CASES)
def test_two_steps_log_losses_and_metrics_and_leave_a_model(bases, tmp_path, name):
    case = CASES[name]
    case.train(case.options(bases(case), tmp_path, **case.held_out))
    for loss in case.losses:
        assert len(history(tmp_path, loss)) == 2, loss
        assert history(tmp_path, f"eval_{loss}"), loss
    for metric in case.metrics:
        assert history(tmp_path, metric), metric
    assert (tmp_path / "eval_results.json").is_file()
    case.helpers.check(bases(case), tmp_path)


@pytest.mark.parametrize("name", RESUMED)
def test_resuming_gives_the_losses_of_the_uninterrupted_run(bases, tmp_path, name):
    """From each checkpoint, in the middle of an epoch and after it."""
    case = CASES[name]
    case.train(case.options(bases(case), tmp_path / "whole", **case.resumed))
    for step in range(2, case.resumed["max_steps"], 2):
        run = case.resumed | {"resume_from_checkpoint": tmp_path / "whole" / f"checkpoint-{step}"}
        case.train(case.options(bases(case), tmp_path / str(step), **run))
        assert_same(tmp_path / str(step), tmp_path / "whole", case.losses)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["system2", "seq2seq"])
def test_a_killed_run_goes_on_where_it_was_saved(bases, tmp_path, name):
    """As users start it, with a worker; `test_kills` kills the others' trainings."""
    case, run = CASES[name], {"max_steps": 6, "save_steps": 1, "dataloader_num_workers": 1}
    case.train(case.options(bases(case), tmp_path / "whole", **run))
    arguments = case.options(bases(case), tmp_path / "killed", **run)
    command = [sys.executable, case.script, *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    options = {"cwd": ROOT, "env": environment, "stderr": subprocess.DEVNULL}
    with started(command, start=Program, **options) as process:
        deadline = time.monotonic() + 300
        while not (tmp_path / "killed" / "checkpoint-2" / "trainer_state.json").exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed" / "train_results.json").exists()
    case.train([*arguments, "--resume_from_checkpoint=auto"])
    assert_same(tmp_path / "killed", tmp_path / "whole", case.losses)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "names", "accumulation"),
    [
        ("ddp.yaml", ("system2", "nextdit_async", "navdp", "rdp", "cloning"), 2),
        ("zero2.yaml", ("system2", "navdp_async"), 2),
        ("zero3.yaml", ("system2",), 1),
    ],
)
def test_two_processes_have_the_losses_of_one(
    bases, tmp_path, monkeypatch, config, names, accumulation
):
    """One launch a way to share: samples of a step have different numbers of labels, goals and
    frames, so that a mean over steps is none over processes. What is kept of frozen encoders is
    made by both.
    """
    num_processes, batch = 2, 4
    runs = []
    for name in names:
        case = CASES[name]
        fix_draws(case, monkeypatch.setattr)
        run = case.held_out | case.moving
        run |= {"per_device_train_batch_size": batch, "per_device_eval_batch_size": 6}
        case.train(case.options(bases(case), tmp_path / "one" / name, **run))
        run |= {
            "per_device_train_batch_size": batch // num_processes // accumulation,
            "gradient_accumulation_steps": accumulation,
            "cache_dir": tmp_path / "cache" / name,
        }
        options = case.options(bases(case), tmp_path / "two" / name, **run)
        runs.append({"case": name, "options": options})
    if config == "zero3.yaml":
        lora = {"lora_rank": 4, "per_device_train_batch_size": 2, "max_steps": 2}
        options = CASES["system2"].options(bases(CASES["system2"]), tmp_path / "lora", **lora)
        runs.append({"case": "system2", "options": options})
    (tmp_path / "runs.json").write_text(json.dumps(runs))
    start = launch if config == "zero3.yaml" else launch_warm  # `test_launched` launches DDP
    start([str(tmp_path / "runs.json")], config, num_processes, "tests/recipes/two_processes.py")
    for name in names:
        one, two = tmp_path / "one" / name, tmp_path / "two" / name
        assert world_size(two) == 2
        states = list(two.glob("checkpoint-*/global_step*/*zero_pp_rank_1*"))
        assert bool(states) == config.startswith("zero")
        compare(CASES[name], one, two, with_metrics=config != "zero3.yaml")
    if config == "zero3.yaml":  # LoRA is merged there, into whole tensors
        merged = weights(tmp_path / "lora")
        assert all(value.numel() > 0 for value in merged.values())
        assert not any("lora" in name for name in merged)
        System2Model.from_pretrained(tmp_path / "lora")


def compare(case: Case, one: Path, two: Path, with_metrics: bool) -> None:
    """To the rounding of another order of sums."""
    held = ("distillation_loss", "latent_drift") if "lora_rank" in case.moving else ()
    evaluated = [f"eval_{name}" for name in ("loss", *case.losses)]
    for name in ("loss", *case.losses, *held, *evaluated):
        assert history(one, name), name
        assert history(two, name) == pytest.approx(history(one, name), abs=case.tolerance), name
    for name in case.metrics if with_metrics else ():
        assert history(two, name) == pytest.approx(history(one, name), abs=1e-3), name
    for name in ("grad_norm", "learning_rate"):
        assert history(two, name) == pytest.approx(history(one, name), rel=1e-3), name
    theirs = weights(two)
    for name, value in weights(one).items():
        torch.testing.assert_close(theirs[name], value, atol=1e-4, rtol=1e-3)


# ------------------------------------------------------------------------------ what users write


@pytest.mark.parametrize("path", SETTINGS, ids=lambda path: path.name)
def test_every_file_of_settings_is_understood(path):
    parsed = parse_arguments(HELPERS[SETTINGS[path]].KINDS, [str(path)])
    assert parsed[-1].max_steps > 0
    for options in parsed:
        for name in ("model_config", "action_expert_config"):
            sizes = getattr(options, name, None)
            assert sizes is None or yaml.safe_load((ROOT / sizes).read_text())


@pytest.mark.parametrize("name", [name for name in HELPERS if name not in ("cloning", "ddppo")])
def test_every_recipe_starts_as_documented_and_says_what_changes(name, capsys):
    kinds = HELPERS[name].KINDS
    parsed = parse_arguments(kinds, ["--data_root=d", "--use_cpu"])
    assert [o.published for o in parsed if hasattr(o, "published")] == ["documented"]
    with pytest.raises(SystemExit):
        parse_arguments(kinds, ["--help"], HELPERS[name].recipe.__doc__)
    told = capsys.readouterr().out
    assert "documented (default)" in told
    option = told[told.index("\n  --published {documented,executed}") :].split("--")[1]
    assert len(option.split()) > 8
    assert "See the docstring" not in told


WRONG = [
    ("system2", {"data_root": "nowhere"}, "nowhere"),
    ("system2", {"datasets": "r3r_125cm_0_30"}, "[Dd]id you mean"),
    ("system2", {"resume_from_checkpoint": "true"}, "no complete checkpoint"),
    ("system2", {"module_learning_rates": '{"pixel_head": 1e-3}'}, "pixel_goal_head"),
    ("nextdit_async", {"data_root": "nowhere"}, "nowhere"),
    (
        "nextdit_async",
        {"distillation_weight": 1},
        "distillation_weight: found 1.0, but System2 is frozen",
    ),
    (
        "nextdit_async",
        {"action_expert_config": "nowhere.json"},
        "nowhere.json: there is no such file",
    ),
    ("navdp", {"data_root": "nowhere"}, "nowhere"),
    ("navdp", {"groups": "hssd_zed"}, "found no group 'hssd_zed'. It has simulated_train"),
    ("navdp", {"eval_groups": "simulated_train"}, "all held out"),
    ("navdp", {"model_config": "nowhere.yaml"}, "nowhere.yaml: there is no such file"),
    ("navdp", {"model": "./nowhere"}, "--model ./nowhere: there is no such folder"),
    ("navdp", {"dataloader_persistent_workers": True}, "do not see that a new epoch"),
    ("navdp", {"rgb_encoder": "./nowhere"}, "--rgb_encoder ./nowhere: there is no such folder"),
    ("iplanner", {"data_root": "nowhere"}, "nowhere"),
    ("iplanner", {"groups": "hssd_zed"}, "found no group 'hssd_zed'"),
    ("iplanner", {"eval_groups": "simulated_train"}, "all held out"),
    ("iplanner", {"model_config": "nowhere.yaml"}, "nowhere.yaml: there is no such file"),
    ("iplanner", {"model": "./nowhere"}, "--model ./nowhere: there is no such folder"),
    ("viplanner", {"groups": "three"}, "there is no environment three"),
    ("vint", {"data_root": ["nowhere"]}, "nowhere"),
    ("vint", {"groups": ["hssd_zed"]}, "found no group 'hssd_zed'"),
    ("vint", {"eval_groups": ["simulated_train"]}, "all held out"),
    ("vint", {"model_config": "nowhere.yaml"}, "nowhere.yaml: there is no such file"),
    ("vint", {"init_from": "./nowhere"}, "--init_from ./nowhere: there is no such folder"),
    ("vint", {"splits": ["a", "b"]}, "--splits: found 2, expected 1, as --data_root"),
    ("vint", {"waypoint_spacing": [0.0]}, r"waypoint_spacing_m: found 0 \(given\)"),
    ("nomad", {"end_slack": [40]}, "found no episode of 51 frames"),
    ("seq2seq", {"data_root": ["nowhere"]}, "nowhere"),
    ("seq2seq", {"scans": ["simulated_trian"]}, "did you mean|simulated_train"),
    ("seq2seq", {"eval_scans": ["simulated_train"]}, "all held out"),
    ("seq2seq", {"model_config": "nowhere.yaml"}, "nowhere.yaml: there is no such file"),
    ("seq2seq", {"model": "seq2seq_plus"}, "--model seq2seq_plus goes on from weights: pass"),
    ("seq2seq", {"init_from": "./nowhere"}, "--init_from ./nowhere: there is no such folder"),
    ("seq2seq", {"depth_encoder": "./nowhere"}, "--depth_encoder ./nowhere: there is no such"),
    ("seq2seq", {"text_encoder": "./nowhere"}, "text_encoder"),
    ("seq2seq", {"vocabulary": "nowhere.json.gz"}, "nowhere.json.gz"),
    ("seq2seq", {"dagger_p": 1.5, "dagger_iterations": 1}, "--dagger_p: found 1 and 1.5"),
]


@pytest.mark.parametrize(("name", "changes", "message"), WRONG)
def test_a_wrong_value_is_one_clear_error_before_any_step(bases, tmp_path, name, changes, message):
    case = CASES[name]
    model = changes.get("model") if name == "seq2seq" else None
    options = (case._replace(name=model) if model else case).options
    changes = {key: value for key, value in changes.items() if not (model and key == "model")}
    with pytest.raises(ValueError, match=message) as caught:
        case.train(options(bases(case), tmp_path, **changes))
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "checkpoint-2").exists()
