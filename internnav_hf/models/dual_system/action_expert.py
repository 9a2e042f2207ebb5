"""The interface of every action expert, the fast half of the dual system.

An expert turns System2's latent plan and the robot's views into a short trajectory. It is a
`PreTrainedModel` that implements `ActionExpert` and whose configuration has `plan_hidden_size`,
`action_horizon`, `image_size` and `uses_depth`; nothing else is required.

Frames belong to one decision, in time order: frame 0 is the look-down view in which System2 chose
the goal pixel, and each frame in turn is the current view. Actions are steps in the robot's frame
at their view: (dx, dy, dyaw) in metres and radians, x forward, y left, counter-clockwise.

Legend: B samples, T frames, Q query tokens of a plan, D width of System2, H horizon, S image size.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from transformers.utils import ModelOutput


@dataclass
class ActionExpertOutput(ModelOutput):
    """Output of `forward` of an expert or the dual system.

    `action_loss` is the mean over valid frames of the squared error of the diffusion model's
    prediction; `loss` is to be minimised. `loss_counts["action_loss"]` counts the valid frames.
    """

    loss: Tensor | None = None
    action_loss: Tensor | None = None
    loss_counts: dict[str, Tensor] | None = None


def loss_over_frames(
    errors: Tensor, num_frames_in_batch: Tensor | int | None = None
) -> ActionExpertOutput:
    """The output for `errors` (V,), the mean squared errors of the V valid frames."""
    count = torch.tensor(len(errors), device=errors.device)
    divisor = count if num_frames_in_batch is None else num_frames_in_batch
    return ActionExpertOutput(
        loss=errors.sum() / divisor,
        action_loss=errors.detach().mean(),
        loss_counts={"action_loss": count},
    )


class ActionExpert(Protocol):
    """See the module; for type checkers and readers."""

    def forward(
        self,
        plan: Tensor,
        rgb: Tensor | None = None,
        depth: Tensor | None = None,
        actions: Tensor | None = None,
        frame_mask: Tensor | None = None,
        num_frames_in_batch: Tensor | int | None = None,
        noise: Tensor | None = None,
        timesteps: Tensor | None = None,
    ) -> ActionExpertOutput:
        """Loss for `actions` (B, T, H, 3) at the frames in `frame_mask` (B, T).

        `plan` (B, Q, D); `rgb` (B, T, 3, S, S), uint8 or floats in [0, 1]; `depth` (B, T, S, S) in
        metres. `num_frames_in_batch` counts the valid frames of the whole optimisation step.
        `noise` (B, T, H, 3) and `timesteps` (B, T) replace the random ones.
        """
        ...

    def encode_views(self, rgb: Tensor, depth: Tensor | None = None) -> Tensor:
        """Features (B, T, N, C) of each frame by itself, to be cached during an episode."""
        ...

    def sample(
        self,
        plan: Tensor,
        rgb: Tensor | None = None,
        depth: Tensor | None = None,
        num_samples: int = 32,
        generator: torch.Generator | list[torch.Generator] | None = None,
        noise: Tensor | None = None,
        views: Tensor | None = None,
    ) -> Tensor:
        """Actions (B, num_samples, H, 3) for the current view.

        `rgb` (B, 2, 3, S, S) and `depth` (B, 2, S, S) show the view of the decision and the current
        one; `views` (B, 2, N, C), their features from `encode_views`, replaces both. `noise`
        (B, num_samples, H, 3) replaces the initial noise; a list of generators has one per sample
        of the batch, so that the noise of a sample does not depend on the others.
        """
        ...
