"""Losses of GNM, ViNT and NoMaD: waypoints, or the noise in them, and the distance to the goal.

As published, a masked mean is `sum / (count + 0.01 * samples)`, and not the mean over what counts.

Legend: V valid samples.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers.utils import ModelOutput

_SLACK = 0.01


@dataclass
class WaypointOutput(ModelOutput):
    """Output of `GNMModel` and `ViNTModel`. `loss` is the weighted sum of `action_loss`, the
    squared error of the waypoints of samples with an action mask, and `distance_loss`, that of the
    distance of all. `waypoints` (V, H, 4) and `distance` (V,) are the predictions.
    """

    loss: Tensor | None = None
    action_loss: Tensor | None = None
    distance_loss: Tensor | None = None
    loss_counts: dict[str, Tensor] | None = None
    waypoints: Tensor | None = None
    distance: Tensor | None = None


@dataclass
class NoMaDOutput(ModelOutput):
    """Output of `NoMaDModel.forward`. `loss` is the weighted sum of `diffusion_loss`, the squared
    error of the noise of samples with an action mask, and `distance_loss`; see
    `NoMaDConfig.distance_mask`. `noise` (V, H, 2) and `distance` (V,) are the predictions.
    """

    loss: Tensor | None = None
    diffusion_loss: Tensor | None = None
    distance_loss: Tensor | None = None
    loss_counts: dict[str, Tensor] | None = None
    noise: Tensor | None = None
    distance: Tensor | None = None


@dataclass
class Counts:
    """Numbers of samples, of those with an action mask and of those with a visible goal, in the
    batch or in the whole optimisation step.
    """

    samples: Tensor
    actions: Tensor
    goals: Tensor | None = None

    def given(
        self,
        samples: Tensor | int | None,
        actions: Tensor | int | None,
        goals: Tensor | int | None = None,
    ) -> "Counts":
        """The given numbers; those of the batch in place of None."""
        pairs = ((samples, self.samples), (actions, self.actions), (goals, self.goals))
        return Counts(*(own if given is None else given for given, own in pairs))

    def masked(self, count: Tensor) -> Tensor:
        """Divisor of a masked mean over `count` samples."""
        return count + _SLACK * self.samples


def mean_square(errors: Tensor) -> Tensor:
    """Mean square (V,) of `errors` (V, ...)."""
    return errors.float().square().flatten(1).mean(1)


def weighted(
    weights: dict[str, float],
    sums: dict[str, Tensor],
    here: dict[str, Tensor],
    whole: dict[str, Tensor],
) -> dict[str, Tensor | dict[str, Tensor]]:
    """`loss`, the named losses and `loss_counts`, of `sums` of errors by name of the loss.

    They are divided by the numbers in `whole`, of the optimisation step, for `loss`, and by those
    in `here`, of the batch, for the named losses.
    """
    parts = [weights[name] * total / whole[name] for name, total in sums.items()]
    return {
        "loss": torch.stack(parts).sum(),
        **{name: total.detach() / here[name] for name, total in sums.items()},
        "loss_counts": here,
    }
