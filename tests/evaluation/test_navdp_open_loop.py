"""Open loop of NavDP on a small dataset, with trajectories by rule and of a tiny model."""

import numpy as np
import pytest

from internnav_hf.data.obstacles import make_field
from internnav_hf.evaluation.navdp_open_loop import (
    hit_share,
    path_errors,
    rank_correlation,
    touches,
)

WALL = make_field(np.stack([np.full(81, 1.0), np.linspace(-2, 2, 81)], axis=1))


def straight(angle: float, length: float = 2.0) -> np.ndarray:
    return np.linspace(0, length, 9)[:, None] * [np.cos(angle), np.sin(angle)]


def test_errors_are_of_the_nearest_path():
    truth = straight(0.0)
    errors = path_errors(straight(np.pi / 2)[None], truth)
    assert errors["fde_m"] == pytest.approx(np.sqrt(8))
    assert errors["ade_m"] == pytest.approx(np.sqrt(2) * np.linspace(0, 2, 9)[1:].mean())
    both = path_errors(np.stack([straight(np.pi / 2), truth]), truth)
    assert both == {"ade_m": 0.0, "fde_m": 0.0}


def test_a_path_through_a_wall_hits_it():
    paths = np.stack([straight(0.0), straight(np.pi), straight(0.0, 0.7), straight(0.0, 0.9)])
    assert hit_share(paths, WALL, 0.18) == 0.5
    assert hit_share(paths, WALL, 0.05) == 0.25
    assert hit_share(0 * paths, WALL, 2.0) == 0  # who stands still hits nothing
    away = straight(np.pi)[None] + np.array([0.9, 0.0])
    assert hit_share(away, WALL, 0.18) == 0  # who is too near may leave
    assert hit_share(paths, make_field(np.zeros((0, 2))), 0.18) == 0


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
