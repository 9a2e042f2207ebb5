"""Displacements of RDP: to and from the units of diffusion, and into discrete actions.

Legend: B decisions, H horizon.
"""

import torch
from torch import Tensor

STOP, FORWARD, LEFT, RIGHT = range(4)
NO_ACTION = -1  # a step without movement or turn
STOP_THRESHOLD = 0.85
PROGRESS_THRESHOLD = 0.9
STILL = 0.1  # metres and radians; a smaller step counts as none
NUM_STILL_STEPS = 3  # so many in a row end the episode


def scale(displacements: Tensor, low: tuple[float, ...], high: tuple[float, ...]) -> Tensor:
    """`displacements` (..., 3), m, m, rad, so that `low` becomes -1 and `high` 1; not clipped."""
    lowest, highest = (displacements.new_tensor(limit) for limit in (low, high))
    return (displacements - lowest) / (highest - lowest) * 2 - 1


def unscale(scaled: Tensor, low: tuple[float, ...], high: tuple[float, ...]) -> Tensor:
    """Metres and radians (..., 3) from the output of `scale`; its inverse."""
    lowest, highest = (scaled.new_tensor(limit) for limit in (low, high))
    return (scaled + 1) / 2 * (highest - lowest) + lowest


def discrete_actions(
    displacements: Tensor,
    stop_progress: Tensor | None = None,
    progress: Tensor | None = None,
) -> Tensor:
    """(B, H) int64 of `displacements` (B, H, 3), dx, dy, dyaw in m, m, rad; as published.

    0 stops, 1 goes forward, 2 turns left, 3 right; -1 is a step that neither moves nor turns. With
    `stop_progress` (B,) or, instead, `progress` (B,), a row over its threshold stops at once, and a
    row also stops at three almost zero steps in a row. Without either nothing stops. The caller
    executes the first few actions and ends at a stop.
    """
    is_still = displacements.abs() < STILL
    turns = displacements[..., 2].sign()
    turning = torch.where(turns > 0, LEFT, torch.where(turns < 0, RIGHT, NO_ACTION))
    actions = torch.where(is_still[..., :2].all(-1), turning, FORWARD)
    if stop_progress is not None:
        has_arrived = stop_progress > STOP_THRESHOLD
    elif progress is not None:
        has_arrived = progress > PROGRESS_THRESHOLD
    else:
        return actions
    stops = has_arrived[:, None].expand(actions.shape).clone()
    if actions.shape[1] > NUM_STILL_STEPS:
        windows = is_still.all(-1).unfold(1, NUM_STILL_STEPS, 1).all(-1)
        # As published, the last window of the horizon is not checked.
        stops[:, : windows.shape[1] - 1] |= windows[:, :-1]
    return actions.masked_fill(stops, STOP)
