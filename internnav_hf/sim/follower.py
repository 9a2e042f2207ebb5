"""The shortest-path follower: one discrete action at a time, down a distance field.

Greedy like Habitat's: among all headings in steps of 15 degrees, it faces the one whose next 0.25 m
brings the robot closest to the goal, then steps forward.
"""

from collections.abc import Callable

import numpy as np

from internnav_hf.geometry import FORWARD_STEP_M, TURN_STEP, Action
from internnav_hf.sim.navigation import NavigableSpace

# One more turn must be worth this many metres: headings differ by less than a cell of the grid, and
# without it the robot would oscillate. With 0.03 it never turns around.
TURN_COST_M = 0.015
_TURNS = np.arange(-11, 13)  # positive is left


def next_action(
    space: NavigableSpace,
    distance_to_goal: Callable[[np.ndarray], np.ndarray],
    position: tuple[float, float],
    yaw: float,
    stop_distance: float = FORWARD_STEP_M,
) -> Action | None:
    """FORWARD or a turn; None within `stop_distance` metres, or if no step comes closer.

    `distance_to_goal` takes points (N, 2) and returns metres (N,), inf if the goal is unreachable.
    """
    here = np.asarray(position, dtype=float)
    distance = float(distance_to_goal(here[None])[0])
    if distance <= stop_distance or not np.isfinite(distance):
        return None
    headings = yaw + _TURNS * TURN_STEP
    targets = here + FORWARD_STEP_M * np.stack([np.cos(headings), np.sin(headings)], axis=1)
    gained = distance - distance_to_goal(targets)
    order = np.argsort(TURN_COST_M * np.abs(_TURNS) - gained, kind="stable")
    for index in order[np.isfinite(gained[order]) & (gained[order] > 0)]:
        if not space.move(here, targets[index])[1]:
            if _TURNS[index] == 0:
                return Action.FORWARD
            return Action.TURN_LEFT if _TURNS[index] > 0 else Action.TURN_RIGHT
    return None
