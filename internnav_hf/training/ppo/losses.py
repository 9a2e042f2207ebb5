"""Advantages and losses of PPO (arXiv 1707.06347) as DD-PPO was trained: no normalisation of
advantages, no clipping of values, and a factor of one half inside of the value loss.

Legend: N environments, T steps.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers.utils import ModelOutput


def generalised_advantages(
    rewards: Tensor,
    values: Tensor,
    next_values: Tensor,
    masks: Tensor,
    discount: float,
    gae_lambda: float,
) -> Tensor:
    """(N, T) advantages (arXiv 1506.02438) of `rewards` and `values` (N, T).

    `next_values` (N,) are those after the last step. `masks` (N, T + 1) are False where a step, or
    the one after the last, begins an episode: nothing is expected of the time before it.
    """
    following = torch.cat([values[:, 1:], next_values[:, None]], dim=1)
    continues = masks[:, 1:].to(values)
    errors = rewards + discount * following * continues - values
    advantages, running = torch.empty_like(values), torch.zeros_like(next_values)
    for step in reversed(range(values.shape[1])):
        running = errors[:, step] + discount * gae_lambda * continues[:, step] * running
        advantages[:, step] = running
    return advantages


@dataclass
class PPOOutput(ModelOutput):
    """`loss`, and its parts without their weights; `entropy_loss` is the negative entropy."""

    loss: Tensor | None = None
    action_loss: Tensor | None = None
    value_loss: Tensor | None = None
    entropy_loss: Tensor | None = None


def ppo_loss(
    log_probs: Tensor,
    old_log_probs: Tensor,
    advantages: Tensor,
    values: Tensor,
    returns: Tensor,
    entropy: Tensor,
    clip: float,
    value_weight: float,
    entropy_weight: float,
) -> PPOOutput:
    """The clipped objective, negative: means over tensors of one shape."""
    ratio = (log_probs - old_log_probs).exp()
    clipped = ratio.clamp(1 - clip, 1 + clip)
    action_loss = -torch.minimum(ratio * advantages, clipped * advantages).mean()
    value_loss = 0.5 * (returns - values).square().mean()
    entropy_loss = -entropy.mean()
    loss = action_loss + value_weight * value_loss + entropy_weight * entropy_loss
    return PPOOutput(loss, action_loss, value_loss, entropy_loss)
