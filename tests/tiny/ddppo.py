"""A tiny agent of DD-PPO of the real class, and the reference's, with the inputs of its goldens."""

import json

import torch
from safetensors.torch import load_file
from torch import Tensor

from internnav_hf.models.ddppo.config import DDPPOConfig
from internnav_hf.models.ddppo.model import DDPPOModel
from internnav_hf.models.ddppo.released import released_fields, released_keys
from internnav_hf.policies.ddppo import DDPPOPolicy
from tests.golden import GOLDEN
from tests.tiny.seeded_weights import seeded_tensor

SIZES = {
    "image_height": 32,
    "image_width": 48,
    "base_planes": 4,
    "num_blocks": (1, 1),
    "block_type": "basic",
    "embedding_size": 8,
    "hidden_size": 32,
}


def tiny_ddppo(**fields) -> DDPPOModel:
    """In evaluation mode."""
    torch.manual_seed(0)
    return DDPPOModel(DDPPOConfig(**(SIZES | fields))).eval()


def ddppo_batch(model: DDPPOModel) -> dict[str, Tensor]:
    """Four times the model's own two episodes, one of which does not count; in two of them another
    episode begins.
    """
    batch = {key: torch.cat([tensor] * 4) for key, tensor in model.dummy_inputs.items()}
    batch["masks"][2:4, 1] = False
    return batch | {"episode_mask": torch.arange(8) != 5}


def ddppo_policy(trained=None, **settings) -> DDPPOPolicy:
    """Trained with the stored camera(s) `trained`."""
    return DDPPOPolicy(tiny_ddppo(camera=trained), **settings)


def golden(name: str) -> dict[str, Tensor]:
    """The tensors of a golden, of which rows are steps, (T N, ...), as (N, T, ...)."""
    found = load_file(GOLDEN / f"ddppo_{name}.safetensors")
    steps = {key: found[key] for key in found if not key.startswith("hidden")}
    rows = {key: value.unflatten(0, (3, 2)).transpose(0, 1) for key, value in steps.items()}
    return found | rows


def released_shapes(name: str) -> dict[str, list[int]]:
    """Of every tensor, under its released name."""
    return json.loads((GOLDEN / f"keys_ddppo_{name}.json").read_text())["keys"]


def released_weights(name: str) -> dict[str, Tensor]:
    """A state dict of the published size under the released names, weights by the rule."""
    shapes = released_shapes(name)
    return {key: seeded_tensor(key, tuple(shape)) for key, shape in shapes.items()}


def released_model(name: str, **fields) -> DDPPOModel:
    """Of the published size, in evaluation mode."""
    weights = released_weights(name)
    config = DDPPOConfig(**(released_fields(weights, "given") | fields))
    with torch.device("meta"):
        model = DDPPOModel(config).eval()
    model.load_state_dict(released_keys(weights), assign=True)
    return model
