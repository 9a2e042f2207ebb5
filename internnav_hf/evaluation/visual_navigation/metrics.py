"""Metrics of NavDP's visual-navigation benchmark, and some more.

Published: success if an episode ends within a radius of the goal, however it ends; SPL with the
straight distance from start to goal over the distance driven, at most 1; without a goal, the
seconds until the end and the area seen. More: SPL with the shortest path around obstacles, and how
often something is run into. Exploring has neither success nor SPL.
"""

from collections import Counter

import numpy as np

from internnav_hf.evaluation.metrics import bootstrap_interval, path_length
from internnav_hf.evaluation.visual_navigation.rollout import DrivingRollout


def episode_metrics(rollout: DrivingRollout, success_radius: float) -> dict[str, float | None]:
    """Every metric of one episode by name; None if the task has none."""
    length, has_goal = path_length(rollout.positions), rollout.goal is not None
    success = float(rollout.is_success(success_radius)) if has_goal else None
    efficiencies = [
        None if success is None else success * efficiency(shortest, length)
        for shortest in (rollout.straight_distance, rollout.geodesic_distance)
    ]
    return {
        "sr": success,
        "spl": efficiencies[0],
        "geodesic_spl": efficiencies[1],
        "goal_distance_m": rollout.goal_distance,
        "time_s": len(rollout.collisions) * rollout.control_period,
        "explored_area_m2": None if has_goal else rollout.explored_area,
        "collided_share": float(rollout.collisions.any()),
        "contact_share": float(rollout.collisions.mean()),
        "path_length_m": length,
    }


def efficiency(shortest: float, length: float) -> float:
    """`shortest` over `length`, at most 1."""
    return min(1.0, shortest / length) if length > 0 else 1.0


def summarize(rollouts: list[DrivingRollout], success_radius: float, seed: int) -> dict:
    """Means over episodes, how often each ending came, and a 95% bootstrap interval of SR."""
    episodes = [episode_metrics(rollout, success_radius) for rollout in rollouts]
    summary: dict = {name: mean([e[name] for e in episodes]) for name in episodes[0]}
    if summary["sr"] is not None:
        successes = np.array([episode["sr"] for episode in episodes])
        summary["sr_interval"] = list(bootstrap_interval(successes, seed))
    summary["endings"] = dict(Counter(rollout.ending for rollout in rollouts).most_common())
    summary["num_episodes"] = len(episodes)
    return summary


def mean(values: list[float | None]) -> float | None:
    """None if they all are; a task either has a metric or not."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
