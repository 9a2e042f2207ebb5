"""What weights were made from is judged by cards and content, whatever folders are called."""

import json
from pathlib import Path

import pytest
import torch
import yaml

from internnav_hf.publishing.licences import NON_COMMERCIAL, QWEN_RESEARCH, SCANS, Licence
from internnav_hf.publishing.origins import (
    Origin,
    fields_of,
    licences_of_card,
    made_from,
    read_card,
    weights_origins,
)
from tests.hub_server import go_online, serve

CARD = "---\nlicense: {}\n---\n# Anything\n"
LAUGHS = "a0: &a0 [x]\n" + "\n".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)
)
LAUGHS += "\nlicense: *a9"


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


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with serve() as running:
        go_online(monkeypatch, running, tmp_path / "hub-cache")
        yield running


@pytest.mark.parametrize(
    "head",
    [
        "license: 2026-13-45",
        "license: !!int cc-by-nc-4.0",
        "license: !!timestamp gpl",
        "license: !!python/object:os.system x",
        "a: 0x_",
        "tags: 3",
        "license: &a [*a]",
        LAUGHS,
    ],
)
def test_a_head_of_any_yaml_is_no_error_and_frees_nothing(tmp_path, head):
    (tmp_path / "README.md").write_text(f"---\n{head}\n---\n")
    assert all(one is None or one.restricts for one in licences(tmp_path))


@pytest.mark.parametrize("text", ["CC BY-NC-SA 4.0", "['Cc-By-NC-SA-4.0']", "ＣＣ-BY-NC-SA-4.0"])
def test_a_licence_is_known_in_other_letters(tmp_path, text):
    (tmp_path / "README.md").write_text(CARD.format(text), encoding="utf-8")
    assert licences(tmp_path) == {NON_COMMERCIAL}


@pytest.mark.parametrize(
    "head",
    [
        "base_model: InternRobotics/InternVLA-N1-System2",
        "base_model: [x/y, InternRobotics/InternVLA-N1-System2]",
        "datasets: InternRobotics/InternData-N1",
        "made_from: []\nbase_model: InternRobotics/InternVLA-N1",
    ],
)
def test_what_a_card_names_as_its_base_or_data_restricts_it(tmp_path, head):
    (tmp_path / "README.md").write_text(f"---\nlicense: mit\n{head}\n---\n")
    assert licences(tmp_path) == {Licence("mit"), NON_COMMERCIAL}


def test_a_base_frees_nothing(tmp_path):
    (tmp_path / "README.md").write_text("---\nbase_model: Qwen/Qwen2.5-VL-7B-Instruct\n---\n")
    assert licences(tmp_path) == {None}


def test_bases_of_bases_count_and_may_go_in_a_circle(hub):
    cards = {
        "x/a": "license: mit\nbase_model: x/b",
        "x/b": "license: mit\nbase_model: [x/b, x/a, x/c]",
        "x/c": "license: cc-by-nc-4.0",
    }
    for name, head in cards.items():
        hub.repositories[name] = {"README.md": f"---\n{head}\n---\n".encode()}
    assert licences("x/a") == {Licence("mit"), Licence("cc-by-nc-4.0")}


@pytest.mark.parametrize(
    ("file", "content", "licence"),
    [
        ("config.json", {"model_type": "internvla_n1"}, NON_COMMERCIAL),
        (
            "adapter_config.json",
            {"base_model_name_or_path": "Qwen/Qwen2.5-VL-3B-Instruct"},
            QWEN_RESEARCH,
        ),
    ],
)
def test_a_repository_is_judged_by_its_content_as_a_folder_is(hub, file, content, licence):
    hub.repositories["x/renamed"] = {"README.md": CARD.format("mit").encode()}
    hub.repositories["x/renamed"][file] = json.dumps(content).encode()
    assert licences("x/renamed") == {Licence("mit"), licence}


def test_a_folder_called_as_a_free_repository_is_not_free(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("Qwen/Qwen2.5-VL-7B-Instruct", "random"):
        Path(name).mkdir(parents=True)
        assert licences(name) == {None}


def test_a_link_is_what_it_leads_to(tmp_path):
    (tmp_path / "InternVLA-N1").mkdir()
    (tmp_path / "mine").symlink_to(tmp_path / "InternVLA-N1")
    assert licences(tmp_path / "mine") == {NON_COMMERCIAL}


def test_a_configuration_beside_a_release_hides_nothing(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    torch.save({"net.rgb_encoder.weight": torch.zeros(1)}, tmp_path / "mine.pth")
    assert licences(tmp_path) == {SCANS}
    (tmp_path / "config.json").write_text('{"model_type": "internnav_cma"}')
    assert licences(tmp_path) == {SCANS}


@pytest.mark.parametrize("base", [3, ["a"], True, "\0", "x" * 5000, "../b"])
def test_an_odd_adapter_is_no_error(tmp_path, base):
    for name, stands_on in (("a", base), ("b", str(tmp_path / "a"))):
        (tmp_path / name).mkdir()
        settings = json.dumps({"base_model_name_or_path": stands_on})
        (tmp_path / name / "adapter_config.json").write_text(settings)
    assert licences(tmp_path / "b") == {None}


@pytest.mark.parametrize(
    "config", [{"vlm_config": 3}, {"text_config": [1]}, {"system2_config": {"vlm_config": "x"}}]
)
def test_an_odd_configuration_is_no_error(tmp_path, config):
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert licences(tmp_path) == {None}
