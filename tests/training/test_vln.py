"""How a training of Seq2Seq, CMA or RDP starts."""

import json
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from internnav_hf.arguments.training import NavTrainingArguments
from internnav_hf.models.rdp.model import RDPModel
from internnav_hf.models.vln.cma import CMAModel
from internnav_hf.training.vln import (
    StartArguments,
    VLNDataArguments,
    VLNDatasets,
    open_dataset,
    start,
)
from tests.data.vln_pe import INSTRUCTIONS, WORDS, write_root
from tests.recipes.vln import SCANS, write_base
from tests.tiny import rdp as tiny_rdp
from tests.tiny import vln as tiny_vln

NUM_WORDS = 2 + len({"walk", "past", "the", "chair", "then", "stop", "turn", "left", "at", "red"})


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_base(tmp_path_factory.mktemp("vln"))


def arguments(base, kind: str, **fields) -> StartArguments:
    sizes = yaml.safe_load((base / f"{kind}.yaml").read_text())
    sizes.pop("vocab_size", None)
    sizes.get("text_config", {}).pop("vocab_size", None)
    file = base / f"{kind}_without_words.yaml"
    file.write_text(yaml.safe_dump(sizes))
    return StartArguments(**{"model_config": str(file), "tokenizer": "words"} | fields)


def begin(base, kind: str, **fields):
    return start(kind, arguments(base, kind, **fields), {str(base / "data"): [SCANS[0]]})


@pytest.mark.parametrize("kind", ["cma", "rdp"])
def test_words_are_those_of_the_data_where_nothing_names_them(base, kind):
    model, processor = begin(base, kind)
    assert isinstance(model, {"cma": CMAModel, "rdp": RDPModel}[kind])
    text = model.config.text_config if kind == "rdp" else model.config
    assert len(processor.tokenizer) == text.vocab_size == NUM_WORDS
    ids = processor.encode_instructions(INSTRUCTIONS)
    assert ids.max() < NUM_WORDS
    assert 1 not in ids  # nothing is unknown
    assert processor.image_size == model.config.image_size
    assert (processor.resize, processor.max_length) == (
        ("clip", 248) if kind == "rdp" else ("bilinear", 200)
    )


def test_cma_over_clip_learns_words_too(base):
    clip = {key: tiny_rdp.SIZES[key] for key in ("text_config", "vision_config")}
    sizes = dict(tiny_vln.SIZES) | clip | {"use_clip": True, "hidden_size": 32}
    sizes |= {"num_cross_modal_attention_heads": 2, "cross_modal_intermediate_size": 48}
    sizes["text_config"] = dict(sizes["text_config"]) | {"max_position_embeddings": 16}
    for fields in (sizes, sizes["text_config"]):
        fields.pop("vocab_size")
    file = base / "clip.json"
    file.write_text(json.dumps(sizes))
    model, processor = begin(base, "cma", model_config=str(file))
    assert model.config.vocab_size == model.config.text_config.vocab_size == NUM_WORDS
    assert (processor.resize, processor.max_length) == ("clip", 16)


def test_a_word_list_gives_the_ids_that_are_stored(base, tmp_path):
    (tmp_path / "train.json").write_text(json.dumps({"instruction_vocab": {"word_list": WORDS}}))
    model, processor = begin(base, "cma", vocabulary=str(tmp_path / "train.json"))
    assert model.config.vocab_size == len(WORDS)
    assert processor.encode_instructions(["walk the"]).tolist() == [
        [WORDS.index("walk"), WORDS.index("the")]
    ]


def test_words_that_a_checkpoint_does_not_have_are_an_error(base, tmp_path):
    model, processor = begin(base, "cma")
    model.save_pretrained(tmp_path / "ours")
    words = tmp_path / "words.txt"
    words.write_text("\n".join(f"word{i}" for i in range(NUM_WORDS)))  # and <pad>, <unk>
    fields = {"init_from": str(tmp_path / "ours"), "model_config": None, "vocabulary": str(words)}
    with pytest.raises(ValueError, match=f"{NUM_WORDS + 2} words in .* of {NUM_WORDS}: pass those"):
        begin(base, "cma", **fields)
    processor.save_pretrained(tmp_path / "ours")
    with pytest.raises(ValueError, match="has its own words, .* leave --vocabulary out"):
        begin(base, "cma", **fields)
    begin(base, "cma", **fields | {"vocabulary": None})


def test_a_tokenizer_that_is_not_there_is_one_clear_error(base, tmp_path, monkeypatch):
    message = r"--tokenizer .*: found no tokenizer \(.*\). Name a folder with CLIP's, or words"
    with pytest.raises(ValueError, match=message):
        begin(base, "rdp", tokenizer=str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=message):
        begin(base, "rdp", tokenizer="nobody/has-this")


def test_what_a_card_names_as_base():
    assert not any(StartArguments().parents)
    given = StartArguments(init_from="a/b", rgb_encoder="resnet50.pth", word_embeddings="c.gz")
    assert [one for one in given.parents if one] == ["a/b", "resnet50.pth", "c.gz"]


def test_features_go_by_the_encoders(base, tmp_path):
    """One file an episode; other weights never find it, the same do."""
    walks = VLNDataArguments([str(base / "data")], cache_dir=str(tmp_path))
    args = NavTrainingArguments(str(tmp_path), use_cpu=True, dataloader_num_workers=0)
    model, processor = begin(base, "cma")
    shared = (str(base / "data"), [SCANS[0]], model, processor, walks, args)
    dataset = open_dataset(*shared)
    files = list(tmp_path.glob("features/*/*/*.safetensors"))
    assert len(files) == 4
    assert "rgb" not in dataset[0]
    found = load_file(files[0])["rgb_features"]
    assert found.dtype == torch.float16
    stamps = [file.stat().st_mtime_ns for file in sorted(files)]
    open_dataset(*shared)
    assert [file.stat().st_mtime_ns for file in sorted(files)] == stamps
    with torch.no_grad():
        next(model.depth_encoder.parameters()).add_(0.1)
    open_dataset(*shared)
    assert len(list(tmp_path.glob("features/*/*/*.safetensors"))) == 8
    model.config.rgb_config.hidden_act = "gelu"  # as a model of the same weights might have
    open_dataset(*shared)
    assert len(list(tmp_path.glob("features/*/*/*.safetensors"))) == 12
    walks.cache_features = False
    assert "rgb" in open_dataset(*shared)[0]


def test_sets_after_each_other_have_all_lengths(base, tmp_path):
    write_root(tmp_path / "more", scenes=1, walks=1)
    model, processor = begin(base, "cma")
    walks = VLNDataArguments(["unused"], cache_features=False, cache_dir=str(tmp_path))
    args = NavTrainingArguments(str(tmp_path), use_cpu=True)
    opened = [
        open_dataset(str(root), None, model, processor, walks, args)
        for root in (base / "data", tmp_path / "more")
    ]
    sets = VLNDatasets(opened)
    assert len(sets) == len(sets.lengths) == 24 + 3
    items: Any = sets
    assert [len(items[index]["actions"]) for index in (0, -1)] == sets.lengths[[0, -1]].tolist()
