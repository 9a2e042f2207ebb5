"""Released Seq2Seq and CMA load strictly, from folders and files, and give upstream's numbers."""

import gzip
import json
import sys
import types

import pytest
import torch
from safetensors.torch import save_file
from torch.testing import assert_close

from internnav_hf.models.vln.cma import CMAModel
from internnav_hf.models.vln.released import read_release, released_fields
from internnav_hf.models.vln.seq2seq import Seq2SeqModel
from tests.tiny.vln import tiny_cma
from tests.tiny.vln_golden import golden, released_weights

MODELS = {"seq2seq": Seq2SeqModel, "cma": CMAModel}
NUM_STEPS, NUM_EPISODES = 3, 2
CHILDREN = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}


@pytest.fixture(scope="module")
def weights() -> dict:
    """By name of the model, under released names."""
    return {name: released_weights(name) for name in MODELS}


@pytest.fixture(scope="module", params=MODELS)
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def folder(name, weights, tmp_path_factory):
    folder = tmp_path_factory.mktemp("released")
    torch.save(weights[name], folder / "pytorch_model.bin")
    settings = {"rgb_encoder": {"trainable": False}, "depth_encoder": {"trainable": False}}
    settings["instruction_encoder"] = {"fine_tune_embeddings": True}
    config = {"model_type": name, "model_cfg": {"il": {"epochs": 100}, "model": settings}}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def model(name, folder):
    return MODELS[name].from_pretrained(folder)


@pytest.fixture(scope="module")
def evaluated(name, folder):
    """As the goldens were made: the stored statistics count."""
    return MODELS[name].from_pretrained(folder, batch_norm_mode="running")


def by_episode(rows: torch.Tensor) -> torch.Tensor:
    return rows.unflatten(0, (NUM_STEPS, NUM_EPISODES)).transpose(0, 1)


def golden_batch(data: dict) -> dict:
    """Upstream's rows as a batch of ours."""
    return {
        "instruction_ids": by_episode(data["in.instruction"])[:, 0].long(),
        "rgb": by_episode(data["in.rgb"]).permute(0, 1, 4, 2, 3),
        "depth": 10 * by_episode(data["in.depth"])[..., 0],
        "previous_actions": by_episode(data["in.prev_actions"])[..., 0],
        "recurrent_state": data["in.rnn_states"],
        "reset_mask": ~by_episode(data["in.masks"])[..., 0],
    }


@torch.no_grad()
def test_a_sequence_gives_upstreams_numbers(name, evaluated):
    data = golden(f"{name}_policy")
    output = evaluated(**golden_batch(data))
    assert_close(output.logits, by_episode(data["out.log_probs"]), atol=1e-5, rtol=0)
    assert_close(output.progress, by_episode(data["out.progress"])[..., 0], atol=1e-5, rtol=0)
    assert_close(output.recurrent_state, data["out.rnn_states"], atol=2e-5, rtol=0)


@torch.no_grad()
def test_steps_one_by_one_give_upstreams_numbers(name, evaluated):
    data = golden(f"{name}_policy")
    batch, state = golden_batch(data), data["in.rnn_states"]
    instruction = evaluated.encode_instruction(batch["instruction_ids"])
    for t in range(NUM_STEPS):
        views = batch["rgb"][:, t], batch["depth"][:, t], batch["previous_actions"][:, t]
        step = evaluated.act(instruction, *views, state, batch["reset_mask"][:, t])
        state = step.recurrent_state
        expected = {
            key: by_episode(data[f"out.{key}"])[:, t] for key in ("argmax", "progress", "log_probs")
        }
        assert_close(step.actions, expected["argmax"][:, 0])
        assert_close(step.progress, expected["progress"][:, 0], atol=1e-5, rtol=0)
        assert_close(step.logits, expected["log_probs"], atol=1e-5, rtol=0)
    assert_close(state, data["out.rnn_states"], atol=2e-5, rtol=0)


def test_its_configuration_is_read_from_names_shapes_and_settings(name, model):
    config = model.config
    assert config.hidden_size == 512
    assert config.depth_num_blocks == (3, 4, 6, 3)
    assert config.instruction_rnn_type == "lstm"
    assert config.batch_norm_mode == {"seq2seq": "always", "cma": "training"}[name]
    assert config.train_word_embeddings
    assert not config.train_rgb_encoder
    assert config.has_progress_monitor
    assert config.image_size == 256


def test_what_is_saved_is_ours(name, model, tmp_path):
    model.save_pretrained(tmp_path)
    assert read_release(tmp_path) is None
    loaded = MODELS[name].from_pretrained(tmp_path)
    assert loaded.config.batch_norm_mode == model.config.batch_norm_mode
    for key, value in model.state_dict().items():
        assert_close(loaded.state_dict()[key], value, atol=0, rtol=0)


def test_a_folder_without_configuration_and_half_precision_loads(name, weights, tmp_path):
    half = {k: v.half() if v.is_floating_point() else v for k, v in weights[name].items()}
    save_file(half, tmp_path / "model.safetensors")
    (tmp_path / "optimizer.pt").touch()
    loaded = MODELS[name].from_pretrained(tmp_path, batch_norm_mode="running")
    assert loaded.dtype == torch.float32
    assert loaded.config.batch_norm_mode == "running"
    assert not loaded.config.train_word_embeddings


def test_vlnces_file_loads_without_its_configuration(name, weights, tmp_path, monkeypatch):
    module = types.ModuleType("another_library")
    exec("class Config(dict):\n    pass", module.__dict__)
    monkeypatch.setitem(sys.modules, "another_library", module)
    heads = ("action_distribution.",)
    content = {k if k.startswith(heads) else f"net.{k}": v for k, v in weights[name].items()}
    file = tmp_path / "ckpt.45.pth"
    torch.save({"state_dict": content, "config": module.Config(a=1)}, file)
    monkeypatch.delitem(sys.modules, "another_library")
    loaded = MODELS[name].from_pretrained(file)
    assert loaded.config.image_size == 224
    assert loaded.config.batch_norm_mode == "running"
    assert_close(loaded.action_head.bias, weights[name]["action_distribution.linear.bias"])


def test_a_checkpoint_of_another_variant_is_named(weights, tmp_path):
    torch.save(weights["cma"], tmp_path / "a.pth")
    torch.save({"action_dp_pred_net.mask": torch.zeros(1)}, tmp_path / "b.pth")
    torch.save({"bert.weight": torch.zeros(1)}, tmp_path / "c.pth")
    for file, found in [("a", "a CMA"), ("b", "a RDP"), ("c", "no model that is known here")]:
        with pytest.raises(ValueError, match=rf"{file}.pth: found {found}, expected a Seq2Seq"):
            Seq2SeqModel.from_pretrained(tmp_path / f"{file}.pth")


def test_our_own_checkpoint_of_another_variant_is_an_error(tmp_path):
    tiny_cma().save_pretrained(tmp_path)
    with pytest.raises(
        ValueError, match="a checkpoint of internnav_cma, expected internnav_seq2seq"
    ):
        Seq2SeqModel.from_pretrained(tmp_path)


def test_weights_of_ours_without_their_configuration_are_an_error(tmp_path):
    tiny_cma().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="model.safetensors: found weights of ours, expected the"):
        CMAModel.from_pretrained(tmp_path / "model.safetensors")


def test_what_a_release_leaves_out_is_read(weights, tmp_path):
    torch.save(weights["cma"], tmp_path / "pytorch_model.bin")
    told = {"ablate_depth": True, "ablate_rgb": False, "rgb_encoder": {"trainable": "no"}}
    told = {"model_cfg": {"model": told}}
    (tmp_path / "config.json").write_text(json.dumps(told))
    release = read_release(tmp_path)
    assert release is not None
    fields = released_fields(release, {})
    assert fields["ablated_inputs"] == ["depth"]
    assert "train_rgb_encoder" not in fields


def test_leftovers_are_named_and_can_be_left_out(weights, tmp_path):
    content = weights["seq2seq"] | {"rgb_encoder.old.weight": torch.zeros(1)}
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"has unexpected 1 key\(s\): rgb_encoder.old.weight"):
        Seq2SeqModel.from_pretrained(tmp_path / "a.pth")
    Seq2SeqModel.from_pretrained(tmp_path / "a.pth", unused=("rgb_encoder.old.",))


def test_a_file_with_parts_of_a_model_says_what_it_lacks(weights, tmp_path):
    content = {k: v for k, v in weights["cma"].items() if "instruction_encoder.encoder" not in k}
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"lacks 8 key\(s\): instruction_encoder.rnn.bias_hh_l0"):
        CMAModel.from_pretrained(tmp_path / "a.pth")


def test_options_for_released_weights_are_refused_elsewhere(tmp_path):
    tiny_cma().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="`encoders` and `unused` are for released weights"):
        CMAModel.from_pretrained(tmp_path, unused=("rgb",))


def test_frozen_encoders_that_were_left_out_are_named_and_can_be_filled(weights, tmp_path):
    left_out = ("rgb_encoder.cnn.", "depth_encoder.visual_encoder.", "instruction_encoder.emb")
    content = {k: v for k, v in weights["seq2seq"].items() if not k.startswith(left_out)}
    file = tmp_path / "a.pth"
    torch.save(content, file)
    with pytest.raises(ValueError, match="no depth_encoder, rgb_encoder, word_embeddings: frozen"):
        Seq2SeqModel.from_pretrained(file)
    encoders = encoder_files(weights["seq2seq"], tmp_path)
    loaded = Seq2SeqModel.from_pretrained(file, encoders=encoders)
    torch.save(weights["seq2seq"], file)
    expected = Seq2SeqModel.from_pretrained(file)
    for key, value in expected.state_dict().items():
        assert_close(loaded.state_dict()[key], value, msg=key)
    with pytest.raises(ValueError, match=r"encoders: found \['sound'\], expected some of"):
        Seq2SeqModel.from_pretrained(file, encoders={"sound": "x"})


def test_an_encoder_with_torchvisions_own_names_and_classifier_loads(weights, tmp_path):
    content = {}
    for key, value in weights["seq2seq"].items():
        child, dot, rest = key.removeprefix("rgb_encoder.cnn.").partition(".")
        is_cnn = key.startswith("rgb_encoder.cnn.")
        content[f"rgb_encoder.cnn.{CHILDREN[child]}{dot}{rest}" if is_cnn else key] = value
    content["rgb_encoder.cnn.fc.weight"] = torch.zeros(1000, 2048)
    torch.save(content, tmp_path / "a.pth")
    loaded = Seq2SeqModel.from_pretrained(tmp_path / "a.pth")
    stem = loaded.rgb_encoder.embedder.embedder.convolution.weight
    assert_close(stem, weights["seq2seq"]["rgb_encoder.cnn.0.weight"])


def encoder_files(weights: dict, folder) -> dict[str, str]:
    names = {"depth_encoder": "ddppo.pth", "rgb_encoder": "resnet.pth"}
    names["word_embeddings"] = "embeddings.json.gz"
    files = {key: str(folder / name) for key, name in names.items()}
    colour, depth = {}, {}
    for key, value in weights.items():
        if key.startswith("rgb_encoder.cnn."):
            child, rest = key.removeprefix("rgb_encoder.cnn.").split(".", 1)
            colour[f"{CHILDREN[child]}.{rest}"] = value
        elif key.startswith("depth_encoder.visual_encoder."):
            depth[f"actor_critic.net.{key.removeprefix('depth_encoder.')}"] = value
    torch.save(colour, files["rgb_encoder"])
    torch.save({"state_dict": depth}, files["depth_encoder"])
    words = weights["instruction_encoder.embedding_layer.weight"]
    words[0] = 0
    with gzip.open(files["word_embeddings"], "wt") as file:
        json.dump(words.tolist(), file)
    return files


def test_settings_that_are_no_json_are_named(weights, tmp_path):
    torch.save(weights["cma"], tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config.json: found .* expected JSON"):
        CMAModel.from_pretrained(tmp_path)
