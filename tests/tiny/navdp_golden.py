"""The reference's NavDP: its weights, and the inputs and outputs of its goldens."""

import json

import torch
from safetensors.torch import load_file
from torch import Tensor

from internnav_hf.models.navdp.config import NavDPConfig
from internnav_hf.models.navdp.model import NavDPModel
from internnav_hf.models.navdp.released import released_fields, released_keys
from tests.golden import GOLDEN
from tests.tiny.seeded_weights import seeded_tensor

INTERNNAV, REPOSITORY = "navdp_standalone_forward", "navdp_repo_inference"  # the two layouts


def released_shapes(layout: str) -> dict[str, list[int]]:
    """Of every tensor, under its released name."""
    return json.loads((GOLDEN / f"{layout}.json").read_text())["keys"]


def released_weights(layout: str = INTERNNAV) -> dict[str, Tensor]:
    """A state dict of the published size under the released names, weights by the rule."""
    shapes = released_shapes(layout)
    return {key: seeded_tensor(key, tuple(shape)) for key, shape in shapes.items()}


def released_model(layout: str = INTERNNAV) -> NavDPModel:
    """Of the published size: 133 million parameters, seconds to make."""
    weights = released_weights(layout)
    config = NavDPConfig(**released_fields(weights, "given"))
    with torch.device("meta"):
        model = NavDPModel(config).eval()
    model.load_state_dict(released_keys(weights, config), assign=True)
    return model


def golden(name: str) -> dict[str, Tensor]:
    """The tensors of a golden."""
    return load_file(GOLDEN / f"{name}.safetensors")


def views(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """`rgb` (B, 8, 3, 224, 224) in bytes and `depth` (B, 224, 224) in metres of a golden."""
    rgb = tensors["images_u8"].movedim(-1, 2)
    return {"rgb": rgb, "depth": tensors["depth_mm"][..., 0].float() / 1000}


def goal_views(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """`goal_image` (B, 6, 224, 224) and `goal_pixel_map` (B, 4, 224, 224), in bytes."""
    mask = 255 * tensors["goal_pixel_mask"]
    pixel_map = torch.cat([tensors["images_u8"][:, -1], mask], dim=-1)
    return {
        "goal_image": tensors["goal_image_u8"].movedim(-1, 1),
        "goal_pixel_map": pixel_map.movedim(-1, 1),
    }


def repository_goals() -> dict[str, list[dict[str, Tensor]]]:
    """The goals of the repository's golden by kind, two rows of each.

    Its image goal is the first three channels of the golden's; what stands beside is the current
    view.
    """
    given, inputs = golden(REPOSITORY), golden(INTERNNAV)
    images = goal_views(inputs)
    points, pixels = given["goal_point"], images["goal_pixel_map"]
    current = views(inputs)["rgb"][:, -1]
    images = torch.cat([images["goal_image"][:, :3], current], dim=1)
    rows = range(len(points))
    return {
        "point": [{"point": points[row]} for row in rows],
        "image": [{"image": images[row]} for row in rows],
        "pixel": [{"pixel": pixels[row]} for row in rows],
        "none": [{} for _ in rows],
        "point_image": [{"point": points[row], "image": images[row]} for row in rows],
    }


def repository_noise() -> dict[str, Tensor]:
    """`noise` and `step_noise` of the repository's golden, for `NavDPModel.sample`."""
    given = golden(REPOSITORY)
    noise, step_noise = given["init_noise"], given["step_noise"]
    return {"noise": noise.unflatten(0, (2, 4)), "step_noise": step_noise.unflatten(1, (2, 4))}
