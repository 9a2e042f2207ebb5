"""RDP's losses: noise in the displacements, progress, and closeness of the stop; and the heads of
the latter two.

Legend: B episodes, T steps, R rows, H horizon, I input width.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from transformers import initialization as init

from internnav_hf.models.rdp.config import RDPConfig
from internnav_hf.models.vln.losses import FollowerOutput


@dataclass
class RDPOutput(FollowerOutput):
    """Output of `RDPModel.forward`. Each named loss is a mean over the valid steps, and `loss` is
    action_loss + progress_loss_weight * progress_loss + stop_loss_weight * stop_loss.

    `predicted_noise` (B, T, H, 3) are displacements without diffusion; `progress` and
    `stop_progress` (B, T) lie in 0..1.
    """

    stop_loss: Tensor | None = None
    predicted_noise: Tensor | None = None
    stop_progress: Tensor | None = None


class ProgressHead(nn.Sequential):
    """Progress (R,) in 0..1 from features (R, I)."""

    def __init__(self, input_size: int):
        sizes = (input_size, input_size // 4, input_size // 16, 1)
        layers = [nn.Linear(*pair) for pair in pairwise(sizes)]
        super().__init__(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])

    def forward(self, hidden: Tensor) -> Tensor:
        """See the class."""
        return super().forward(hidden)[:, 0].float().sigmoid()

    def init_weights(self) -> None:
        """As published: initialised for ReLUs, with zero biases."""
        for part in self:
            if isinstance(part, nn.Linear):
                init.kaiming_normal_(part.weight, nonlinearity="relu")
                init.zeros_(part.bias)


def rdp_losses(
    config: RDPConfig,
    predicted: dict[str, Tensor],
    targets: dict[str, Tensor],
    step_mask: Tensor,
    num_steps_in_batch: Tensor | int | None = None,
) -> RDPOutput:
    """Output for `predicted` values and their `targets`, by name of the loss: (B, T, H, 3) for
    "action", (B, T) for "progress" and "stop".
    """
    errors = {name: (value - targets[name]).square() for name, value in predicted.items()}
    errors["action"] = errors["action"].mean((2, 3))
    num_valid = step_mask.sum()
    counted = torch.ones_like(step_mask) if config.padded_loss else step_mask
    divisor = (counted.sum() + config.loss_epsilon * counted.numel()).clamp(min=1)
    means = {k: torch.where(counted, v, 0).sum() / divisor for k, v in errors.items()}
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
