"""Tiny planners of the real classes, and the reference's, with the inputs of its goldens."""

import json
import re

import torch
from safetensors.torch import load_file
from torch import Tensor

from internnav_hf.models.planners.config import ViPlannerConfig, iPlannerConfig
from internnav_hf.models.planners.model import PlannerModel, ViPlannerModel, iPlannerModel
from internnav_hf.models.planners.released import released_fields, released_keys
from internnav_hf.policies.planners import ViPlannerPolicy, iPlannerPolicy
from tests.golden import GOLDEN
from tests.tiny.seeded_weights import seeded_tensor

SIZES = {
    "image_height": 96,
    "image_width": 128,
    "num_goal_channels": 4,
    "embedding_size": 8,
    "hidden_sizes": (8, 8, 16),
    "depths": (1, 1, 1),
    "decoder_conv_sizes": (16, 8),
    "decoder_hidden_sizes": (32, 16),
    "fear_hidden_sizes": (8,),
}


def tiny_iplanner(**fields) -> iPlannerModel:
    """In evaluation mode."""
    torch.manual_seed(0)
    return iPlannerModel(iPlannerConfig(**(SIZES | fields))).eval()


def tiny_viplanner(**fields) -> ViPlannerModel:
    """In evaluation mode."""
    torch.manual_seed(0)
    return ViPlannerModel(ViPlannerConfig(**(SIZES | fields))).eval()


def planner_batch(model: PlannerModel) -> dict[str, Tensor]:
    """Four times the model's own two samples, one of which does not count, two mirrored."""
    batch = {key: torch.cat([tensor] * 4) for key, tensor in model.dummy_inputs.items()}
    batch["ground_map"] = torch.zeros_like(batch["cost_map"])
    rows = torch.arange(8)
    return batch | {"is_mirrored": rows % 4 == 1, "sample_mask": rows != 5}


def iplanner_policy(trained=None, **settings) -> iPlannerPolicy:
    """Trained with the stored camera(s) `trained`."""
    return iPlannerPolicy(tiny_iplanner(camera=trained), **settings)


def viplanner_policy(trained=None, **settings) -> ViPlannerPolicy:
    """Trained with the stored camera(s) `trained`."""
    return ViPlannerPolicy(tiny_viplanner(camera=trained), **settings)


def golden(name: str) -> dict[str, Tensor]:
    """The tensors of a golden."""
    return load_file(GOLDEN / f"{name}.safetensors")


def golden_text(name: str) -> dict:
    """The numbers and words of a golden."""
    return json.loads((GOLDEN / f"{name}.json").read_text())


def released_shapes(name: str) -> dict[str, list[int]]:
    """Of every tensor, under its released name."""
    return golden_text(f"keys_{name}")["keys"]


def small_decoder_shapes() -> dict[str, list[int]]:
    """As `released_shapes`, of ViPlanner with its small decoder."""
    shapes = released_shapes("viplanner")
    encoders = {key: shape for key, shape in shapes.items() if not key.startswith("decoder.")}
    return encoders | golden_text("viplanner_forward")["keys_small_decoder"]


def released_weights(shapes: dict[str, list[int]]) -> dict[str, Tensor]:
    """A state dict of the published size under the released names, weights by the rule."""
    return {
        key: seeded_tensor(key, tuple(shape)) if shape else torch.tensor(0)
        for key, shape in shapes.items()
    }


def released_model(kind: type[PlannerModel], weights: dict[str, Tensor]) -> PlannerModel:
    """Of the published size, in evaluation mode."""
    config = kind.config_class(**released_fields(kind.config_class, weights, "given"))
    with torch.device("meta"):
        model = kind(config).eval()
    model.load_state_dict(released_keys(weights, config), assign=True)
    return model


def released_name(key: str) -> str:
    """The published name of a weight of ours."""
    names = (
        (r"embedder\.embedder\.convolution", "conv1"),
        (r"encoder\.stages\.(\d)\.layers", lambda m: f"layer{int(m[1]) + 1}"),
        (r"\.layer\.(\d)\.convolution", lambda m: f".conv{int(m[1]) + 1}"),
        (r"shortcut\.convolution", "downsample.0"),
        (r"shortcut\.normalization", "downsample.1"),
        ("goal_projection", "fg"),
        (r"decoder\.convolutions\.(\d)", lambda m: f"decoder.conv{int(m[1]) + 1}"),
        (r"decoder\.trunk", "decoder.fc1"),
        (r"decoder\.keypoint_head\.(\d)", lambda m: f"decoder.fc{int(m[1]) + 2}"),
        (r"decoder\.fear_head\.(\d)", lambda m: f"decoder.frc{int(m[1]) + 1}"),
    )
    for pattern, replacement in names:
        key = re.sub(pattern, replacement, key)
    return key
