"""Whatever is wrong with a checkpoint's folder is one error, before a model is built."""

import json
import os
import re
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, Dinov2Config, Dinov2Model

from internnav_hf.models.dual_system.config import DualSystemConfig
from internnav_hf.models.dual_system.model import DualSystemModel
from internnav_hf.models.navdp.model import NavDPModel
from internnav_hf.models.nextdit.model import NextDiTActionExpert
from internnav_hf.models.rdp.model import RDPModel
from internnav_hf.models.system2.model import System2Model
from internnav_hf.models.vln.cma import CMAModel
from internnav_hf.models.vln.seq2seq import Seq2SeqModel
from internnav_hf.weights.checkpoints import open_weights, stored_config
from internnav_hf.weights.loading import load_published
from tests.hostile_files import SAFETENSORS
from tests.tiny.dual_system import tiny_dual_system
from tests.tiny.navdp import tiny_navdp_model
from tests.tiny.rdp import tiny_rdp
from tests.tiny.system2 import tiny_system2
from tests.tiny.vln import tiny_cma, tiny_seq2seq

DINO = {"dinov2": Dinov2Model}
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
MAKERS = {
    System2Model: tiny_system2,
    DualSystemModel: tiny_dual_system,
    NavDPModel: tiny_navdp_model,
    CMAModel: tiny_cma,
    Seq2SeqModel: tiny_seq2seq,
    RDPModel: tiny_rdp,
    NextDiTActionExpert: lambda: tiny_dual_system().action_expert,
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Of each class, a folder that is not to be changed."""
    folder = tmp_path_factory.mktemp("saved")
    for model_class, make in MAKERS.items():
        make().save_pretrained(folder / model_class.__name__)
    return folder


@pytest.fixture(params=MAKERS, ids=lambda model_class: model_class.__name__)
def checkpoint(request, saved, tmp_path):
    folder = tmp_path / "checkpoint"
    shutil.copytree(saved / request.param.__name__, folder)
    return request.param, folder


def refused(model_class, folder, message: str) -> None:
    for opened_by in (model_class, AutoModel):
        with pytest.raises(ValueError, match=message) as error:
            opened_by.from_pretrained(folder)
        assert str(folder) in str(error.value)
        assert len(str(error.value).splitlines()) == 1


def change(folder, **fields) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | fields))


def test_without_a_configuration_nothing_is_built(checkpoint):
    model_class, folder = checkpoint
    (folder / "config.json").unlink()
    with pytest.raises(ValueError, match=r"no .*config.json|weights of ours|holds no NavDP"):
        model_class.from_pretrained(folder)
    with pytest.raises(ValueError, match="found no config.json, expected a checkpoint"):
        model_class.config_class.from_pretrained(folder)


def test_without_weights_nothing_is_built(checkpoint):
    model_class, folder = checkpoint
    (folder / WEIGHTS).unlink()
    refused(model_class, folder, "found no weights, expected model.safetensors")


def test_every_broken_file_of_weights_is_named(checkpoint):
    model_class, folder = checkpoint
    for content in SAFETENSORS.values():
        (folder / WEIGHTS).write_bytes(content)
        with pytest.raises(ValueError, match=f"{WEIGHTS}: found"):
            model_class.from_pretrained(folder)
    (folder / WEIGHTS).unlink()
    os.mkfifo(folder / WEIGHTS)
    refused(model_class, folder, "found a pipe or device")


def test_a_configuration_that_asks_for_too_much_is_refused(checkpoint):
    """Where sizes stand, each is made absurd."""
    model_class, folder = checkpoint
    whole = json.loads((folder / "config.json").read_text())
    sizes = [path for path in _paths(whole) if path[-1] in ("hidden_size", "num_hidden_layers")]
    assert sizes
    for path in sizes:
        for absurd in (10**6, 10**9, 10**30, -1, "x", [1]):
            config = json.loads(json.dumps(whole))
            part = config
            for key in path[:-1]:
                part = part[key]
            part[path[-1]] = absurd
            (folder / "config.json").write_text(json.dumps(config))
            with pytest.raises(ValueError, match=re.escape(str(folder))):
                model_class.from_pretrained(folder)


def _paths(config: dict, above: tuple = ()) -> list[tuple]:
    found = []
    for key, value in config.items():
        found += _paths(value, (*above, key)) if isinstance(value, dict) else [(*above, key)]
    return found


def test_another_kind_of_model_is_refused(checkpoint):
    model_class, folder = checkpoint
    for name in ("bert", "nonsense", 3, None):
        change(folder, model_type=name)
        with pytest.raises(ValueError, match=r"\w"):
            model_class.from_pretrained(folder)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"ignore_mismatched_sizes": True}, "ignore_mismatched_sizes: it is not for models here"),
        ({"from_tf": True}, "from_tf: "),
        ({"strict": False}, "strict=False is not for models here"),
        ({"weights_only": False}, "weights_only=False is not"),
        ({"gguf_file": "a.gguf"}, "gguf_file: "),
        ({"state_dict": {"a": torch.ones(1)}}, "state_dict: it goes with config"),
        ({"variant": "../x"}, "variant: found"),
    ],
)
def test_arguments_that_would_do_nothing_or_harm_are_refused(checkpoint, argument, message):
    model_class, folder = checkpoint
    with pytest.raises(ValueError, match=message):
        model_class.from_pretrained(folder, **argument)


def test_arguments_that_say_what_is_done_anyway_pass(checkpoint):
    model_class, folder = checkpoint
    model_class.from_pretrained(folder, ignore_mismatched_sizes=False, strict=True)


def test_weights_at_hand_load_by_their_names(checkpoint):
    model_class, folder = checkpoint
    weights = load_file(folder / WEIGHTS)
    model = model_class.from_pretrained(folder)
    found = model_class.from_pretrained(None, config=model.config, state_dict=weights)
    for name, value in model.state_dict().items():
        assert torch.equal(found.state_dict()[name], value)
    del weights[next(name for name in weights if name.endswith("bias"))]
    with pytest.raises(ValueError, match="given does not fit the model: it lacks 1 key"):
        model_class.from_pretrained(None, config=model.config, state_dict=weights)


def test_pickled_weights_are_read_by_our_reader(checkpoint):
    model_class, folder = checkpoint
    if model_class in (CMAModel, Seq2SeqModel, RDPModel, NavDPModel, NextDiTActionExpert):
        expected = model_class.from_pretrained(folder).state_dict()
        torch.save(load_file(folder / WEIGHTS), folder / "pytorch_model.bin")
        (folder / WEIGHTS).unlink()
        found = model_class.from_pretrained(folder).state_dict()
        assert all(torch.equal(found[name], value) for name, value in expected.items())
    (folder / WEIGHTS).unlink(missing_ok=True)
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x02cposix\nsystem\n(X\x01\0\0\0atR.")
    refused(model_class, folder, "pytorch_model.bin: found")


def shards(folder) -> dict:
    weights = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    names = sorted(weights)
    places = {n: f"model-0000{1 + (i > 3)}-of-00002.safetensors" for i, n in enumerate(names)}
    for file in set(places.values()):
        part = {name: weights[name] for name in names if places[name] == file}
        save_file(part, folder / file, {"format": "pt"})
    return places


def test_shards_load_with_their_list_and_without(checkpoint):
    model_class, folder = checkpoint
    expected = model_class.from_pretrained(folder).state_dict()
    places = shards(folder)
    for listed in (True, False):
        if listed:
            index = {"metadata": {"total_size": 1}, "weight_map": places}
            (folder / INDEX).write_text(json.dumps(index))
        else:
            (folder / INDEX).unlink()
        found = model_class.from_pretrained(folder).state_dict()
        assert all(torch.equal(found[name], value) for name, value in expected.items())


@pytest.mark.parametrize(
    ("places", "message"),
    [
        ({"a": "../../secret.safetensors"}, "expected files in this folder"),
        ({"a": "/etc/passwd"}, "expected files in this folder"),
        ({"a": ".."}, "expected files in this folder"),
        ({"a": 3}, "expected files in this folder"),
        ({"a": "model-00009-of-00009.safetensors"}, "1 of 1 files are missing"),
        ({str(i): f"{i}.safetensors" for i in range(20_000)}, "found 20000 files"),
        ({}, "weight_map: found none"),
        ([1], "weight_map: found none"),
    ],
)
def test_a_list_of_shards_that_lies_is_named(saved, tmp_path, places, message):
    shutil.copytree(saved / "CMAModel", tmp_path, dirs_exist_ok=True)
    (tmp_path / WEIGHTS).unlink()
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": places}))
    refused(CMAModel, tmp_path, message)


def test_shards_that_are_not_all_there_are_named(saved, tmp_path):
    shutil.copytree(saved / "CMAModel", tmp_path, dirs_exist_ok=True)
    shards(tmp_path)
    (tmp_path / "model-00001-of-00002.safetensors").unlink()
    refused(CMAModel, tmp_path, "Download them all")


def test_encoders_of_transformers_are_checked_too(tmp_path):
    config = Dinov2Config(hidden_size=8, num_hidden_layers=1, num_attention_heads=1)
    Dinov2Model(config).save_pretrained(tmp_path)
    load_published(DINO, tmp_path)
    torch.save(load_file(tmp_path / WEIGHTS), tmp_path / "pytorch_model.bin")
    for content in SAFETENSORS.values():
        (tmp_path / WEIGHTS).write_bytes(content)
        with pytest.raises(ValueError, match=f"{WEIGHTS}: found"):
            load_published(DINO, tmp_path)
    (tmp_path / WEIGHTS).unlink()
    assert isinstance(load_published(DINO, tmp_path), Dinov2Model)
    change(tmp_path, num_hidden_layers=500)
    with pytest.raises(ValueError, match="num_hidden_layers: found 500, but the weights are"):
        load_published(DINO, tmp_path)


def test_a_dual_system_is_no_system2(saved):
    with pytest.raises(ValueError, match="found a dual system, expected a System2: open it by"):
        System2Model.from_pretrained(saved / "DualSystemModel")


def test_a_repository_that_cannot_be_reached_is_one_line():
    for path in ("/nowhere/model", "../nowhere", "some/where/else"):
        with pytest.raises(ValueError, match="there is no such folder"):
            stored_config(path)


def test_a_variant_has_files_of_its_own(saved, tmp_path):
    shutil.copytree(saved / "CMAModel", tmp_path, dirs_exist_ok=True)
    (tmp_path / WEIGHTS).rename(tmp_path / "model.small.safetensors")
    assert open_weights(tmp_path) is None
    CMAModel.from_pretrained(tmp_path, variant="small")


def test_the_oldest_release_does_not_say_that_it_is_a_dual_system(tmp_path):
    """InternVLA-N1-wo-dagger: 16 queries, and a configuration of a Qwen2.5-VL."""
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "qwen2_5_vl", "hidden_size": 64})
    )
    weights = {"model.navdp.a": torch.ones(1), "model.latent_queries": torch.ones(1, 16, 8)}
    save_file(weights, tmp_path / WEIGHTS)
    config = DualSystemConfig.from_pretrained(tmp_path)
    assert config.num_queries == 16
    assert config.action_expert_config.model_type == "internnav_navdp_action_expert"


def test_what_trainers_set_on_a_configuration_loads_again(checkpoint, tmp_path):
    model_class, folder = checkpoint
    model = model_class.from_pretrained(folder)
    for name, value in (("pad_token_id", 1), ("eos_token_id", [1, 2]), ("bos_token_id", 0)):
        setattr(model.config, name, value)
    model.config.use_cache = False
    model.save_pretrained(tmp_path / "again", max_shard_size="100KB")
    found = model_class.from_pretrained(tmp_path / "again").state_dict()
    assert all(torch.equal(found[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("make", [tiny_system2, tiny_dual_system])
def test_resized_embeddings_load_again(make, tmp_path):
    model = make()
    model.resize_token_embeddings(model.config.get_text_config().vocab_size + 8)
    model.save_pretrained(tmp_path)
    found = type(model).from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(found[name], value) for name, value in model.state_dict().items())
