"""Open loop of NavDP on a small dataset, with trajectories by rule and of a tiny model."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from internnav_hf.data import NavDPDataset
from internnav_hf.data.obstacles import make_field, path_value
from internnav_hf.evaluation.open_loop.navdp import (
    evaluate_navdp_open_loop,
    rank_correlation,
    touches,
)
from internnav_hf.geometry import robot_to_world
from internnav_hf.models.navdp.model import NavDPSamples
from internnav_hf.trajectory import path_of
from tests.data.vln_n1 import write_root
from tests.tiny.navdp import tiny_navdp_model


def test_a_disc_touches_what_lies_within_its_radius():
    points = np.random.default_rng(0).uniform(-1, 1, (200, 2))
    obstacles = np.random.default_rng(1).uniform(-1, 1, (30, 2))
    nearest = np.linalg.norm(points[:, None] - obstacles, axis=-1).min(axis=1)
    found = touches(points, make_field(obstacles), 0.2)
    assert found.tolist() == (nearest <= 0.2).tolist()
    assert 0 < found.sum() < 200


def test_rank_correlation():
    values = np.array([[0.0, 1.0], [0.1, 2.0], [7.0, 3.0]])
    assert rank_correlation(values) == pytest.approx(1)
    assert rank_correlation(values * (1, -1)) == pytest.approx(-1)
    assert rank_correlation(values * (1, 0)) is None


# ------------------------------------------------------------------------------ on a dataset


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = write_root(tmp_path_factory.mktemp("open_loop") / "data", scenes=2, walks=2)
    return open_dataset(root)


def open_dataset(root, **options) -> NavDPDataset:
    sizes = {"image_size": 28, "action_horizon": 6, "samples_per_episode": 3, "training": False}
    sizes["seed"] = 1  # of which some have their goal in view
    return NavDPDataset(root, cache_dir=root.parent / "cache", **sizes | options)


class Knowing:
    """Samples the true ways, the favourite `shift_m` to the left at the end; its critic is right,
    or wrong.
    """

    def __init__(self, dataset: NavDPDataset, shift_m: float = 0.0, sign: int = 1):
        self.model = tiny_navdp_model()
        self.dataset, self.shift_m, self.sign, self.next = dataset, shift_m, sign, 0
        self.config, self.device, self.training = self.model.config, self.model.device, False
        self.eval = self.model.eval
        self.train = self.model.train
        self.encode_rgb = self.model.encode_rgb

    def values_of(self, actions, rgb, depth, rgb_tokens):
        self.indices = range(self.next, self.next + len(actions))
        self.next += len(actions)
        return torch.stack(
            [self._values(*pair) for pair in zip(self.indices, actions, strict=True)]
        )

    def sample(self, goals, rgb, depth, num_samples, generators, rgb_tokens):
        ways = np.array([self.dataset.decision(index)["path"] for index in self.indices])
        actions = torch.zeros(len(ways), num_samples, 6, 3, dtype=torch.float64)
        actions[..., :2] = torch.as_tensor(np.diff(ways, axis=1))[:, None]
        actions[:, 0, -1, 1] += self.shift_m
        values = [self._values(*pair) for pair in zip(self.indices, actions, strict=True)]
        return NavDPSamples(actions.cumsum(2), torch.stack(values), actions)

    def _values(self, index: int, actions: torch.Tensor) -> torch.Tensor:
        paths = robot_to_world(path_of(actions.numpy()), self.dataset.decision(index)["robot_pose"])
        values = path_value(paths, self.dataset.obstacles(index))
        return torch.as_tensor(self.sign * values, dtype=torch.float32)


def test_who_knows_the_way_has_no_error(dataset):
    result = evaluate_navdp_open_loop(Knowing(dataset), dataset, batch_size=5)
    for kind in ("point", "image", "pixel", "none"):
        for name in ("ade_m", "fde_m", "best_ade_m", "best_fde_m", "mean_ade_m"):
            assert result[f"{kind}_{name}"] == pytest.approx(0, abs=1e-6)
        if kind != "pixel":
            assert result[f"{kind}_collision_share"] == result["label_collision_share"]
    assert result["critic_rank_correlation"] == pytest.approx(1, abs=0.02)
    assert result["critic_pooled_correlation"] == pytest.approx(1, abs=0.02)
    assert result["num_samples"] == len(dataset) == 12
    assert 0 < result["num_pixel_goals"] <= 12
    assert result["constant_ade_m"] > 0
    assert result["straight_ade_m"] < result["constant_ade_m"]
    assert all(isinstance(value, float) for value in result.values())


def test_the_favourite_is_judged_and_so_is_the_nearest(dataset):
    model = Knowing(dataset, shift_m=0.3, sign=-1)
    result = evaluate_navdp_open_loop(model, dataset, num_trajectories=4)
    assert result["point_fde_m"] == pytest.approx(0.3)
    assert result["point_ade_m"] == pytest.approx(0.3 / 6)
    assert result["point_mean_ade_m"] == pytest.approx(0.3 / 24)
    assert result["point_best_fde_m"] == pytest.approx(0, abs=1e-6)
    assert result["critic_rank_correlation"] < -0.9


def test_a_tiny_model_is_evaluated_the_same_in_any_batch(dataset):
    model = tiny_navdp_model().train()
    results = [evaluate_navdp_open_loop(model, dataset, 4, size, 3) for size in (1, 3)]
    assert results[0] == pytest.approx(results[1], abs=1e-4)
    assert results[0]["num_samples"] == 4
    assert model.training
    other = evaluate_navdp_open_loop(model, dataset, 4, num_trajectories=3, seed=1)
    assert other["point_ade_m"] != pytest.approx(results[0]["point_ade_m"], abs=1e-4)


def test_only_goals_that_the_model_is_trained_for_are_asked(dataset):
    model = tiny_navdp_model(goal_kinds=("point", "none"))
    result = evaluate_navdp_open_loop(model, dataset, 2, num_trajectories=2)
    assert {name.split("_")[0] for name in result} >= {"point", "none"}
    assert not [name for name in result if name.startswith(("image", "pixel"))]


def test_another_mode_than_training_is_refused(dataset):
    with pytest.raises(ValueError, match="action_horizon=6, but the model's is 5"):
        evaluate_navdp_open_loop(tiny_navdp_model(action_horizon=5), dataset)
    camera = replace(dataset.camera, height_m=0.9).to_dict()
    with pytest.raises(ValueError, match="another camera than the model's"):
        evaluate_navdp_open_loop(tiny_navdp_model(camera=camera), dataset)
