"""What weights were made from is judged by cards and content, whatever folders are called."""

import json

import pytest
import torch
import yaml

from internnav_hf.models.licences import NON_COMMERCIAL, QWEN_RESEARCH, SCANS, Licence
from internnav_hf.models.origins import (
    Origin,
    fields_of,
    licences_of_card,
    made_from,
    read_card,
    weights_origins,
)

CARD = "---\nlicense: {}\n---\n# Anything\n"


def licences(path, kind=""):
    return {origin.licence for origin in weights_origins(path, kind)}


def test_nothing_comes_from_random_weights():
    for nothing in (None, "random", "random weights"):
        assert not weights_origins(nothing)


def test_a_folder_is_judged_by_its_card_whatever_its_name(tmp_path):
    folder = tmp_path / "my own mit model"
    folder.mkdir()
    (folder / "README.md").write_text(CARD.format("cc-by-nc-sa-4.0"))
    assert licences(folder) == {NON_COMMERCIAL}
    (folder / "README.md").write_text("---\r\nlicense: [mit, cc-by-nc-4.0]\r\n---\r\n")
    assert licences(folder) == {Licence("mit"), Licence("cc-by-nc-4.0")}


def test_a_folder_without_a_card_is_unknown(tmp_path):
    assert licences(tmp_path) == {None}
    (tmp_path / "config.json").write_text('{"model_type": "qwen2_5_vl", "hidden_size": 64}')
    assert licences(tmp_path) == {None}
    (tmp_path / "README.md").write_text("# No head\n")
    assert licences(tmp_path) == {None}
    (tmp_path / "README.md").write_text("---\nlicense: [\n---\n")
    assert licences(tmp_path) == {None}


@pytest.mark.parametrize(
    ("config", "licence"),
    [
        ({"model_type": "internvla_n1"}, NON_COMMERCIAL),
        ({"architectures": ["StreamVLNForCausalLM"], "model_type": "llava_qwen"}, NON_COMMERCIAL),
        (
            {"model_type": "qwen2_5_vl", "hidden_size": 2048, "vocab_size": 151_936},
            QWEN_RESEARCH,
        ),
        (
            {
                "model_type": "internnav_system2",
                "vlm_config": {
                    "model_type": "qwen2_5_vl",
                    "text_config": {"hidden_size": 2048, "vocab_size": 151_936},
                },
            },
            QWEN_RESEARCH,
        ),
    ],
)
def test_a_configuration_tells_where_weights_come_from(tmp_path, config, licence):
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert licences(tmp_path) == {licence}


@pytest.mark.parametrize(
    ("key", "licence"),
    [
        ("actor_critic.net.visual_encoder.backbone.conv1.0.weight", SCANS),
        ("net.rgb_encoder.cnn.conv1.weight", SCANS),
        ("positional_embedding_res", Licence("apache-2.0")),
        ("layer1.weight", None),
    ],
)
def test_a_file_is_judged_by_its_keys_whatever_its_name(tmp_path, key, licence):
    file = tmp_path / "mine.pth"
    torch.save({key: torch.zeros(2)}, file)
    assert licences(file) == {licence}
    assert licences(file, "internnav_navdp") == {NON_COMMERCIAL}


def test_a_checkpoint_is_under_the_card_of_its_run(tmp_path):
    (tmp_path / "README.md").write_text(CARD.format("cc-by-nc-sa-4.0"))
    (tmp_path / "checkpoint-5").mkdir()
    assert licences(tmp_path / "checkpoint-5") == {NON_COMMERCIAL}


def test_an_adapter_is_under_the_terms_of_its_base(tmp_path):
    base = {"base_model_name_or_path": "Qwen/Qwen2.5-VL-3B-Instruct"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(base))
    assert licences(tmp_path) == {QWEN_RESEARCH}


def test_the_cache_of_the_hub_tells_repository_and_revision(tmp_path):
    folder = tmp_path / "models--Qwen--Qwen2.5-VL-3B-Instruct" / "snapshots" / "0123abc"
    folder.mkdir(parents=True)
    found = weights_origins(folder)
    assert found == [
        Origin("Qwen/Qwen2.5-VL-3B-Instruct", "weights", QWEN_RESEARCH, "0123abc", found[0].name)
    ]


def test_a_hub_name_may_have_a_revision():
    (found,) = weights_origins("Qwen/Qwen2.5-VL-7B-Instruct@main")
    assert (found.name, found.version) == ("Qwen/Qwen2.5-VL-7B-Instruct", "main")
    assert found.licence == Licence("apache-2.0")
    (unknown,) = weights_origins("somebody/something")
    assert unknown.licence is None


def test_what_a_model_was_made_from_passes_on(tmp_path):
    """All of it, also what is not known."""
    given = [
        Origin("a/b", "weights", QWEN_RESEARCH, "main", "a/b"),
        Origin("mine", "data", None),
    ]

    head = yaml.safe_dump({"made_from": fields_of(given)})
    (tmp_path / "README.md").write_text(f"---\n{head}---\n")
    assert made_from(read_card(tmp_path / "README.md")) == given
    assert weights_origins(tmp_path) == given


def test_an_odd_card_is_no_error(tmp_path):
    path = tmp_path / "README.md"
    for head in ("[1, 2]", "license: {a: 1}", "made_from: 3", "made_from: [3, {x: 1}]", "&a [*a]"):
        path.write_text(f"---\n{head}\n---\n")
        weights_origins(tmp_path)
    path.write_bytes(b"\xff\xfe---")
    assert read_card(path) == {}
    assert licences_of_card({"license": "unknown"}) == []
