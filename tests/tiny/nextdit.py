"""A tiny NextDiT."""

import torch
from transformers import Dinov2Config

from internnav_hf.models.nextdit.config import NextDiTConfig
from internnav_hf.models.nextdit.model import NextDiTActionExpert

SIZES = {
    "plan_hidden_size": 12,
    "action_horizon": 5,
    "image_size": 28,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "condition_size": 32,
    "num_memory_layers": 1,
    "num_memory_heads": 2,
    "memory_intermediate_size": 24,
    "num_resampler_layers": 1,
    "num_resampler_heads": 4,
    "resampler_intermediate_size": 24,
    "num_resampler_queries": 3,
    "num_inference_steps": 4,
}
VISION = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 42}


def tiny_config(**fields) -> NextDiTConfig:
    return NextDiTConfig(**{**SIZES, "vision_config": Dinov2Config(**VISION), **fields})


def tiny(open_gates: bool = True, **fields) -> NextDiTActionExpert:
    """`open_gates` lets the condition matter, as after some training."""
    torch.manual_seed(0)
    model = NextDiTActionExpert(tiny_config(**fields)).eval()
    if open_gates:
        for layer in model.denoiser.layers:
            torch.nn.init.ones_(layer.gate)
    return model
