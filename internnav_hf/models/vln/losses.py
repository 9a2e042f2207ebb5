"""Losses of Seq2Seq and CMA: the expert's actions, and its progress.

Legend: B episodes, T steps.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers.utils import ModelOutput


@dataclass
class FollowerOutput(ModelOutput):
    """Common part of the outputs of Seq2Seq, CMA and RDP; `loss` is to be minimised.

    `progress` (B, T) is the predicted one, None without a monitor, and `recurrent_state`
    (B, layers, H) is the one after each episode's last step.
    """

    loss: Tensor | None = None
    action_loss: Tensor | None = None
    progress_loss: Tensor | None = None
    loss_counts: dict[str, Tensor] | None = None
    progress: Tensor | None = None
    recurrent_state: Tensor | None = None


@dataclass
class VLNOutput(FollowerOutput):
    """Output of `forward`. Each named loss is a mean over episodes of means over their steps,
    weighted by `inflection_weights`; `loss` is action_loss + progress_loss_weight * progress_loss.

    `logits` (B, T, 4) are log-probabilities.
    """

    logits: Tensor | None = None


def vln_losses(
    logits: Tensor,
    predicted_progress: Tensor | None,
    targets: dict[str, Tensor | None],
    step_mask: Tensor,
    progress_loss_weight: float,
    num_episodes: Tensor | int | None = None,
) -> dict[str, Tensor | dict[str, Tensor]]:
    """The losses of `VLNOutput`, for log-probabilities `logits` (B, T, 4) and progress (B, T).

    `targets` are `actions`, `inflection_weights` and `progress`, of which the latter two may be
    None. Steps outside `step_mask` (B, T), whatever they hold, and episodes without steps do not
    count. `num_episodes` is the divisor instead of the number of episodes here.
    """
    known = {k: torch.where(step_mask, v, 0) for k, v in targets.items() if v is not None}
    weights = known.get("inflection_weights", step_mask).float() * step_mask
    of_steps = weights / weights.sum(1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
    errors = {"action_loss": -logits.gather(-1, known["actions"][..., None])[..., 0]}
    if predicted_progress is not None:
        if "progress" not in known:
            raise ValueError("progress: found None, but the model has a monitor that learns it.")
        errors["progress_loss"] = (predicted_progress - known["progress"].float()).square()
    sums = {k: (of_steps * torch.where(step_mask, v, 0)).sum() for k, v in errors.items()}
    total = sums["action_loss"]
    if "progress_loss" in sums:
        total = total + progress_loss_weight * sums["progress_loss"]
    count = step_mask.any(1).sum()
    at_least_one = count.clamp(min=1)
    return {
        "loss": total / (at_least_one if num_episodes is None else num_episodes),
        **{name: value.detach() / at_least_one for name, value in sums.items()},
        "loss_counts": dict.fromkeys(sums, count),
    }
