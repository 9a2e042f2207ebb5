"""Tiny RDP of the real classes: one layer of everything, 32-pixel views, 10 diffusion steps. And a
tiny CMA over the same encoders.
"""

import torch

from internnav_hf.models.rdp.config import RDPConfig
from internnav_hf.models.rdp.model import RDPModel
from internnav_hf.models.vln.cma import CMAModel
from internnav_hf.models.vln.config import CMAConfig

SIZES = {
    "text_config": {
        "vocab_size": 60,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": 16,
    },
    "vision_config": {
        "hidden_size": 24,
        "intermediate_size": 48,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "patch_size": 8,
    },
    "image_size": 32,
    "depth_size": 64,
    "depth_base_planes": 4,
    "depth_num_blocks": (1, 1),
    "depth_feature_channels": 8,
    "depth_hidden_size": 16,
    "hidden_size": 32,
    "previous_displacement_size": 8,
    "pose_size": 8,
    "num_cross_modal_attention_heads": 2,
    "cross_modal_intermediate_size": 48,
    "denoiser_hidden_size": 32,
    "num_denoiser_attention_heads": 2,
    "num_denoiser_layers": 2,
    "num_diffusion_steps": 10,
}
SHARED = (
    "image_size",
    "depth_size",
    "depth_base_planes",
    "depth_num_blocks",
    "depth_feature_channels",
    "hidden_size",
    "text_config",
    "vision_config",
    "num_cross_modal_attention_heads",
    "cross_modal_intermediate_size",
)


def tiny_rdp_config(**fields) -> RDPConfig:
    return RDPConfig(**(SIZES | fields))


def tiny_rdp(**fields) -> RDPModel:
    """In evaluation mode."""
    torch.manual_seed(0)
    return RDPModel(tiny_rdp_config(**fields)).eval()


def tiny_cma_clip(**fields) -> CMAModel:
    """In evaluation mode."""
    torch.manual_seed(0)
    own = {"use_clip": True, "rgb_hidden_size": 12, "depth_hidden_size": 10}
    sizes = {name: SIZES[name] for name in SHARED}
    return CMAModel(CMAConfig(**(sizes | own | fields))).eval()
