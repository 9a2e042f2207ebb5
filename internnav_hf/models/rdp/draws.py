"""Random numbers of RDP, in training and in sampling.

Legend: B episodes, T steps, H horizon, K diffusion steps.
"""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from internnav_hf.models.common.diffusion import NUM_ACTION_CHANNELS
from internnav_hf.models.common.draws import Draws
from internnav_hf.models.rdp.config import RDPConfig


def draw_for_training(
    config: RDPConfig, targets: Tensor, given: dict[str, Tensor | None], training: bool
) -> dict[str, Tensor]:
    """`noise` (B, T, H, 3), `timesteps`, `image_drop` and `condition_drop` (B, T): the given ones,
    or drawn; see `RDPModel.forward`. If not `training`, the steps' `targets` (B, T, ...) seed the
    draws, so that losses depend on neither chance nor the batch, and nothing is dropped.
    """
    shape, device = targets.shape[:2], targets.device
    steps = Draws(targets.flatten(0, 1), training)
    draws: dict[str, Any] = dict(given)
    if draws["noise"] is None:
        drawn = steps.normal(config.action_horizon, NUM_ACTION_CHANNELS)
        draws["noise"] = drawn.view(*shape, *drawn.shape[1:])
    if draws["timesteps"] is None:
        draws["timesteps"] = steps.below(config.num_diffusion_steps).view(shape)
    shares = {"image_drop": config.view_drop_share, "condition_drop": config.condition_drop_share}
    for name, share in shares.items():
        if draws[name] is None:
            draws[name] = torch.rand(shape, device=device) < (share if training else 0)
    return {name: value.to(device) for name, value in draws.items()}


def draw_for_sampling(
    config: RDPConfig,
    shape: Sequence[int],
    device: torch.device,
    generator: torch.Generator | list[torch.Generator] | None,
) -> tuple[Tensor, Tensor]:
    """Initial noise of sampling (B, T, H, 3), and the noise added between its steps
    (K - 1, chains, B, T, H, 3). A list of generators has one for each of the B.
    """
    chains = num_chains(config)
    num_draws = 1 + (config.num_diffusion_steps - 1) * chains
    size = (*shape, num_draws, config.action_horizon, NUM_ACTION_CHANNELS)
    drawn = randn_tensor(size, generator, device, torch.float32)
    between = drawn[:, :, 1:].unflatten(2, (-1, chains))
    return drawn[:, :, 0], between.movedim((2, 3), (0, 1))


def num_chains(config: RDPConfig) -> int:
    """Chains denoised per sample: 2 if published guidance lets its branches drift apart."""
    return 2 if config.guidance_drifts and config.guidance_scale != 1 else 1
