"""Deterministic weights by key name, so that a fixture need not store any weights.

Every tensor of a state dict is filled from a generator seeded by its own key, so the
rule holds whatever order the keys come in and whichever process fills them.
"""

import math
import zlib

import torch


def seeded_tensor(key: str, shape: tuple[int, ...]) -> torch.Tensor:
    """The float32 CPU tensor that stands for `key` with `shape` (dimensionless)."""
    generator = torch.Generator().manual_seed(zlib.crc32(key.encode()))
    noise = torch.randn(shape, generator=generator, dtype=torch.float32)
    if key.endswith("running_var"):
        return 1.0 + 0.1 * noise.abs()
    if len(shape) <= 1:  # a norm's scale is near one; a bias or other vector near zero
        return 1.0 + 0.1 * noise if key.endswith("weight") else 0.02 * noise
    fan_in = math.prod(shape[1:])
    return noise / math.sqrt(fan_in)


def seeded_state_dict(state_dict: dict[str, torch.Tensor], skip=()) -> dict[str, torch.Tensor]:
    """`state_dict` with each floating-point tensor replaced; integer ones and `skip` are kept."""
    return {
        key: seeded_tensor(key, tuple(value.shape)).to(value.dtype)
        if value.is_floating_point() and key not in skip
        else value
        for key, value in state_dict.items()
    }
