"""Planners in open loop: what paths cost on the map, beside the straight line."""

import pytest
import torch

from internnav_hf.data import PlannerDataset
from internnav_hf.evaluation.open_loop.planners import evaluate_planner_open_loop
from internnav_hf.models.planners.model import PlannerPath
from internnav_hf.models.planners.spline import straight_path
from tests.data.planner_folders import write_iplanner
from tests.tiny.planners import tiny_iplanner


@pytest.fixture
def dataset(tmp_path):
    write_iplanner(tmp_path, num_frames=36)  # the last frames' goals are nearer to the wall
    return PlannerDataset(tmp_path, 96, 128, cache_dir=tmp_path)


def test_a_straight_planner_measures_as_the_straight_line(dataset):
    model = tiny_iplanner()

    def predict(depth, goal_point, semantics=None, rgb=None):
        path = straight_path(goal_point, 51)
        return PlannerPath(path[:, 10::10], path, torch.full((len(depth),), -9.0))

    model.predict = predict
    found = evaluate_planner_open_loop(model, dataset, num_samples=20, batch_size=8)
    assert found["num_samples"] == 20
    assert found["map_cost"] == pytest.approx(found["straight_map_cost"])
    assert found["goal_error_m"] == pytest.approx(0, abs=1e-6)
    assert found["collision_share"] == found["straight_collision_share"] == 0
    assert found["fear_accuracy"] == 1


def test_an_untrained_planner_misses_its_goals_and_stays_in_training(dataset):
    model = tiny_iplanner().train()
    found = evaluate_planner_open_loop(model, dataset, num_samples=20, batch_size=8)
    again = evaluate_planner_open_loop(model, dataset, num_samples=20, batch_size=20)
    assert model.training
    assert found["goal_error_m"] > 0.1
    assert again["map_cost"] == pytest.approx(found["map_cost"], abs=1e-5)
