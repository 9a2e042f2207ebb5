"""Drives a robot along a planned path: pure pursuit.

Published (NavDP's benchmark): a model-predictive controller, 15 steps of 0.1 s, that weighs the
distance from the path against the effort. Pure pursuit has no horizon and no solver. It differs
where that shows: it cuts a corner by a part of its look-ahead, keeps the robot's turn-rate limit by
slowing down, and turns on the spot when the path leads backwards.
"""

import numpy as np

from internnav_hf.geometry import wrap_angle

LOOK_AHEAD_M = 0.35
ARRIVED_M = 0.05
TURN_ON_THE_SPOT = float(np.radians(60))  # a target farther to the side is faced before driving
_BRAKING_S = 0.5  # the rest of the path is driven in no less than this
_TURN_GAIN = 3.0  # rad/s for each radian to turn on the spot


def track(
    path_world: np.ndarray,
    pose: tuple[float, float, float] | np.ndarray,
    max_speed: float = 0.5,
    max_turn_rate: float = 0.5,
    look_ahead_m: float = LOOK_AHEAD_M,
) -> tuple[float, float]:
    """(m/s, rad/s) for a robot at `pose` (x, y, yaw) on or beside the path (K, 2), both in the
    world.

    (0, 0) at the path's end. The robot heads for the point `look_ahead_m` of path beyond the
    nearest one, on a circle.
    """
    path = np.asarray(path_world, np.float64)
    if path.ndim != 2 or path.shape[1] != 2 or not len(path) or not np.isfinite(path).all():
        raise ValueError(f"path: found shape {path.shape} or nan, expected numbers (K, 2), K > 0")
    x, y, yaw = (float(value) for value in pose)
    target, rest = _ahead(path, np.array([x, y]), look_ahead_m)
    towards = target - (x, y)
    distance = float(np.hypot(*towards))
    if max(rest, distance) < ARRIVED_M:
        return 0.0, 0.0
    bearing = float(wrap_angle(np.arctan2(towards[1], towards[0]) - yaw))
    if abs(bearing) > TURN_ON_THE_SPOT:
        return 0.0, float(np.clip(_TURN_GAIN * bearing, -max_turn_rate, max_turn_rate))
    curvature = 2 * np.sin(bearing) / distance
    speed = min(max_speed, max(rest, distance) / _BRAKING_S)
    speed = min(speed, max_turn_rate / max(abs(curvature), 1e-9))
    return float(speed), float(curvature * speed)


def _ahead(path: np.ndarray, xy: np.ndarray, look_ahead_m: float) -> tuple[np.ndarray, float]:
    """The point (2,) of the path to head for, and the metres of path from the nearest one to the
    end.
    """
    starts, steps = path[:-1], np.diff(path, axis=0)
    squared = (steps**2).sum(axis=1)
    if not squared.any():
        return path[-1], 0.0
    fraction = ((xy - starts) * steps).sum(axis=1) / np.maximum(squared, 1e-12)
    fraction = np.clip(fraction, 0.0, 1.0)
    nearest = starts + fraction[:, None] * steps
    piece = int(np.linalg.norm(nearest - xy, axis=1).argmin())
    length = np.concatenate([[0.0], np.cumsum(np.sqrt(squared))])
    here = length[piece] + fraction[piece] * np.sqrt(squared[piece])
    wanted = min(here + look_ahead_m, length[-1])
    target = np.array([np.interp(wanted, length, axis) for axis in path.T])
    return target, float(length[-1] - here)
