"""A tiny NavDP as released files store it."""

import torch
from torch import Tensor

from internnav_hf.models.navdp.model import NavDPModel
from internnav_hf.models.navdp.released import released_keys
from tests.tiny.navdp import tiny_navdp_model
from tests.tiny.navdp_golden import INTERNNAV, REPOSITORY, released_shapes


def tiny_released(layout: str = INTERNNAV) -> tuple[NavDPModel, dict[str, Tensor]]:
    """A tiny model, and its weights as `layout` would store them."""
    model = tiny_navdp_model(has_auxiliary_heads=layout == INTERNNAV)
    ours, released = model.state_dict(), {}
    for key in released_shapes(layout):
        meta = torch.empty(3, 4, device="meta")
        names = released_keys({key: meta}, model.config)
        if names and names.keys() <= ours.keys():
            released[key] = torch.cat([ours[name] for name in names])
        elif key.endswith("mask_token") or key.startswith("decoder_layer."):
            released[key] = torch.zeros(3)
    if layout == REPOSITORY:
        patches = "pixel_encoder.pixelgoal_encoder.patch_embed.proj.weight"
        released[patches] = released[patches].roll(1, dims=1)
    return model, released
