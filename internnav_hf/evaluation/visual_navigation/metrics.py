"""Metrics of NavDP's visual-navigation benchmark, and some more.

Published: success where an episode ends within a radius of the goal, however it ends; SPL with the
straight distance from start to goal over the distance driven, at most 1; without a goal, the
seconds until the end and the area seen. More: SPL with the shortest path around obstacles, and how
often something is run into. Exploring has neither success nor SPL.
"""

from collections import Counter

import numpy as np

from internnav_hf.evaluation.metrics import bootstrap_interval, path_length
from internnav_hf.evaluation.visual_navigation.rollout import System1Rollout

# metric of an episode -> name of its mean in a summary, in the order of the table
SUMMARY_NAMES = {
    "success": "sr",
    "spl": "spl",
    "geodesic_spl": "geodesic_spl",
    "goal_distance": "goal_distance_m",
    "time": "time_s",
    "explored_area": "explored_area_m2",
    "collided": "collided_share",
    "contact_share": "contact_share",
    "path_length": "path_length_m",
}


def system1_metrics(rollout: System1Rollout, success_radius: float) -> dict[str, float | None]:
    """Every metric of one episode by name; None where the task has none."""
    length = path_length(rollout.positions)
    metrics: dict[str, float | None] = dict.fromkeys(SUMMARY_NAMES)
    metrics |= {
        "time": len(rollout.collisions) * rollout.control_period,
        "collided": float(rollout.collisions.any()),
        "contact_share": float(rollout.collisions.mean()),
        "path_length": length,
    }
    if rollout.goal is None:
        return metrics | {"explored_area": rollout.explored_area}
    success = float(rollout.is_success(success_radius))
    return metrics | {
        "success": success,
        "spl": success * efficiency(rollout.straight_distance, length),
        "geodesic_spl": success * efficiency(rollout.geodesic_distance, length),
        "goal_distance": rollout.goal_distance,
    }


def efficiency(shortest: float, length: float) -> float:
    """`shortest` over `length`, at most 1."""
    return min(1.0, shortest / length) if length > 0 else 1.0


def summarize_system1(rollouts: list[System1Rollout], success_radius: float, seed: int) -> dict:
    """Means over episodes, how often each ending came, and a 95% bootstrap interval of SR."""
    episodes = [system1_metrics(rollout, success_radius) for rollout in rollouts]
    summary: dict = {
        short: mean([episode[name] for episode in episodes])
        for name, short in SUMMARY_NAMES.items()
    }
    if summary["sr"] is not None:
        successes = np.array([episode["success"] for episode in episodes])
        summary["sr_interval"] = list(bootstrap_interval(successes, seed))
    summary["endings"] = dict(Counter(rollout.ending for rollout in rollouts).most_common())
    summary["num_episodes"] = len(episodes)
    return summary


def mean(values: list[float | None]) -> float | None:
    """None if they all are; a task either has a metric or not."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
