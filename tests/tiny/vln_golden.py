"""Released-size Seq2Seq and CMA with the goldens' weights, which are made from names."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.tiny.seeded_weights import seeded_tensor

GOLDEN = Path("tests/golden")


def golden(name: str) -> dict[str, Tensor]:
    return load_file(GOLDEN / f"{name}.safetensors")


def released_shapes(name: str) -> dict[str, list[int]]:
    """Released names and shapes, of `keys_<name>.json`."""
    return json.loads((GOLDEN / f"keys_{name}.json").read_text())["keys"]


def released_weights(name: str) -> dict[str, Tensor]:
    """As upstream would save them."""
    weights = {}
    for key, shape in released_shapes(name).items():
        if key.endswith("num_batches_tracked"):
            weights[key] = torch.tensor(0)
        elif key == "_scale":
            weights[key] = torch.tensor(1 / 16)
        else:
            weights[key] = seeded_tensor(key, tuple(shape))
    return weights
