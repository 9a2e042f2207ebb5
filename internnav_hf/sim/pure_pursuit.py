"""Pure pursuit: drives a robot along a planned path.

Published (NavDP's benchmark): a model-predictive controller, 15 steps of 0.1 s, that weighs the
distance from the path against the effort. Pure pursuit has no horizon and no solver. It differs
where it matters: it looks less far ahead in bends, so that it cuts corners by centimetres only,
keeps the robot's turn-rate limit by slowing down, and turns on the spot when the path leads
backwards.
"""

import numpy as np

from internnav_hf.geometry import wrap_angle

LOOK_AHEADS_M = (0.35, 0.25, 0.18, 0.12)
CUT_M = 0.02
"""The look-ahead is the longest whose straight line deviates from the path by no more than this."""
ARRIVED_M = 0.05
TURN_ON_THE_SPOT = float(np.radians(30))  # a target farther to the side is faced before driving
_NUM_POINTS_AHEAD = 36
_BRAKING_S = 0.5  # the rest of the path is driven in no less than this
_TURN_GAIN = 3.0  # rad/s for each radian to turn on the spot


def track(
    path_world: np.ndarray,
    pose: tuple[float, float, float] | np.ndarray,
    max_speed: float = 0.5,
    max_turn_rate: float = 0.5,
) -> tuple[float, float]:
    """(m/s, rad/s) for a robot at `pose` (x, y, yaw) on or near the path (K, 2), both in world
    coordinates.

    (0, 0) at the path's end. The robot drives on a circular arc to a point of the path beyond the
    nearest one.
    """
    path = np.asarray(path_world, np.float64)
    if path.ndim != 2 or path.shape[1] != 2 or not len(path) or not np.isfinite(path).all():
        raise ValueError(f"path: found shape {path.shape} or nan, expected numbers (K, 2), K > 0")
    x, y, yaw = (float(value) for value in pose)
    target, rest = _ahead(path, np.array([x, y]))
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


def _ahead(path: np.ndarray, xy: np.ndarray) -> tuple[np.ndarray, float]:
    """The point (2,) of the path to drive to, and metres of path from the nearest point on."""
    starts, steps = path[:-1], np.diff(path, axis=0)
    squared = (steps**2).sum(axis=1)
    if not squared.any():
        return path[-1], 0.0
    fraction = ((xy - starts) * steps).sum(axis=1) / np.maximum(squared, 1e-12)
    nearest = starts + np.clip(fraction, 0.0, 1.0)[:, None] * steps
    piece = int(np.linalg.norm(nearest - xy, axis=1).argmin())
    length = np.concatenate([[0.0], np.cumsum(np.sqrt(squared))])
    here = length[piece] + np.linalg.norm(nearest[piece] - starts[piece])
    rest = float(length[-1] - here)
    ahead = np.linspace(0, min(LOOK_AHEADS_M[0], rest), _NUM_POINTS_AHEAD)
    points = np.stack([np.interp(here + ahead, length, axis) for axis in path.T], axis=1)
    for look_ahead_m in LOOK_AHEADS_M:
        last = max(1, int((ahead <= look_ahead_m + 1e-9).sum()) - 1)
        if _cut(points[: last + 1]) <= CUT_M:
            break
    return points[last], rest


def _cut(points: np.ndarray) -> float:
    """How far the points (N, 2) lie from the straight line between the first and the last."""
    along = points[-1] - points[0]
    away = points - points[0]
    cross = away[:, 0] * along[1] - away[:, 1] * along[0]
    return float(np.abs(cross).max() / max(float(np.hypot(*along)), 1e-9))
