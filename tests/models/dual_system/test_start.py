import json

import pytest
import torch
from peft import LoraConfig
from transformers import AutoConfig, AutoModel

from internnav_hf.models.dual_system.config import action_experts
from internnav_hf.models.dual_system.model import DualSystemModel
from internnav_hf.models.dual_system.start import (
    start_dual_system,
    starting_config,
    system1_of,
)
from internnav_hf.models.system2.processor import System2Processor
from internnav_hf.training.lora import adapted_model
from tests.recipes.dual import EXPERTS
from tests.tiny.system2 import tiny_processor, tiny_system2
from tests.tiny.toy_expert import ToyExpertConfig


@pytest.fixture(scope="module")
def system2(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("system2")
    tiny_system2(landmark_loss_weight=1.0).save_pretrained(folder)
    return str(folder)


def expert_file(tmp_path, fields) -> str:
    path = tmp_path / "expert.json"
    path.write_text(json.dumps(fields))
    return str(path)


@pytest.mark.parametrize("name", action_experts())
def test_every_name_has_its_expert_for_any_width(system2, name):
    config = starting_config(name, system2)
    assert config.action_expert_config.plan_hidden_size == 64
    assert config.action_expert_config.image_size == 224
    assert system1_of(config.action_expert_config) == name


def test_an_expert_that_the_catalog_lacks_has_no_name():
    assert system1_of(ToyExpertConfig()) is None


def test_a_file_changes_sizes(system2, tmp_path):
    path = expert_file(tmp_path, EXPERTS["navdp_async"])
    config = starting_config("navdp_async", system2, expert_file=path, num_queries=7)
    assert config.num_queries == 7
    assert config.action_expert_config.num_rgbd_queries == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- 1", r"expert\.json: expected one `field: value` per line, found list"),
        ('{"use_images": true}', r"expert\.json: use_images: found True; nextdit has False"),
        ('{"hidden": 16}', r"expert\.json: NextDiTConfig has no field 'hidden'"),
        ('{"plan_hidden_size": 32}', "plan_hidden_size is 32.*hidden_size is 64"),
    ],
)
def test_a_file_that_does_not_fit_is_one_clear_error(system2, tmp_path, text, message):
    (tmp_path / "expert.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        starting_config("nextdit", system2, expert_file=tmp_path / "expert.json")


def test_a_dual_system_goes_on_with_its_own_expert_only(system2, tmp_path):
    path = expert_file(tmp_path, EXPERTS["nextdit"])
    config = starting_config("nextdit", system2, expert_file=path)
    first = start_dual_system(config, system2)
    first.save_pretrained(tmp_path / "dual")
    model = str(tmp_path / "dual")
    again = start_dual_system(starting_config("nextdit", system2, model), system2, model)
    expected = first.state_dict()
    assert all(value.equal(expected[name]) for name, value in again.state_dict().items())
    with pytest.raises(ValueError, match="system1: found 'navdp_async', but .*'nextdit'"):
        starting_config("navdp_async", system2, model)
    with pytest.raises(ValueError, match="has its expert already"):
        starting_config("nextdit", system2, model, path)


@pytest.mark.parametrize("name", ["nextdit_async", "navdp_async"])
def test_the_colour_encoder_starts_from_a_pretrained_one(system2, tmp_path, name):
    path = expert_file(tmp_path, EXPERTS[name])
    config = starting_config(name, system2, expert_file=path)
    torch.manual_seed(0)
    vision = AutoModel.from_config(AutoConfig.for_model("dinov2", **EXPERTS[name]["vision_config"]))
    vision.save_pretrained(tmp_path / "vision")
    dual = start_dual_system(config, system2, vision_encoder=str(tmp_path / "vision"))
    expected = vision.state_dict()
    prefix = {"nextdit_async": "vision.", "navdp_async": "rgbd_encoder.rgb_encoder."}[name]
    ours = {
        key.removeprefix(prefix): value
        for key, value in dual.action_expert.state_dict().items()
        if key.startswith(prefix)
    }
    assert ours.keys() | {"embeddings.mask_token"} == expected.keys()
    assert all(value.equal(expected[key]) for key, value in ours.items())


def test_training_heads_stay_behind(system2, tmp_path):
    path = expert_file(tmp_path, EXPERTS["nextdit"])
    config = starting_config("nextdit", system2, expert_file=path)
    model = start_dual_system(config, system2)
    assert isinstance(model, DualSystemModel)
    names = {name for name, _ in model.system2.named_children()}
    assert names == {"vlm", "pixel_goal_head"}
    assert model.config.system2_config.landmark_loss_weight == 0


def test_a_folder_without_processor_is_one_clear_error(system2, tmp_path):
    with pytest.raises(ValueError, match="has no processor"):
        System2Processor.from_pretrained(system2)
    tiny_processor().save_pretrained(tmp_path)
    assert System2Processor.from_pretrained(tmp_path).num_history == 2


@pytest.mark.parametrize("path", ["outputs/nowhere/model", "./nowhere", "tests/nowhere"])
def test_a_folder_that_is_not_there_is_named(path):
    with pytest.raises(ValueError, match=f"--system2 {path}: there is no such folder"):
        starting_config("nextdit_async", path)
    with pytest.raises(ValueError, match=f"--model {path}: there is no such folder"):
        starting_config("nextdit_async", "unused/unused", model=path)


def test_data_of_another_image_size_are_refused(system2):
    config = starting_config("nextdit", system2)
    with pytest.raises(ValueError, match="640x480, but .* points in images of 112x84"):
        start_dual_system(config, system2, image_size=(640, 480))


def test_an_adapter_that_brings_a_landmark_head_is_a_system2_like_any(tmp_path):
    """The checkpoint of a System2's LoRA training, whose base has no such head."""
    tiny_system2().save_pretrained(tmp_path / "base")
    model = tiny_system2(landmark_loss_weight=1.0)
    model.name_or_path = str(tmp_path / "base")
    heads = LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["landmark_head"])
    adapted_model(model, heads).save_pretrained(tmp_path / "adapter")
    path = str(tmp_path / "adapter")
    dual = start_dual_system(starting_config("nextdit", path), path)
    assert dual.config.system2_config.landmark_loss_weight == 0
    assert not [name for name, _ in dual.named_modules() if "landmark" in name]
