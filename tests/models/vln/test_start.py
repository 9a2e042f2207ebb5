"""Encoders start from DD-PPO's, torchvision's, transformers' and our own files."""

import gzip
import json

import pytest
import torch
from torch.testing import assert_close
from transformers import ResNetForImageClassification

from internnav_hf.models.vln.start import start_vln
from tests.tiny.vln import SIZES, tiny_cma, tiny_seq2seq


def changed(model):
    """`model` with other weights than a fresh one's."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    return model


def torchvision_names(weights: dict) -> dict:
    """transformers' names of a ResNet of basic layers -> torchvision's."""
    renamed = {}
    for key, value in weights.items():
        key = key.replace("embedder.embedder.convolution", "conv1")
        key = key.replace("embedder.embedder.normalization", "bn1")
        key = key.replace("shortcut.convolution", "downsample.0")
        key = key.replace("shortcut.normalization", "downsample.1")
        for stage in range(4):
            key = key.replace(f"encoder.stages.{stage}.layers.", f"layer{stage + 1}.")
        for layer in range(2):
            key = key.replace(f"layer.{layer}.convolution", f"conv{layer + 1}")
            key = key.replace(f"layer.{layer}.normalization", f"bn{layer + 1}")
        renamed[key] = value
    return renamed


def words_file(path, table):
    with gzip.open(path, "wt") as file:
        json.dump(table, file)
    return str(path)


def assert_same(module, other) -> None:
    for (name, value), expected in zip(
        module.state_dict().items(), other.state_dict().values(), strict=True
    ):
        assert_close(value, expected, msg=name)


def test_depth_starts_from_dd_ppo_and_is_the_same_in_both_models(tmp_path):
    other = changed(tiny_cma()).depth_encoder
    prefix = "actor_critic.net.visual_encoder."
    weights = {prefix + key: value for key, value in other.state_dict().items()}
    weights["actor_critic.net.tgt_embeding.weight"] = torch.zeros(2)
    torch.save({"state_dict": weights, "config": "hparams"}, tmp_path / "gibson.pth")
    for model in (tiny_seq2seq(), tiny_cma()):
        start_vln(model, depth_encoder=str(tmp_path / "gibson.pth"))
        assert_same(model.depth_encoder, other)


def test_colour_starts_from_torchvision(tmp_path):
    other = changed(tiny_cma()).rgb_encoder
    weights = torchvision_names(other.state_dict())
    weights = {key: value for key, value in weights.items() if "num_batches" not in key}
    torch.save(weights | {"fc.weight": torch.zeros(3, 16)}, tmp_path / "resnet.pth")
    model = tiny_seq2seq()
    start_vln(model, rgb_encoder=str(tmp_path / "resnet.pth"))
    assert_same(model.rgb_encoder, other)


def test_colour_starts_from_transformers_resnet(tmp_path):
    model = tiny_seq2seq()
    other = changed(ResNetForImageClassification(model.config.rgb_config))
    other.save_pretrained(tmp_path)
    start_vln(model, rgb_encoder=str(tmp_path))
    assert_same(model.rgb_encoder, other.resnet)


def test_words_start_from_their_table(tmp_path):
    table = [[float(row * column) for column in range(6)] for row in range(20)]
    model = tiny_seq2seq()
    start_vln(model, word_embeddings=words_file(tmp_path / "words.json.gz", table))
    weight = model.instruction_encoder.word_embeddings.weight
    assert_close(weight, torch.tensor(table))
    assert not weight.requires_grad


def test_every_part_starts_from_a_checkpoint_of_another_model_of_ours(tmp_path):
    other = changed(tiny_cma())
    other.save_pretrained(tmp_path)
    model = tiny_seq2seq()
    source = str(tmp_path)
    start_vln(model, depth_encoder=source, rgb_encoder=source, word_embeddings=source)
    assert_same(model.depth_encoder, other.depth_encoder)
    assert_same(model.rgb_encoder, other.rgb_encoder)
    words = other.instruction_encoder.word_embeddings
    assert_same(model.instruction_encoder.word_embeddings, words)


def test_what_stays_random_and_frozen_without_being_asked_for_is_told(caplog):
    start_vln(tiny_cma(train_rgb_encoder=True), depth_encoder="random")
    (record,) = caplog.records
    assert record.getMessage().startswith("--word_embeddings: None")


def test_nothing_and_random_change_nothing():
    model = tiny_cma()
    start_vln(model, depth_encoder="random", rgb_encoder=None)
    assert_same(model, tiny_cma())


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ({"depth_encoder": "/nowhere/ddppo.pth"}, r"--depth_encoder /nowhere/ddppo.pth: there is"),
        ({"rgb_encoder": "/nowhere"}, r"--rgb_encoder /nowhere: there is no such folder"),
        ({"text_encoder": "x.pt"}, r"--text_encoder x.pt: a Seq2SeqModel has none, only \["),
    ],
)
def test_what_does_not_exist_is_named(option, told):
    with pytest.raises(ValueError, match=told):
        start_vln(tiny_seq2seq(), **option)


def test_what_does_not_fit_is_named(tmp_path):
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"a.pth: found no key actor_critic.net.visual_encoder"):
        start_vln(tiny_seq2seq(), depth_encoder=str(tmp_path / "a.pth"))
    with pytest.raises(ValueError, match=r"a.pth does not fit the model: it lacks"):
        start_vln(tiny_seq2seq(), rgb_encoder=str(tmp_path / "a.pth"))
    short = words_file(tmp_path / "short.json.gz", [[0.0] * 6] * 19)
    with pytest.raises(ValueError, match=r"found a table of \(19, 6\), expected \(20, 6\)"):
        start_vln(tiny_seq2seq(), word_embeddings=short)
    full = words_file(tmp_path / "full.json.gz", [[1.0] * 6] * 20)
    with pytest.raises(ValueError, match="row 0: found a vector, expected zeros"):
        start_vln(tiny_seq2seq(), word_embeddings=full)
    (tmp_path / "text.json.gz").write_text("[[0]]")
    with pytest.raises(ValueError, match="expected gzipped lists of numbers"):
        start_vln(tiny_seq2seq(), word_embeddings=str(tmp_path / "text.json.gz"))


def test_sizes_of_another_model_do_not_fit(tmp_path):
    tiny_cma(depth_base_planes=8).save_pretrained(tmp_path)
    assert SIZES["depth_base_planes"] != 8
    with pytest.raises(ValueError, match="other shapes"):
        start_vln(tiny_seq2seq(), depth_encoder=str(tmp_path))
