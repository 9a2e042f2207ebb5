"""Tiny GNM, ViNT and NoMaD of the real classes: small images, narrow encoders, one layer."""

import torch

from internnav_hf.models.gnm.base import ImageGoalModel
from internnav_hf.models.gnm.config import GNMConfig, NoMaDConfig, ViNTConfig
from internnav_hf.models.gnm.model import GNMModel
from internnav_hf.models.gnm.nomad import NoMaDModel
from internnav_hf.models.gnm.vint import ViNTModel
from internnav_hf.policies.gnm import GNMPolicy, NoMaDPolicy, ViNTPolicy

IMAGES = {"image_height": 32, "image_width": 40, "num_memory_frames": 3}
MOBILENET = {"depth_multiplier": 0.25, "finegrained_output": False}
EFFICIENTNET = {
    "width_coefficient": 0.25,
    "num_block_repeats": (1, 2, 1, 1, 1, 1, 1),
    "hidden_dim": 320,
}
TOKENS = {"hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64}
SIZES = {
    "gnm": IMAGES | {"hidden_size": 32, "head_sizes": (32, 16), "vision_config": MOBILENET},
    "vint": IMAGES | TOKENS | {"head_sizes": (64, 32), "vision_config": EFFICIENTNET},
    "nomad": IMAGES
    | TOKENS
    | {
        "vision_config": EFFICIENTNET,
        "channels_per_group": 8,
        "denoiser_sizes": (16, 32, 32),
        "time_size": 16,
    },
}
CLASSES = {
    "gnm": (GNMConfig, GNMModel),
    "vint": (ViNTConfig, ViNTModel),
    "nomad": (NoMaDConfig, NoMaDModel),
}

POLICIES = {"gnm": GNMPolicy, "vint": ViNTPolicy, "nomad": NoMaDPolicy}


def tiny_image_goal(name: str, **fields) -> ImageGoalModel:
    """In evaluation mode; `name` is one of CLASSES."""
    config_class, model_class = CLASSES[name]
    torch.manual_seed(0)
    return model_class(config_class(**(SIZES[name] | fields))).eval()


def image_goal_policy(name: str, trained=None, **settings):
    """Trained with the stored camera(s) `trained`."""
    return POLICIES[name](tiny_image_goal(name, camera=trained), **settings)
