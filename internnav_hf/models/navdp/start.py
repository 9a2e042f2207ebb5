"""Initial weights of NavDP: new, with a pretrained colour encoder, or from a checkpoint."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from internnav_hf.models.common.dino import load_dino
from internnav_hf.models.navdp.config import NavDPConfig
from internnav_hf.models.navdp.model import NavDPModel
from internnav_hf.weights.loading import check_is_checkpoint

# Where `spread_attention` begins: factors of the initial attention weights of the RGB-D encoder to
# frames and of the denoiser to its condition, and the standard deviation of depth's position table.
ENCODER_GAIN, DENOISER_GAIN, POSITION_DEVIATION = 3.0, 2.0, 1.0
COLOUR_ENCODER = "depth-anything/Depth-Anything-V2-Small-hf"  # as published


def start_navdp(
    fields: dict[str, Any],
    model: str | None = None,
    rgb_encoder: str = COLOUR_ENCODER,
    spread: bool = False,
) -> NavDPModel:
    """A model with `fields` of `NavDPConfig`: that of the checkpoint `model`, ours or released, or
    a new one.

    `rgb_encoder` initialises a new one's colour encoder: "random", or a source for `load_dino`.
    `spread`: a new one's attention begins at places, see `spread_attention`.
    Raises ValueError for weights that do not exist or do not fit.
    """
    if model is not None:
        if not Path(model).is_file():
            check_is_checkpoint("--model", model)
        loaded: Any = NavDPModel.from_pretrained(model, **fields)
        return loaded
    fresh = NavDPModel(NavDPConfig(**fields))
    if spread:
        spread_attention(fresh)
    if rgb_encoder != "random":
        if not Path(rgb_encoder).is_file():
            check_is_checkpoint("--rgb_encoder", rgb_encoder)
        load_dino(fresh.rgbd_encoder.rgb_encoder, rgb_encoder)
    return fresh


@torch.no_grad()
def spread_attention(model: NavDPModel) -> None:
    """Let each query of a new model look at some places of depth, each at others.

    As it starts otherwise, a query sees the mean of all patches, in which depth hardly shows: small
    models with random encoders did not look at it within a thousand steps (docs/LOG.md).
    """
    encoder = model.rgbd_encoder
    nn.init.normal_(encoder.depth_encoder.embeddings.position_embeddings, std=POSITION_DEVIATION)
    both = (encoder.decoder.layers, ENCODER_GAIN), (model.denoiser.layers, DENOISER_GAIN)
    for layers, gain in both:
        for layer in layers:
            attention: Any = layer.multihead_attn
            attention.in_proj_weight.mul_(gain)
