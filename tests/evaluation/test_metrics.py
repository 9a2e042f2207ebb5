"""The metrics against numbers of habitat-lab and VLN-CE (tests/golden/metrics.json)."""

import json
from pathlib import Path

import numpy as np
import pytest

from internnav_hf.evaluation.metrics import (
    bootstrap_interval,
    dynamic_time_warping,
    episode_metrics,
    summarize,
)
from internnav_hf.evaluation.records import DecisionRecord, Rollout

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "metrics.json").read_text())
OUR_NAMES = {
    "distance_to_goal": "ne",
    "success": "sr",
    "spl": "spl",
    "oracle_success": "os",
    "oracle_spl": "spl",  # only STOP can succeed, and it ends the episode
    "path_length": "tl",
    "steps_taken": "steps",
    "ndtw": "ndtw",
    "sdtw": "sdtw",
}


def rollout_of(positions, distances, reference_path, stop_called, collisions=None):
    num_steps = len(positions) - 1
    return Rollout(
        agent="golden",
        scene="plane",
        episode_id="0",
        instruction="walk",
        positions=np.array(positions),
        goal_distances=np.array(distances),
        collisions=np.zeros(num_steps, bool) if collisions is None else np.array(collisions),
        actions=np.ones(num_steps, int),
        reference_path=np.array(reference_path),
        goal_position=(0.0, 0.0),
        stop_called=stop_called,
    )


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: case["name"])
def test_metrics_equal_the_golden(case):
    rollout = rollout_of(
        case["positions"],
        case["geodesic_to_goal"],
        GOLDEN["reference_path"],
        case["stop_called"],
    )
    metrics = episode_metrics(rollout, GOLDEN["success_distance"])
    for name, ours in OUR_NAMES.items():
        assert metrics[ours] == pytest.approx(case["vlnce"][name], abs=1e-9), name


VLN = json.loads((Path(__file__).parents[1] / "golden" / "vln_metrics.json").read_text())


@pytest.mark.parametrize("case", VLN["vlnce"]["cases"], ids=lambda case: case["name"])
def test_metrics_in_space_equal_the_golden(case):
    """The classic models' cases: positions have three coordinates."""
    rollout = rollout_of(
        case["positions"],
        case["geodesic_to_goal"],
        VLN["vlnce"]["reference_path"],
        case["stop_called"],
    )
    metrics = episode_metrics(rollout, VLN["vlnce"]["success_distance"])
    for name, ours in OUR_NAMES.items():
        assert metrics[ours] == pytest.approx(case["vlnce"][name], abs=1e-12), name


def test_spl_takes_the_exact_shortest_way_where_it_is_known():
    rollout = rollout_of([[0, 0], [1, 0]], [1.08, 0], [[0, 0], [1, 0]], True)
    rollout.shortest_distance = 0.8
    assert episode_metrics(rollout, 0.5)["spl"] == pytest.approx(0.8)
    rollout.shortest_distance = None
    assert episode_metrics(rollout, 0.5)["spl"] == pytest.approx(1.0)


def test_a_start_on_the_goal_has_no_nan():
    metrics = episode_metrics(rollout_of([[0, 0]] * 2, [0, 0], [[0, 0]], True), 1.0)
    assert (metrics["spl"], metrics["sr"], metrics["ndtw"]) == (0, 1, 1)


def test_collision_rate_is_the_share_of_actions():
    rollout = rollout_of([[0, 0]] * 5, [1] * 5, [[0, 0]], False, [True, False, True, False])
    assert episode_metrics(rollout, 1.0)["collision_rate"] == 0.5


def test_warping_a_path_onto_itself_with_repeats_costs_nothing():
    path = np.random.default_rng(0).normal(size=(7, 2))
    assert dynamic_time_warping(path, np.repeat(path, 3, axis=0)) == 0


def test_summary_is_the_mean_and_its_interval_holds_it():
    good = episode_metrics(rollout_of([[0, 0], [1, 0]], [1, 0], [[0, 0], [1, 0]], True), 0.5)
    bad = episode_metrics(rollout_of([[0, 0], [0, 0]], [1, 1], [[0, 0], [1, 0]], True), 0.5)
    summary = summarize([good, bad])
    assert {"sr", "spl", "os", "ne", "ndtw", "collision_rate"} <= set(summary)
    assert (summary["sr"], summary["ne"], summary["num_episodes"]) == (0.5, 0.5, 2)
    low, high = bootstrap_interval(np.array([1.0] * 40 + [0.0] * 40), seed=1)
    assert 0.35 < low < 0.5 < high < 0.65


def test_no_episodes_is_an_error():
    with pytest.raises(ValueError, match="no episode"):
        summarize([])


def test_a_rollout_survives_json():
    rollout = rollout_of([[0, 0], [1, 0]], [1, 0], [[0, 0], [1, 0]], True)
    rollout.decisions.append(DecisionRecord(0, "PIXEL_GOAL", "3 4", (0.0, 0.0), (3.0, 4.0)))
    copy = Rollout.from_dict(json.loads(json.dumps(rollout.to_dict())))
    assert copy.collisions.dtype == bool
    assert episode_metrics(copy, 0.5) == episode_metrics(rollout, 0.5)
    assert copy.decisions[0].text == "3 4"
