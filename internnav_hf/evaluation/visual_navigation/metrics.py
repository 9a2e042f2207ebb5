"""Metrics of NavDP's visual-navigation benchmark, and some more.

Published: success if an episode ends within a radius of the goal, however it ends; SPL with the
straight distance from start to goal over the distance driven, at most 1; without a goal, the
seconds until the end and the area seen. More: SPL with the shortest path around obstacles, how
often and how soon something is run into, and how long the robot waits for a plan. Exploring has
neither success nor SPL.

Intervals of 95% are over episodes: Wilson's of what an episode has or has not (success, a contact),
which is no point for a share of 0 or 1, and by resampling episodes, with a seed, of all others.
"""

from collections import Counter

import numpy as np
from scipy.stats import binomtest

from internnav_hf.evaluation.metrics import bootstrap_interval, path_length
from internnav_hf.evaluation.visual_navigation.rollout import DrivingRollout

SHARES = ("sr", "collided_share")
LATENCIES = {"latency_p50_ms": 0.5, "latency_p95_ms": 0.95}
Interval = tuple[float, float]


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
        "contact_time_s": contact_step(rollout.collisions) * rollout.control_period,
        "path_length_m": length,
    }


def efficiency(shortest: float, length: float) -> float:
    """`shortest` over `length`, at most 1."""
    return min(1.0, shortest / length) if length > 0 else 1.0


def contact_step(collisions: np.ndarray) -> int:
    """Steps until the end of the first contact; all of them if there was none."""
    return int(collisions.argmax()) + 1 if collisions.any() else len(collisions)


def summarize(rollouts: list[DrivingRollout], success_radius: float, seed: int) -> dict:
    """Means over episodes and quantiles of all waits for a plan, `intervals` of them by name, and
    how often each ending came. `sr_interval` is that of `sr`, if there is one.
    """
    episodes = [episode_metrics(rollout, success_radius) for rollout in rollouts]
    summary: dict = {"intervals": {}}
    for name in episodes[0]:
        values = np.array([episode[name] for episode in episodes if episode[name] is not None])
        summary[name] = float(values.mean()) if len(values) else None
        if len(values):
            interval = wilson_interval(values) if name in SHARES else None
            summary["intervals"][name] = list(interval or bootstrap_interval(values, seed))
    waits = [1000 * rollout.plan_seconds for rollout in rollouts]
    for name, quantile in LATENCIES.items():
        summary[name] = float(np.quantile(np.concatenate(waits), quantile))
        summary["intervals"][name] = list(quantile_interval(waits, quantile, seed))
    if summary["sr"] is not None:
        summary["sr_interval"] = summary["intervals"]["sr"]
    summary["endings"] = dict(Counter(rollout.ending for rollout in rollouts).most_common())
    summary["num_episodes"] = len(episodes)
    return summary


def wilson_interval(values: np.ndarray) -> Interval:
    """95% interval of the share of ones among `values` (N,) of 0 and 1."""
    found = binomtest(int(values.sum()), len(values)).proportion_ci(method="wilson")
    return float(found.low), float(found.high)


def quantile_interval(
    episodes: list[np.ndarray], quantile: float, seed: int, num_draws: int = 1000
) -> Interval:
    """95% interval of a quantile of the values of all `episodes`, by resampling episodes."""
    rng, count = np.random.default_rng(seed), len(episodes)
    values = np.concatenate(episodes)
    order = values.argsort()
    episode_of = np.repeat(np.arange(count), [len(episode) for episode in episodes])[order]
    drawn = []
    for _ in range(num_draws):
        times = np.bincount(rng.integers(0, count, count), minlength=count)
        up_to = times[episode_of].cumsum()
        drawn.append(values[order[np.searchsorted(up_to, quantile * up_to[-1])]])
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)
