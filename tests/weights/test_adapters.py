"""An adapter opens as its base with what it adds, once, by every class that opens models."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close
from transformers import AutoModel

from internnav_hf.models.dual_system.model import DualSystemModel
from internnav_hf.models.system2.config import System2Config
from internnav_hf.models.system2.model import System2Model
from internnav_hf.training.tuning import add_lora
from tests.tiny.dual_system import tiny_dual_system
from tests.tiny.system2 import tiny_system2

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def train(model) -> dict:
    """As if it had learnt: LoRA of random numbers, saved; the weights that it then has."""
    torch.manual_seed(1)
    adapted = add_lora(model, 4)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)
    return adapted


def saved(adapted, folder) -> dict[str, torch.Tensor]:
    adapted.save_pretrained(folder)
    return {k: v.clone() for k, v in adapted.merge_and_unload().state_dict().items()}


def assert_same(model, weights) -> None:
    found = model.state_dict()
    assert found.keys() == weights.keys()
    for name, value in weights.items():
        assert_close(found[name], value)


@pytest.fixture
def plain(tmp_path):
    tiny_system2(use_pixel_goal_head=False).save_vlm(tmp_path / "vlm")
    return str(tmp_path / "vlm")


@pytest.fixture
def adapter(plain, tmp_path):
    """Of a plain Qwen-VL, to which training added a head."""
    sizes = {"head_hidden_size": 32, "image_width": 112, "image_height": 84}
    model = System2Model.from_pretrained(plain, use_pixel_goal_head=True, **sizes)
    weights = saved(train(model), tmp_path / "adapter")
    return tmp_path / "adapter", weights


@pytest.mark.parametrize("opened_by", [System2Model, AutoModel])
def test_of_a_plain_qwen_with_the_head_that_it_brings(adapter, opened_by):
    folder, weights = adapter
    model = opened_by.from_pretrained(folder)
    assert isinstance(model, System2Model)
    assert_same(model, weights)
    assert System2Config.from_pretrained(folder).use_pixel_goal_head


def test_merged_and_saved_it_is_a_model_like_any_other(adapter, tmp_path):
    folder, weights = adapter
    System2Model.from_pretrained(folder).save_pretrained(tmp_path / "merged")
    assert_same(System2Model.from_pretrained(tmp_path / "merged"), weights)
    shutil.copy(folder / CONFIG, tmp_path / "merged")
    shutil.copy(folder / WEIGHTS, tmp_path / "merged")
    for opened_by in (System2Model, AutoModel):  # transformers would add it once more
        with pytest.raises(ValueError, match=r"whole model.*and an adapter.*may be in it already"):
            opened_by.from_pretrained(tmp_path / "merged")


def test_an_adapter_may_stand_on_another(adapter, tmp_path):
    folder, _ = adapter
    weights = saved(train(System2Model.from_pretrained(folder)), tmp_path / "second")
    assert json.loads((tmp_path / "second" / CONFIG).read_text())["base_model_name_or_path"] == str(
        folder
    )
    assert_same(System2Model.from_pretrained(tmp_path / "second"), weights)


def test_of_a_dual_system_made_of_a_system2(tmp_path):
    tiny_system2().save_pretrained(tmp_path / "system2")
    made = tiny_dual_system()
    system2 = System2Model.from_pretrained(tmp_path / "system2")
    dual = DualSystemModel.from_parts(system2, made.config.action_expert_config)
    weights = saved(train(dual), tmp_path / "adapter")
    assert_same(DualSystemModel.from_pretrained(tmp_path / "adapter"), weights)
    assert_same(AutoModel.from_pretrained(tmp_path / "adapter"), weights)


def change(folder, **fields) -> None:
    settings = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(settings | fields))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"base_model_name_or_path": None}, "this is an adapter .*nothing says of which model"),
        ({"base_model_name_or_path": "/nowhere"}, "/nowhere: there is no such folder"),
        ({"peft_type": "IA3"}, "found 'IA3', expected a plain LoRA"),
        ({"use_dora": True}, "LORA with use_dora, expected a plain LoRA"),
        ({"layer_replication": [[0, 1000]]}, "layer_replication, expected a plain LoRA"),
        ({"r": 10**9}, "r: found 1000000000, its weights have"),
        ({"lora_alpha": "x"}, "lora_alpha: found 'x', expected a number"),
        ({"modules_to_save": None}, "neither the adapter nor its base .* pixel_goal_head"),
    ],
)
def test_settings_that_cannot_be_are_named(adapter, fields, message):
    folder, _ = adapter
    change(folder, **fields)
    with pytest.raises(ValueError, match=message):
        System2Model.from_pretrained(folder)


def test_a_pattern_of_the_file_is_never_run(adapter):
    folder, weights = adapter
    change(folder, target_modules="(a|a)*" * 20 + "$")
    assert_same(System2Model.from_pretrained(folder), weights)


def test_one_that_stands_on_itself_is_refused(adapter):
    folder, _ = adapter
    change(folder, base_model_name_or_path=str(folder))
    with pytest.raises(ValueError, match="stands on itself"):
        System2Model.from_pretrained(folder)


def test_weights_that_do_not_fit_are_named(adapter):
    folder, _ = adapter
    weights = load_file(folder / WEIGHTS)
    name = next(key for key in weights if key.endswith("lora_B.weight"))
    save_file({k: v for k, v in weights.items() if k != name}, folder / WEIGHTS)
    with pytest.raises(ValueError, match="1 keys do not fit the base"):
        System2Model.from_pretrained(folder)
    (folder / WEIGHTS).write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ValueError, match="git lfs pull"):
        System2Model.from_pretrained(folder)
    (folder / WEIGHTS).unlink()
    with pytest.raises(ValueError, match="adapter without adapter_model.safetensors"):
        System2Model.from_pretrained(folder)


def test_an_adapter_alone_has_the_configuration_of_its_base(tmp_path):
    """As other tools save them."""
    tiny_system2().save_pretrained(tmp_path / "base")
    adapted = train(System2Model.from_pretrained(tmp_path / "base"))
    weights = saved(adapted, tmp_path / "adapter")
    (tmp_path / "adapter" / "config.json").unlink()
    for opened_by in (System2Model, AutoModel):
        assert_same(opened_by.from_pretrained(tmp_path / "adapter"), weights)
    with pytest.raises(ValueError, match=r"an adapter \(LoRA\) without config.json"):
        System2Config.from_pretrained(tmp_path / "adapter")
