"""A model with LoRA adapters, whose checkpoints record the base model's configuration."""

import json
from pathlib import Path
from typing import Any

from torch import nn

from internnav_hf.catalog import PACKAGE, public_names
from internnav_hf.files import write_text
from internnav_hf.weights.checkpoints import ADAPTER_CONFIG
from internnav_hf.weights.weight_files import share_weights


def adapted_model(model: Any, config: Any) -> nn.Module:
    """Return `model` with the adapter that `config`, a `LoraConfig`, describes.

    It is a `PeftModel` that saves the model's configuration beside the adapter: the base alone
    does not determine which heads or action expert the adapter adds.
    """
    from peft import PeftModel

    class Adapted(PeftModel):
        def save_pretrained(self, save_directory, *args: Any, **kwargs: Any) -> None:
            super().save_pretrained(save_directory, *args, **kwargs)
            share_weights(save_directory)
            if kwargs.get("is_main_process", True):
                base: Any = self.get_base_model()
                base.config.save_pretrained(save_directory)
                _name_the_package(Path(save_directory, ADAPTER_CONFIG))

    config.base_model_name_or_path = model.name_or_path or None
    return Adapted(model, config)


def _name_the_package(file: Path) -> None:
    """Make PEFT look up the base class in the package, not in its current module: modules move,
    public names stay.
    """
    settings = json.loads(file.read_text())
    place = settings.get("auto_mapping") or {}
    if place.get("base_model_class") in public_names():
        place["parent_library"] = PACKAGE
        write_text(file, json.dumps(settings, indent=2, sort_keys=True))
