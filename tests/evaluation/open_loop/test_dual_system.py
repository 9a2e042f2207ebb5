"""Open loop of the dual system on a small simulated dataset, with trajectories by rule."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from internnav_hf.camera import CameraSpec
from internnav_hf.data.tasks.dual_system import DualSystemDataset
from internnav_hf.evaluation.open_loop.dual_system import (
    evaluate_dual_open_loop,
    heading_error_deg,
    straight_path,
)
from internnav_hf.geometry import camera_pose, project
from internnav_hf.models.system2.dialogue import AnswerKind
from internnav_hf.policies import Decision, DualSystemPolicy
from tests.data.vln_ce import straight_episode, write_scene
from tests.tiny.dual_system import tiny_dual_system
from tests.tiny.system2 import tiny_processor

CAMERA = CameraSpec(width=64, height=48)
POINT = Decision(AnswerKind.PIXEL_GOAL, "↓", goal_pixel=(32.0, 30.0), plan=torch.zeros(4, 64))
UNPARSABLE = Decision(AnswerKind.UNPARSABLE, "hm")


@pytest.fixture
def dataset(simulated_data, tmp_path):
    return open_dataset(simulated_data, tmp_path)


def open_dataset(root, cache, **options) -> DualSystemDataset:
    options = {"action_horizon": 8, "depth": True, "cache_dir": cache / "cache"} | options
    return DualSystemDataset(root, "r2r_val_unseen_125cm_0_30", **options)


def policy_of(system1: str = "navdp_async", decision=POINT, **settings) -> DualSystemPolicy:
    model = tiny_dual_system(system1, image_width=64, image_height=48)
    policy = DualSystemPolicy(model, tiny_processor(), num_samples=3, **settings)
    if decision is not None:
        policy.system2.decide = lambda images, *_, **__: [decision for _ in images]
    return policy


def knowing(policy: DualSystemPolicy, dataset: DualSystemDataset, shift_m: float = 0.0):
    """The expert samples the true ways, the second of three `shift_m` to the left at the end."""
    ways = iter([dataset.decision(index)["path"] for index in range(len(dataset))])

    def sample(plan, **_):
        actions = np.zeros((len(plan), 3, 8, 3), np.float32)
        actions[..., :2] = np.stack([np.diff(next(ways), axis=0) for _ in plan])[:, None]
        actions[:, 1, -1, 1] += shift_m
        return torch.as_tensor(actions)

    policy.expert.sample = sample
    return policy


def test_the_expert_has_no_error_and_hits_what_it_hits(dataset):
    result = evaluate_dual_open_loop(knowing(policy_of(), dataset), dataset, batch_size=3)
    for name in ("ade_m", "fde_m", "best_ade_m", "best_fde_m"):
        assert result[name] == pytest.approx(0, abs=1e-6)
    assert result["heading_error_deg"] == pytest.approx(0, abs=1e-3)
    assert result["collision_share"] == pytest.approx(result["expert_collision_share"])
    assert result["num_samples"] == len(dataset) > 3
    assert result["num_plans_missing"] == 0
    assert result["constant_ade_m"] > 0
    assert result["straight_ade_m"] > 0
    assert all(isinstance(value, float) for value in result.values())


def test_the_mean_is_judged_and_so_is_the_best_sample(dataset):
    result = evaluate_dual_open_loop(knowing(policy_of(), dataset, shift_m=0.3), dataset)
    assert result["fde_m"] == pytest.approx(0.1, abs=1e-6)
    assert result["ade_m"] == pytest.approx(0.1 / 8, abs=1e-6)
    assert result["best_fde_m"] == pytest.approx(0, abs=1e-6)


def test_without_a_plan_one_stands_still(dataset):
    policy = policy_of(decision=UNPARSABLE)
    result = evaluate_dual_open_loop(policy, dataset)
    lengths = [np.linalg.norm(dataset.decision(i)["path"][-1]) for i in range(len(dataset))]
    assert result["num_plans_missing"] == len(dataset)
    assert result["fde_m"] == pytest.approx(np.mean(lengths))
    assert result["collision_share"] == 0
    assert "straight_ade_m" not in result


@pytest.mark.parametrize("system1", ["nextdit_async", "navdp_async", "nextdit"])
def test_a_tiny_model_is_evaluated_the_same_in_any_batch(dataset, system1):
    results = [
        evaluate_dual_open_loop(
            policy_of(system1, decision=None), dataset, num_samples=4, batch_size=batch_size
        )
        for batch_size in (1, 3)
    ]
    assert results[0] == pytest.approx(results[1], abs=1e-4)
    assert results[0]["num_samples"] == 4
    policy = policy_of(system1, decision=None, seed=1)
    other = evaluate_dual_open_loop(policy, dataset, num_samples=4)
    assert other["ade_m"] != pytest.approx(results[0]["ade_m"], abs=1e-4)


def test_another_mode_than_training_is_refused(simulated_data, tmp_path):
    with pytest.raises(ValueError, match="depth=False, but this model's action expert was trained"):
        evaluate_dual_open_loop(policy_of(), open_dataset(simulated_data, tmp_path, depth=False))
    other = open_dataset(simulated_data, tmp_path, action_horizon=5)
    with pytest.raises(ValueError, match="action_horizon=5, but the model's is 8"):
        evaluate_dual_open_loop(policy_of(), other)


def test_data_of_no_simulator_have_no_collisions(tmp_path):
    episodes = [straight_episode(0)]
    write_scene(tmp_path / "r2r_val_unseen" / "scene", episodes, size=(64, 48))
    dataset = open_dataset(tmp_path, tmp_path, depth=False)
    result = evaluate_dual_open_loop(policy_of("nextdit_async"), dataset)
    assert not [name for name in result if "collision" in name]
    assert result["ade_m"] > 0


@pytest.mark.parametrize("with_depth", [True, False])
def test_a_straight_line_leads_to_what_the_pixel_shows(with_depth):
    pose = camera_pose(0, 0, 0, CAMERA.height_m, np.radians(30))
    place = np.array([[0.8, 0.2, 0.0]])
    ((u, v),), (depth,) = project(place, pose, CAMERA.intrinsics)
    sample = {"camera": CAMERA, "path": np.zeros((33, 2))}
    if with_depth:
        sample["look_down_depth"] = np.full((48, 64), depth, np.float32)
    path = straight_path(sample, (u, v))
    np.testing.assert_allclose(path[-1], [0.8, 0.2], atol=1e-5)
    np.testing.assert_allclose(np.diff(path, axis=0)[:3], [path[1]] * 3, atol=1e-9)
    assert np.linalg.norm(path[1]) == pytest.approx(3.3 / 32)


def test_the_heading_error_is_the_angle_between_both_ends():
    expert = np.stack([np.linspace(0, 1, 5), np.zeros(5)], axis=1)
    assert heading_error_deg(expert[:, ::-1], expert) == pytest.approx(90)
    assert heading_error_deg(np.zeros((5, 2)), expert) is None


def test_another_camera_than_the_models_is_refused(dataset):
    policy = policy_of()
    policy.processor.camera = replace(dataset.camera, height_m=0.6).to_dict()
    with pytest.raises(ValueError, match="another camera than the model's"):
        evaluate_dual_open_loop(policy, dataset)
