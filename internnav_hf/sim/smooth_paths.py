"""Smooth paths through a scene for robots that move continuously: the training data of NavDP.

    field of planning costs -> straightened -> smoothed -> poses that face along it

Published in InternData-N1 (`vln_n1`): global paths that keep clear of obstacles, frames about
0.06 m apart. How they were planned is not documented; the noise of the heading is ours, so that the
training views also include ones that are turned off the path.

Legend: K points of a path, T frames.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from internnav_hf.sim.navigation import DistanceField, NavigableSpace, densify
from internnav_hf.trajectory import chord_length, resample

CLEARANCE_WEIGHT = 3.0
STEERING_ROOM_M = 0.07
"""Free width on both sides of a robot; narrower gaps are used only if there is no better path."""
_NARROW_WEIGHT = 30.0
FRAME_SPACING_M = 0.06  # published
_FINE_M = 0.02
_SMOOTHINGS_M = (0.3, 0.15, 0.07)
"""Standard deviations of the smoothing; the first without a collision is used."""
_LONGEST_LINE_M = 6.0
_NOISE_LENGTH_M = 0.5  # path length over which the heading's noise changes
_TRIES = 60


@dataclass
class SmoothPathSampler:
    """Draws smooth paths between random places of one scene."""

    space: NavigableSpace
    frame_spacing_m: float = FRAME_SPACING_M
    min_length_m: float = 2.5
    max_length_m: float = 12.0
    heading_noise: float = float(np.radians(8))

    def __post_init__(self) -> None:
        self._roomy = self.space.wider(STEERING_ROOM_M)

    def draw(self, rng: np.random.Generator) -> np.ndarray | None:
        """(T, 3) poses x, y, yaw every `frame_spacing_m`; None if the scene is too small."""
        for _ in range(_TRIES):
            goal = self._roomy.sample(rng)
            field = planning_field(self.space, goal)
            for start in (self._roomy.sample(rng) for _ in range(4)):
                if self.min_length_m <= float(field(start)) < np.inf:
                    path = smooth_path(field, start, self.frame_spacing_m)
                    length_m = float(chord_length(path)[-1])
                    if self.min_length_m <= length_m <= self.max_length_m:
                        return self._poses(path, rng)
        return None

    def _poses(self, path: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """(T, 3) poses that face along the path (T, 2), with slowly changing noise."""
        steps = np.gradient(path, axis=0)
        correlation = _NOISE_LENGTH_M / self.frame_spacing_m
        noise = gaussian_filter1d(rng.normal(size=len(path)), correlation, mode="wrap")
        # The filter reduces the standard deviation from 1 to the inverse of this (continuous case).
        noise *= self.heading_noise * np.sqrt(2 * correlation * np.sqrt(np.pi))
        yaw = np.arctan2(steps[:, 1], steps[:, 0]) + noise
        return np.column_stack([path, (yaw + np.pi) % (2 * np.pi) - np.pi])


def planning_field(space: NavigableSpace, goal_xy: np.ndarray) -> DistanceField:
    """Planning costs to a goal from everywhere, for `smooth_path`."""
    margin = space.clearance - space.robot_radius_m
    costs = 1.0 + CLEARANCE_WEIGHT * np.clip(1 - space.clearance / 0.45, 0, 1)
    costs += _NARROW_WEIGHT * np.clip(1 - margin / STEERING_ROOM_M, 0, 1)
    return space.field_of(costs, space.cells_near(goal_xy))


def smooth_path(field: DistanceField, start: np.ndarray, spacing_m: float) -> np.ndarray:
    """(K, 2) points from `start` to the goal of a planning field, evenly, about `spacing_m` apart.

    The path keeps clear of obstacles if that is cheap and never touches one; `pure_pursuit.track`
    can follow it.
    """
    path = straighten(field, np.concatenate([[start], field.path_from(start)[1:]]))
    fine = densify(path, _FINE_M)
    space = field.space
    enough_m = min(space.robot_radius_m + STEERING_ROOM_M, _least_clearance(space, fine))
    for smoothing_m in _SMOOTHINGS_M:
        smooth = _even(_smooth(fine, smoothing_m / _FINE_M), spacing_m)
        if space.is_navigable(smooth).all() and _least_clearance(space, smooth) >= enough_m:
            return smooth
    return _even(path, spacing_m)


def _least_clearance(space: NavigableSpace, points: np.ndarray) -> float:
    return float(space.lookup(space.clearance, points, outside=0.0).min())


def straighten(field: DistanceField, path: np.ndarray) -> np.ndarray:
    """Corners (K, 2) of `path` (N, 2), joined by straight lines that are free and cost no more.

    A path over eight neighbours bends without an obstacle. `NavigableSpace.tighten` would pull it
    taut around every corner; this function keeps the clearance that the planner paid for.
    """
    space, costs = field.space, field.costs
    spent = np.zeros(len(path))
    lengths = np.linalg.norm(np.diff(path, axis=0), axis=1)
    at_points = space.lookup(costs, path, outside=np.inf)
    spent[1:] = np.cumsum(lengths * (at_points[1:] + at_points[:-1]) / 2)
    window = max(2, int(_LONGEST_LINE_M / space.resolution_m))
    kept, anchor = [0], 0
    while anchor < len(path) - 1:
        rest = path[anchor + 1 : anchor + 1 + window]
        straight = _line_cost(space, costs, path[anchor], rest)
        worth = straight <= 1.001 * (spent[anchor + 1 : anchor + 1 + window] - spent[anchor])
        chosen = np.flatnonzero(worth)
        anchor += int(chosen[-1]) + 1 if len(chosen) else 1
        kept.append(anchor)
    return path[kept]


def _line_cost(
    space: NavigableSpace, costs: np.ndarray, start: np.ndarray, ends: np.ndarray
) -> np.ndarray:
    """(N,) planning cost of straight lines from `start` (2,) to `ends` (N, 2); inf if blocked."""
    lengths = np.linalg.norm(ends - start, axis=1)
    num_points = int(np.ceil(lengths.max() / (0.5 * space.resolution_m))) + 2
    fractions = np.linspace(0, 1, num_points)[:, None]
    points = start + (ends - start)[:, None, :] * fractions
    blocked = ~space.is_navigable(points).all(axis=1)
    cost = lengths * space.lookup(costs, points, outside=np.inf).mean(axis=1)
    return np.where(blocked, np.inf, cost)


def _smooth(points: np.ndarray, deviation: float) -> np.ndarray:
    """Gaussian over indices; the end points stay, as the path is continued point-symmetrically."""
    padding = int(4 * deviation) + 1 if len(points) > 1 else 0
    longer = np.pad(points, ((padding, padding), (0, 0)), mode="reflect", reflect_type="odd")
    return gaussian_filter1d(longer, deviation, axis=0)[padding : padding + len(points)]


def _even(path: np.ndarray, spacing_m: float) -> np.ndarray:
    length_m = float(chord_length(path)[-1])
    num_steps = max(1, round(length_m / spacing_m))
    return resample(path, length_m / num_steps, num_steps + 1)
