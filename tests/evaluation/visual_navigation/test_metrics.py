"""The numbers of the visual-navigation benchmark."""

import numpy as np
import pytest

from internnav_hf.evaluation.visual_navigation.metrics import (
    contact_step,
    efficiency,
    episode_metrics,
    summarize,
)
from internnav_hf.evaluation.visual_navigation.report import COLUMNS
from internnav_hf.evaluation.visual_navigation.rollout import DrivingRollout


def rollout(
    length=5.0, distance: float | None = 0.5, ending="arrived", hits=0, waits=(0.01, 0.02)
) -> DrivingRollout:
    """Straight along x in ten control steps."""
    return DrivingRollout(
        agent="a",
        scene="s",
        episode_id="e",
        task="point-goal",
        ending=ending,
        control_period=0.15,
        positions=np.stack([np.linspace(0, length, 11), np.zeros(11)], axis=1),
        collisions=np.arange(10) < hits,
        start_yaw=0.0,
        reference_path=np.array([[0, 0], [0, 3], [4, 3]]) * 1.0,
        goal=None if distance is None else (4.0, 3.0, 0.0),
        goal_distance=distance,
        straight_distance=5.0,
        geodesic_distance=7.0,
        explored_area=12.5,
        plan_seconds=np.array(waits),
    )


@pytest.mark.parametrize(
    ("length", "distance", "success", "spl", "geodesic_spl"),
    [
        (10.0, 0.5, 1, 0.5, 0.7),
        (6.0, 1.49, 1, 5 / 6, 1),
        (4.0, 1.0, 1, 1, 1),  # the radius shortens the way: at most 1
        (10.0, 1.51, 0, 0, 0),
    ],
)
def test_success_and_its_weights(length, distance, success, spl, geodesic_spl):
    metrics = episode_metrics(rollout(length, distance), 1.5)
    assert metrics["sr"] == success
    assert metrics["spl"] == pytest.approx(spl)
    assert metrics["geodesic_spl"] == pytest.approx(geodesic_spl)
    assert metrics["goal_distance_m"] == distance
    assert metrics["explored_area_m2"] is None


def test_a_timeout_near_the_goal_counts_as_published():
    assert episode_metrics(rollout(ending="time limit"), 1.5)["sr"] == 1


def test_time_and_contacts():
    metrics = episode_metrics(rollout(hits=3), 1.5)
    assert metrics["time_s"] == pytest.approx(1.5)
    assert metrics["collided_share"] == 1
    assert metrics["contact_share"] == pytest.approx(0.3)
    assert metrics["contact_time_s"] == pytest.approx(0.15)
    assert episode_metrics(rollout(), 1.5)["contact_time_s"] == pytest.approx(1.5)
    assert contact_step(np.array([False, False, True, True])) == 3
    assert episode_metrics(rollout(), 1.5)["collided_share"] == 0
    assert efficiency(3.0, 0.0) == 1  # stood in the goal from the start


def test_a_summary():
    rollouts = [rollout(), rollout(distance=3.0, ending="stuck", hits=5), rollout()]
    summary = summarize(rollouts, 1.5, seed=0)
    assert summary["sr"] == pytest.approx(2 / 3)
    assert summary["endings"] == {"arrived": 2, "stuck": 1}
    assert summary["collided_share"] == pytest.approx(1 / 3)
    assert summary["sr_interval"] == summary["intervals"]["sr"]
    assert summary["explored_area_m2"] is None
    assert set(COLUMNS) <= set(summary)


def test_intervals_of_shares_are_wilsons_and_of_means_by_resampling():
    found = [rollout(length=10.0 if i % 2 else 5.0, hits=0) for i in range(20)]
    intervals = summarize(found, 1.5, seed=0)["intervals"]
    assert intervals["sr"] == pytest.approx([0.8389, 1.0], abs=1e-4)  # of 20 among 20
    assert intervals["collided_share"] == pytest.approx([0.0, 0.1611], abs=1e-4)
    low, high = intervals["path_length_m"]
    assert 6 < low < 7.5 < high < 9
    assert "explored_area_m2" not in intervals
    assert summarize(found, 1.5, seed=0)["intervals"] == intervals
    assert summarize(found, 1.5, seed=1)["intervals"]["path_length_m"] != [low, high]


def test_waits_are_quantiles_of_all_plans_with_intervals_over_episodes():
    found = [rollout(waits=(0.01,) * 9 + (0.1 * (1 + i),)) for i in range(10)]
    summary = summarize(found, 1.5, seed=0)
    assert summary["latency_p50_ms"] == pytest.approx(10)
    assert summary["intervals"]["latency_p50_ms"] == pytest.approx([10, 10])
    waits = 1000 * np.concatenate([one.plan_seconds for one in found])
    assert summary["latency_p95_ms"] == pytest.approx(np.quantile(waits, 0.95))
    low, high = summary["intervals"]["latency_p95_ms"]
    assert 200 <= low < summary["latency_p95_ms"] < high <= 1000


def test_exploring_has_area_and_time_only():
    found = [rollout(distance=None, ending=ending) for ending in ("contact", "time limit")]
    summary = summarize(found, 1.5, seed=0)
    assert summary["sr"] is None
    assert summary["spl"] is None
    assert "sr_interval" not in summary
    assert summary["explored_area_m2"] == 12.5
    assert summary["time_s"] == pytest.approx(1.5)
