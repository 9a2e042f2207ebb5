"""NavDP's losses: noise without a goal and with mixed goals, values of the critic, goal positions.

Legend: B samples, H horizon.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers.utils import ModelOutput

from internnav_hf.models.navdp.config import NavDPConfig

DRAWS = ("no_goal", "mixed_goal")  # in the order of `noise` and `timesteps`


@dataclass
class NavDPOutput(ModelOutput):
    """Output of `NavDPModel.forward`. Each named loss is a mean over the valid samples.

    `loss` to be minimised: action_loss_weight * ((1 - no_goal_share) * mixed_goal_action_loss +
    no_goal_share * no_goal_action_loss) + critic_loss_weight * critic_loss +
    auxiliary_loss_weight * auxiliary_loss. The critic's is the sum for the label and for the
    perturbed path, the auxiliary one the mean of those for image and pixel. Losses that the
    configuration does not use are None. The other fields are predictions of noise, values and goal
    positions.
    """

    loss: Tensor | None = None
    no_goal_action_loss: Tensor | None = None
    mixed_goal_action_loss: Tensor | None = None
    critic_loss: Tensor | None = None
    auxiliary_loss: Tensor | None = None
    loss_counts: dict[str, Tensor] | None = None
    no_goal_noise: Tensor | None = None
    mixed_goal_noise: Tensor | None = None
    value: Tensor | None = None
    perturbed_value: Tensor | None = None
    image_goal_point: Tensor | None = None
    pixel_goal_point: Tensor | None = None


def navdp_losses(
    config: NavDPConfig,
    batch: dict[str, Tensor],
    noises: dict[str, Tensor],
    values: Tensor,
    points: dict[str, Tensor],
    num_samples_in_batch: Tensor | int | None = None,
) -> NavDPOutput:
    """Output for predictions on a `batch` of B: `noises` (B, H, 3) by draw, `values` (B, 2) of the
    label and of the perturbed path, `points` (B, 3) by kind of goal.
    """
    errors = {
        f"{draw}_action_loss": _mean_square(noise - batch["noise"][:, DRAWS.index(draw)])
        for draw, noise in noises.items()
    }
    true_values = torch.stack([batch["value"], batch["perturbed_value"]], dim=1)
    errors["critic_loss"] = (values - true_values).square().sum(1)
    if points:
        of_kinds = [_mean_square(point - batch["goal_point"]) for point in points.values()]
        errors["auxiliary_loss"] = torch.stack(of_kinds).mean(0)
    weights = loss_weights(config, only_one_draw=len(noises) == 1)
    count = batch["sample_mask"].sum()
    sums = {name: (error * batch["sample_mask"]).sum() for name, error in errors.items()}
    total = torch.stack([weights[name] * error for name, error in sums.items()]).sum()
    return NavDPOutput(
        loss=total / (count if num_samples_in_batch is None else num_samples_in_batch),
        **{name: error.detach() / count for name, error in sums.items()},
        loss_counts=dict.fromkeys(errors, count),
        **{f"{draw}_noise": noise.detach() for draw, noise in noises.items()},
        value=values[:, 0].detach(),
        perturbed_value=values[:, 1].detach(),
        **{f"{kind}_goal_point": point.detach() for kind, point in points.items()},
    )


def loss_weights(config: NavDPConfig, only_one_draw: bool) -> dict[str, float]:
    """Weight of each named loss in `loss`."""
    share, weight = config.no_goal_share, config.action_loss_weight
    return {
        "no_goal_action_loss": weight if only_one_draw else weight * share,
        "mixed_goal_action_loss": weight if only_one_draw else weight * (1 - share),
        "critic_loss": config.critic_loss_weight,
        "auxiliary_loss": config.auxiliary_loss_weight,
    }


def _mean_square(errors: Tensor) -> Tensor:
    """Mean square (B,) of `errors` (B, ...)."""
    return errors.float().square().flatten(1).mean(1)
