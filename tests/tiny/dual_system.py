"""Tiny dual systems of the real classes: any of the three experts on a tiny System2."""

import torch
from transformers import Dinov2Config

from internnav_hf.models.dual_system.model import DualSystemModel
from internnav_hf.models.navdp.config import NavDPActionExpertConfig
from internnav_hf.models.nextdit.config import NextDiTConfig
from tests.tiny.system2 import tiny_system2

SYSTEM1 = ("nextdit_async", "navdp_async", "nextdit")


def tiny_expert_config(system1: str = "nextdit_async", **fields):
    """One layer of everything, 28x28 pixels, 8 steps."""
    vision = Dinov2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14
    )
    shared = {
        "plan_hidden_size": 64,
        "action_horizon": 8,
        "image_size": 28,
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "vision_config": vision,
    }
    if system1 == "navdp_async":
        rgbd = {"num_rgbd_queries": 4, "num_rgbd_layers": 1, "num_rgbd_attention_heads": 2}
        rgbd |= {"rgbd_intermediate_size": 32, "num_diffusion_steps": 4}
        return NavDPActionExpertConfig(depth_vision_config=vision, **shared, **rgbd, **fields)
    memory = {
        "condition_size": 32,
        "use_images": system1 == "nextdit_async",
        "num_memory_layers": 1,
        "num_memory_heads": 2,
        "memory_intermediate_size": 32,
        "num_resampler_layers": 1,
        "num_resampler_heads": 2,
        "resampler_intermediate_size": 32,
        "num_resampler_queries": 4,
        "num_inference_steps": 3,
    }
    return NextDiTConfig(**shared, **memory, **fields)


def tiny_dual_system(system1: str = "nextdit_async", **system2_fields) -> DualSystemModel:
    """Random weights; System2 as `tiny_system2` makes it."""
    system2 = tiny_system2(**system2_fields)
    torch.manual_seed(1)
    return DualSystemModel.from_parts(system2, tiny_expert_config(system1)).eval()
