"""A checkpoint of LoRA says which model it is of."""

import json

from peft import LoraConfig, PeftModel

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
