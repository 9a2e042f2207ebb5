"""Small and released-size RDP with the goldens' weights, which are made from names, and their
inputs. Frames of the goldens are made of blocks, and kept so.
"""

import json

import torch
from torch import Tensor

from internnav_hf.models.rdp.config import PUBLISHED_MISTAKES, RDPConfig
from internnav_hf.models.rdp.displacements import unscale
from internnav_hf.models.rdp.model import RDPModel
from internnav_hf.models.rdp.released import released_rdp_keys
from tests.tiny.seeded_weights import seeded_tensor
from tests.tiny.vln_golden import GOLDEN, golden

SMALL, DEFAULT = "rdp_small_loss", "rdp_default_loss"
LIMITS = ((-0.25, -0.25, -0.27), (0.25, 0.25, 0.27))
# The goldens' images are normalised already, and their masks say more than what is padding.
GOLDEN_FIELDS = PUBLISHED_MISTAKES | {"image_mean": None, "image_std": None, "padded_loss": False}
SMALL_FIELDS = GOLDEN_FIELDS | {
    "text_config": {
        "vocab_size": 600,
        "hidden_size": 64,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 1,
    },
    "vision_config": {
        "hidden_size": 128,
        "intermediate_size": 512,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    },
    "image_size": 64,
    "depth_hidden_size": 96,
    "hidden_size": 64,
    "previous_displacement_size": 24,
    "pose_size": 16,
    "num_cross_modal_attention_heads": 4,
    "cross_modal_intermediate_size": 160,
    "denoiser_hidden_size": 128,
    "num_denoiser_attention_heads": 2,
    "num_denoiser_layers": 2,
}


def released_weights(name: str) -> dict[str, Tensor]:
    """As upstream would save them; of `rdp_small_loss`, `keys_rdp` or `cma_clip_small_policy`."""
    shapes = json.loads((GOLDEN / f"{name}.json").read_text())["keys"]
    return {key: seeded_tensor(key, tuple(shape)) for key, shape in shapes.items()}


def golden_model(keys: str, fields: dict) -> RDPModel:
    model = RDPModel(RDPConfig(**fields)).eval()
    model.load_state_dict(released_rdp_keys(released_weights(keys)))
    return model


def by_episode(rows: Tensor, num_steps: int) -> Tensor:
    """(N, T, ...) of the goldens' rows (T * N, ...)."""
    return rows.unflatten(0, (num_steps, -1)).transpose(0, 1)


def by_row(steps: Tensor) -> Tensor:
    """(T * N, ...) of (N, T, ...)."""
    return steps.transpose(0, 1).flatten(0, 1)


def spread(blocks: Tensor, size: int, dims: tuple[int, int]) -> Tensor:
    """Frames of `blocks`, each `size` pixels wide."""
    for dim in dims:
        blocks = blocks.repeat_interleave(size, dim)
    return blocks


def frames(tensors: dict[str, Tensor], num_steps: int, block_size: int) -> dict[str, Tensor]:
    """`rgb`, normalised, and `depth` in metres."""
    rgb = spread(tensors["in.rgb_blocks"], block_size, (2, 3))
    depth = 10 * spread(tensors["in.depth_blocks"], 32, (1, 2))[..., 0]
    return {"rgb": by_episode(rgb, num_steps), "depth": by_episode(depth, num_steps)}


def batch(name: str, num_steps: int) -> dict[str, Tensor]:
    """What `forward` takes but the frames; a mask of the golden resets states, and no more."""
    given = golden(name)
    inputs = {key[3:]: value for key, value in given.items() if key.startswith("in.")}
    steps = {
        key: by_episode(value, num_steps)
        for key, value in inputs.items()
        if key != "instruction" and "blocks" not in key
    }
    ids = inputs["instruction"][: len(steps["imu"])].long()
    return {
        "instruction_ids": ids,
        "previous_displacements": unscale(steps["prev_actions"], *LIMITS),
        "relative_pose": steps["imu"],
        "displacements": unscale(steps["actions"], *LIMITS),
        "progress": steps["progress"],
        "stop_progress": steps["stop_progress"],
        "reset_mask": steps["masks"][..., 0] == 0,
        "recurrent_state": torch.zeros(len(ids), 1, given["out.rnn_states"].shape[-1]),
        "noise": steps["noise"],
        "timesteps": steps["timesteps"],
        "image_drop": steps["rand_rgb_mask"] < 0.25,
        "condition_drop": steps["rand_token_mask"] < 0.25,
    }
