"""The shortest-path follower: one discrete action at a time, down a distance field.

Greedy like Habitat's: among all headings in steps of a turn (15 degrees), it faces the one whose
next 0.25 m brings the robot closest to the goal, then steps forward.
"""

from collections.abc import Callable

import numpy as np

from internnav_hf.geometry import FORWARD_STEP_M, TURN_STEP, Action
from internnav_hf.sim.navigation import NavigableSpace

# One more turn of 15 degrees must be worth this many metres: headings differ by less than a cell of
# the grid, and without it the robot would oscillate. With 0.03 it never turns around.
TURN_COST_M = 0.015


def next_action(
    space: NavigableSpace,
    distance_to_goal: Callable[[np.ndarray], np.ndarray],
    position: tuple[float, float],
    yaw: float,
    stop_distance: float = FORWARD_STEP_M,
    turn_step: float = TURN_STEP,
) -> Action | None:
    """FORWARD or a turn of `turn_step`; None within `stop_distance` metres, or if no step comes
    closer.

    `distance_to_goal` takes points (N, 2) and returns metres (N,), inf if the goal is unreachable.
    """
    here = np.asarray(position, dtype=float)
    distance = float(distance_to_goal(here[None])[0])
    if distance <= stop_distance or not np.isfinite(distance):
        return None
    half = round(np.pi / turn_step)
    turns = np.arange(1 - half, 1 + half)  # positive is left
    headings = yaw + turns * turn_step
    targets = here + FORWARD_STEP_M * np.stack([np.cos(headings), np.sin(headings)], axis=1)
    gained = distance - distance_to_goal(targets)
    cost = TURN_COST_M * turn_step / TURN_STEP
    order = np.argsort(cost * np.abs(turns) - gained, kind="stable")
    for index in order[np.isfinite(gained[order]) & (gained[order] > 0)]:
        if not space.move(here, targets[index])[1]:
            if turns[index] == 0:
                return Action.FORWARD
            return Action.TURN_LEFT if turns[index] > 0 else Action.TURN_RIGHT
    return None
