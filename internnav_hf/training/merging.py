"""Merging LoRA into its model, also if ZeRO-3 shards the weights."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import Tensor, nn


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
