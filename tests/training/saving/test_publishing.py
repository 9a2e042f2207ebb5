"""A training pushes its model with our card, whatever the Hub answers, and nothing else."""

import json
import logging
import os
from pathlib import Path

import pytest
import yaml

from internnav_hf import NavDPPolicy
from internnav_hf.arguments.training import parse_arguments
from internnav_hf.publishing import repository
from recipes import train_navdp as recipe
from tests.data.vln_n1 import write_root
from tests.hub_server import DROP, TOKEN, go_online, serve
from tests.tiny.navdp import SIZES

KINDS = (recipe.ModelArguments, recipe.DataArguments, recipe.NavDPTrainingArguments)
HELD_OUT = {"eval_groups": "simulated_val_unseen", "num_eval_samples": 2, "num_trajectories": 2}
MODEL = {"README.md", "config.json", "model.safetensors"}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("publishing")
    write_root(folder / "data", ("simulated_train", "simulated_val_unseen"), scenes=1)
    sizes = SIZES | {"num_memory_frames": 2, "dropout": 0.0}
    (folder / "model.yaml").write_text(yaml.safe_dump(sizes))
    return folder


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with serve() as running:
        go_online(monkeypatch, running, tmp_path / "hub-cache")
        yield running


def train(base: Path, out: Path, **changes) -> None:
    values = {
        "data_root": base / "data",
        "model_config": base / "model.yaml",
        "rgb_encoder": "random",
        "groups": "simulated_train",
        "samples_per_episode": 4,
        "output_dir": out,
        "cache_dir": base / "cache",
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
        "max_steps": 2,
        "per_device_train_batch_size": 2,
        "save_strategy": "steps",
        "save_steps": 1,
        "dataloader_num_workers": 0,
        "push_to_hub": True,
        "hub_model_id": "model",
        "hub_token": TOKEN,
    }
    given = {name: value for name, value in (values | changes).items() if value is not None}
    recipe.main(*parse_arguments(KINDS, [f"--{name}={value}" for name, value in given.items()]))


def test_every_commit_has_card_and_weights_and_no_secret(hub, base, tmp_path):
    train(base, tmp_path / "out", hub_always_push=True, **HELD_OUT)
    assert [commit["message"] for commit in hub.commits] == [
        "Training in progress, step 1",
        "Training in progress, step 2",
        "Model save",
    ]
    assert all(set(commit["files"]) >= MODEL for commit in hub.commits)
    assert set(hub.files("me/model")) <= MODEL | {"eval_results.json"}
    files = hub.files("me/model")
    assert files["README.md"] == (tmp_path / "out" / "README.md").read_bytes()
    card = files["README.md"].decode()
    for words in ("| eval_", "| height_m | 0.5 m |", 'from_pretrained("me/model")', "seed"):
        assert words in card
    here = {path for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert any(path.name == "training_args.bin" for path in here)
    assert not [path for path in here if TOKEN.encode() in path.read_bytes()]
    assert str(base) not in card
    assert NavDPPolicy.from_pretrained("me/model").camera is not None
    assert not list((tmp_path / "out").glob(".hub-*"))


def test_checkpoints_go_where_they_are_asked_for(hub, base, tmp_path):
    out = tmp_path / "out"
    train(base, out, hub_strategy="checkpoint", hub_always_push=True, hub_revision="try")
    files = hub.files("me/model")
    inside = {name.split("/")[1] for name in files if name.startswith("last-checkpoint/")}
    assert {"optimizer.pt", "scheduler.pt", "trainer_state.json", *MODEL} <= inside
    assert not inside & {"training_args.bin", "run.json"}
    assert {commit["revision"] for commit in hub.commits} == {"try"}
    assert str(tmp_path).encode() not in files["last-checkpoint/trainer_state.json"]


def test_the_end_alone_may_be_pushed(hub, base, tmp_path):
    train(base, tmp_path / "out", hub_strategy="end")
    assert [commit["message"] for commit in hub.commits] == ["Model save"]


@pytest.mark.parametrize(
    ("part", "status", "told"),
    [
        ("/create", 401, "does not know the token"),
        ("/create", 500, "has an internal error"),
        ("/create", DROP, "could not be reached"),
        ("/preupload", 403, "may not write there"),
        ("/preupload", 404, "no such repository"),
    ],
)
def test_a_repository_that_cannot_be_written_is_found_before_training(
    hub, base, tmp_path, part, status, told
):
    hub.answers.append(("POST", part, status))
    with pytest.raises(ValueError, match=f"model: .*{told}") as error:
        train(base, tmp_path / "out")
    assert len(str(error.value).splitlines()) == 1
    assert not list((tmp_path / "out").glob("*"))


def test_a_hub_that_does_not_answer_is_not_waited_for(hub, base, tmp_path, monkeypatch):
    monkeypatch.setattr(repository, "SECONDS_TO_ANSWER", 0.2)
    hub.delay = 1.0
    with pytest.raises(ValueError, match=r"no answer in 0.2 s"):
        train(base, tmp_path / "out")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"hub_model_id": "somebody/model"}, "somebody/model: the token may not write there"),
        ({"hub_model_id": "me/a b"}, "not a name of a Hub repository"),
        ({"hub_token": "hf_wrong"}, "does not know the token"),
        ({"push_adapter": True}, "there is no adapter without --lora_rank"),
        ({"license": "mitt"}, "did you mean 'mit'"),
    ],
)
def test_what_cannot_be_pushed_is_found_before_training(hub, base, tmp_path, changes, told):
    with pytest.raises(ValueError, match=told):
        train(base, tmp_path / "out", **changes)
    assert not list((tmp_path / "out").glob("checkpoint*"))
    assert not hub.commits


def test_offline_nothing_is_pushed(base, tmp_path):
    with pytest.raises(ValueError, match="HF_HUB_OFFLINE is set"):
        train(base, tmp_path / "out")


def test_a_failed_push_at_the_end_says_where_the_model_is(hub, base, tmp_path):
    out = tmp_path / "out"
    hub.answers.append(("POST", "/commit", 500))
    with pytest.raises(
        ValueError, match=r"the Hub has an internal error.* saved in .*out; push it"
    ):
        train(base, out, hub_strategy="end")
    assert {path.name for path in out.iterdir()} >= MODEL
    hub.answers.clear()
    again = repository.Repository("me/model", TOKEN)
    repository.push_folder(out, again)
    assert set(hub.files("me/model")) >= MODEL
    assert "training_args.bin" not in hub.files("me/model")


def test_a_failed_push_on_the_way_is_a_warning(hub, base, tmp_path, caplog):
    hub.answers.append(("POST", "/commit", 409))

    def mend(record: logging.LogRecord) -> bool:
        if "Training goes on" in record.getMessage():
            hub.answers.clear()
        return True

    logger = logging.getLogger("internnav_hf.training.saving.publishing")
    logger.addFilter(mend)
    try:
        train(base, tmp_path / "out", max_steps=1)
    finally:
        logger.removeFilter(mend)
    assert "me/model: the repository is being changed" in caplog.text
    assert hub.commits[-1]["message"] == "Model save"


def test_restricted_weights_are_not_freed_before_training(base, tmp_path):
    parent = tmp_path / "my mit model"
    train(base, parent, push_to_hub=None)
    card = (parent / "README.md").read_text()
    assert "\nlicense:" not in card
    (parent / "README.md").write_text("---\nlicense: cc-by-nc-sa-4.0\n---\n")
    changes = {"push_to_hub": None, "model": parent, "model_config": None}
    with pytest.raises(ValueError, match="--license mit: .* my mit model, which is cc-by-nc"):
        train(base, tmp_path / "out", license="mit", **changes)
    assert not list((tmp_path / "out").glob("*"))
    train(base, tmp_path / "out", **changes)
    head = yaml.safe_load((tmp_path / "out" / "README.md").read_text().split("\n---\n")[0])
    assert head["license"] == "cc-by-nc-sa-4.0"
    assert [one["name"] for one in head["made_from"]] == ["my mit model", "simulated_train"]


def test_weights_of_unknown_licence_are_asked_about(hub, base, tmp_path):
    parent = tmp_path / "parent"
    train(base, parent, push_to_hub=None)
    (parent / "README.md").unlink()
    changes = {"model": parent, "model_config": None}
    with pytest.raises(ValueError, match="the licence of parent is not known"):
        train(base, tmp_path / "out", **changes)
    train(base, tmp_path / "out", license="apache-2.0", **changes)
    assert b"license: apache-2.0" in hub.files("me/model")["README.md"]


def test_weights_of_another_layout_go(hub, base, tmp_path):
    hub.repositories["me/model"] = {"adapter_model.safetensors": b"x", "adapter_config.json": b"{}"}
    hub.repositories["me/model"] |= {"notes.md": b"mine"}
    train(base, tmp_path / "out", hub_strategy="end")
    assert set(hub.files("me/model")) == MODEL | {"notes.md"}


def test_settings_are_staged_without_paths_of_the_machine(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"_name_or_path": str(tmp_path), "a": [1]}))
    (folder / "model.safetensors").write_bytes(b"x")
    (folder / "training_args.bin").write_bytes(b"x")
    with repository.stage(folder, tmp_path, repository.PUBLISHED) as staged:
        assert sorted(os.listdir(staged)) == ["config.json", "model.safetensors"]
        told = json.loads(Path(staged, "config.json").read_text())
    assert told == {"_name_or_path": tmp_path.name, "a": [1]}
