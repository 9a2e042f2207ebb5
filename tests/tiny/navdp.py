"""Tiny NavDP* and NavDP of the real classes: 4 patches a frame, 2 layers, steps of 6."""

import torch

from internnav_hf.models.navdp.config import NavDPActionExpertConfig, NavDPConfig
from internnav_hf.models.navdp.expert import NavDPActionExpert
from internnav_hf.models.navdp.model import NavDPModel

VISION = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "mlp_ratio": 2,
    "image_size": 42,
}


SIZES = {
    "action_horizon": 6,
    "image_size": 28,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "num_rgbd_queries": 5,
    "num_rgbd_layers": 1,
    "num_rgbd_attention_heads": 2,
    "rgbd_intermediate_size": 64,
    "vision_config": VISION,
    "depth_vision_config": VISION,
    "num_diffusion_steps": 10,
}


def tiny_navdp_config(**fields) -> NavDPActionExpertConfig:
    own = {"plan_hidden_size": 64, "num_plan_positions": 16}
    return NavDPActionExpertConfig(**(SIZES | own | fields))


def tiny_navdp(**fields) -> NavDPActionExpert:
    """In evaluation mode."""
    torch.manual_seed(0)
    return NavDPActionExpert(tiny_navdp_config(**fields)).eval()


def tiny_navdp_model_config(**fields) -> NavDPConfig:
    return NavDPConfig(**(SIZES | fields))


def tiny_navdp_model(**fields) -> NavDPModel:
    """System1 for all four tasks, with a memory of 8 frames of 28x28 pixels. In evaluation mode."""
    torch.manual_seed(0)
    return NavDPModel(tiny_navdp_model_config(**fields)).eval()
