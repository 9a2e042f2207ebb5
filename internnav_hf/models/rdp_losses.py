"""RDP's losses: noise in the displacements, progress, and how close the stop is.

Legend: B episodes, T steps, H horizon.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers.utils import ModelOutput

from .rdp_config import RDPConfig


@dataclass
class RDPOutput(ModelOutput):
    """Of `RDPModel.forward`. Each named loss is a mean over the valid steps, and `loss` is
    action_loss + progress_loss_weight * progress_loss + stop_loss_weight * stop_loss.

    `predicted_noise` (B, T, H, 3) are displacements where there is no diffusion; `progress` and
    `stop_progress` (B, T) lie in 0..1. `recurrent_state` (B, 1, H) is that after each episode's
    last step.
    """

    loss: Tensor | None = None
    action_loss: Tensor | None = None
    progress_loss: Tensor | None = None
    stop_loss: Tensor | None = None
    loss_counts: dict[str, Tensor] | None = None
    predicted_noise: Tensor | None = None
    progress: Tensor | None = None
    stop_progress: Tensor | None = None
    recurrent_state: Tensor | None = None


def rdp_losses(
    config: RDPConfig,
    predicted: dict[str, Tensor],
    targets: dict[str, Tensor],
    step_mask: Tensor,
    num_steps_in_batch: Tensor | int | None = None,
) -> RDPOutput:
    """Of what was `predicted` and its `targets`, by name of the loss: (B, T, H, 3) for "action",
    (B, T) for "progress" and "stop".
    """
    errors = {name: (value - targets[name]).square() for name, value in predicted.items()}
    errors["action"] = errors["action"].mean((2, 3))
    num_valid = step_mask.sum()
    counted = torch.ones_like(step_mask) if config.padded_loss else step_mask
    divisor = counted.sum() + config.loss_epsilon * counted.numel()
    means = {name: reduce_steps(error, counted, divisor) for name, error in errors.items()}
    weights = {"progress": config.progress_loss_weight, "stop": config.stop_loss_weight}
    total = torch.stack([weights.get(name, 1) * mean for name, mean in means.items()]).sum()
    share = 1 if num_steps_in_batch is None else num_valid / num_steps_in_batch
    named = {f"{name}_loss": mean.detach() for name, mean in means.items()}
    return RDPOutput(
        loss=total * share,
        **named,
        loss_counts=dict.fromkeys(named, num_valid),
        predicted_noise=predicted["action"].detach(),
        progress=predicted["progress"].detach(),
        stop_progress=predicted["stop"].detach(),
    )


def reduce_steps(error: Tensor, counted: Tensor, divisor: Tensor) -> Tensor:
    """Sum of `error` (B, T) where `counted`, by `divisor`."""
    return torch.where(counted, error, 0).sum() / divisor
