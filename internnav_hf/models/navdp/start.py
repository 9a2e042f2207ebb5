"""Initial weights of NavDP: new, with a pretrained colour encoder, or from a checkpoint."""

from pathlib import Path
from typing import Any

from internnav_hf.models.common.dino import load_dino
from internnav_hf.models.navdp.config import NavDPConfig
from internnav_hf.models.navdp.model import NavDPModel
from internnav_hf.weights.loading import check_is_checkpoint

COLOUR_ENCODER = "depth-anything/Depth-Anything-V2-Small-hf"  # as published


def start_navdp(
    fields: dict[str, Any], model: str | None = None, rgb_encoder: str = COLOUR_ENCODER
) -> NavDPModel:
    """A model with `fields` of `NavDPConfig`: that of the checkpoint `model`, ours or released, or
    a new one.

    `rgb_encoder` initialises a new one's colour encoder: "random", or a source for `load_dino`.
    Raises ValueError for weights that do not exist or do not fit.
    """
    if model is not None:
        if not Path(model).is_file():
            check_is_checkpoint("--model", model)
        loaded: Any = NavDPModel.from_pretrained(model, **fields)
        return loaded
    fresh = NavDPModel(NavDPConfig(**fields))
    if rgb_encoder != "random":
        if not Path(rgb_encoder).is_file():
            check_is_checkpoint("--rgb_encoder", rgb_encoder)
        load_dino(fresh.rgbd_encoder.rgb_encoder, rgb_encoder)
    return fresh
