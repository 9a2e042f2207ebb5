"""A checkpoint of LoRA says which model it is of."""

import json

import pytest
from peft import AutoPeftModel, LoraConfig, PeftModel

from internnav_hf.training.lora import adapted_model
from tests.tiny.system2 import tiny_system2


def test_base_and_configuration_are_saved_with_the_adapter(tmp_path):
    model = tiny_system2(use_pixel_goal_head=False)
    model.name_or_path = "a/base"
    adapted = adapted_model(model, LoraConfig(r=2, target_modules=["q_proj"]))
    assert isinstance(adapted, PeftModel)
    adapted.save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == "a/base"
    stored = json.loads((tmp_path / "config.json").read_text())
    assert stored["model_type"] == "internnav_system2"
    assert not stored["use_pixel_goal_head"]


@pytest.mark.parametrize("library", [None, "internnav_hf.models.system2"])
def test_peft_opens_adapters_of_today_and_from_before_families_had_folders(tmp_path, library):
    model, folder = tiny_system2(), tmp_path / "adapter"
    model.save_pretrained(tmp_path / "base")
    model.name_or_path = str(tmp_path / "base")
    adapted_model(model, LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(folder)
    file = folder / "adapter_config.json"
    settings = json.loads(file.read_text())
    assert settings["auto_mapping"]["parent_library"] == "internnav_hf"
    if library is not None:
        settings["auto_mapping"]["parent_library"] = library
        file.write_text(json.dumps(settings))
    opened = AutoPeftModel.from_pretrained(folder, import_allowlist=["internnav_hf"])
    assert type(opened.get_base_model()) is type(model)
