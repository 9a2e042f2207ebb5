"""The references' GNM, ViNT and NoMaD: weights, and inputs and outputs of their goldens."""

import json

import torch
from safetensors.torch import load_file
from torch import Tensor

from internnav_hf.models.common.dino import IMAGENET_MEAN, IMAGENET_STD
from internnav_hf.models.gnm.base import ImageGoalModel
from internnav_hf.models.gnm.released import released_fields, released_keys
from tests.golden import GOLDEN
from tests.tiny.gnm import CLASSES
from tests.tiny.seeded_weights import seeded_tensor

OVERRIDDEN = "state."


def released_shapes(name: str) -> dict[str, list[int]]:
    """Of every tensor, under its released name; `name` as in `keys_...json`."""
    return json.loads((GOLDEN / f"keys_{name}.json").read_text())["keys"]


def released_weights(name: str) -> dict[str, Tensor]:
    """A state dict of the published size under the released names, weights by the rule."""
    weights = {}
    for key, shape in released_shapes(name).items():
        is_count = key.endswith("num_batches_tracked")
        weights[key] = torch.tensor(0) if is_count else seeded_tensor(key, tuple(shape))
    return weights


def released_model(name: str, golden: dict[str, Tensor] | None = None) -> ImageGoalModel:
    """Of the published size; batch-norm statistics from the `golden`, if it has any."""
    config_class, model_class = CLASSES[name.partition("_")[0]]
    weights = released_weights(name)
    for key, tensor in (golden or {}).items():
        if key.startswith(OVERRIDDEN):
            weights[key.removeprefix(OVERRIDDEN)] = tensor
    config = config_class(**released_fields(weights, config_class, "given"))
    with torch.device("meta"):
        model = model_class(config).eval()
    model.load_state_dict(released_keys(weights, config), assign=True)
    return model


def golden(name: str) -> dict[str, Tensor]:
    """The tensors of a golden."""
    return load_file(GOLDEN / f"{name}.safetensors")


def notes(name: str) -> dict:
    """What a golden says of its numbers."""
    return json.loads((GOLDEN / f"{name}.json").read_text())


def views(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """`rgb` (B, M, 3, h, w) and `goal_image` (B, 3, h, w), before ImageNet's normalisation."""
    rgb = tensors["obs_img"].unflatten(1, (-1, 3))
    return {"rgb": raw(rgb), "goal_image": raw(tensors["goal_img"])}


def raw(images: Tensor) -> Tensor:
    mean, std = (torch.tensor(v, dtype=torch.float64) for v in (IMAGENET_MEAN, IMAGENET_STD))
    return (images.double() * std[:, None, None] + mean[:, None, None]).float()
