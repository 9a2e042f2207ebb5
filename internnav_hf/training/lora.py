"""LoRA adapters: checkpoints that record the base model's configuration, and merging, also under
ZeRO-3.
"""

import json
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from torch import Tensor, nn

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
    """Make PEFT look up the base class in the package: its module may move, its name stays."""
    settings = json.loads(file.read_text())
    place = settings.get("auto_mapping") or {}
    if place.get("base_model_class") in public_names():
        place["parent_library"] = PACKAGE
        write_text(file, json.dumps(settings, indent=2, sort_keys=True))


def merge_lora(model: Any, is_shared: bool, is_main: bool) -> tuple[nn.Module, dict | None]:
    """Return the model inside PEFT's `model` with LoRA merged into it, and its weights if they had
    to be gathered: under ZeRO-3 (`is_shared`), on the main process, on the CPU. All processes must
    call it.
    """
    if not is_shared:
        return model.merge_and_unload(), None
    from peft.tuners.tuners_utils import BaseTunerLayer

    for module in model.modules():
        if isinstance(module, BaseTunerLayer):
            with _whole(list(module.parameters())):  # type: ignore[attr-defined]
                module.merge(safe_merge=False)
    merged = model.unload()
    return merged, _weights_of(merged, is_main)


def _whole(parameters: list[nn.Parameter]) -> AbstractContextManager:
    """Context in which `parameters` are whole on all processes; changes to them are kept."""
    shared = [parameter for parameter in parameters if hasattr(parameter, "ds_id")]
    if not shared:
        return nullcontext()
    import deepspeed

    return deepspeed.zero.GatheredParameters(shared, modifier_rank=0)


def _weights_of(model: nn.Module, is_main: bool) -> dict[str, Tensor]:
    """Gather all weights and buffers by name, one at a time, on the main process."""
    weights: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        with _whole([parameter]):
            if is_main:
                weights[name] = parameter.detach().cpu().clone()
    if is_main:
        kept = model.state_dict().keys()
        buffers = dict(model.named_buffers())
        weights |= {n: b.detach().cpu().clone() for n, b in buffers.items() if n in kept}
    return weights
