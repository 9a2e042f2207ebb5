"""What all open loops share: samples, processes, errors of paths, and what paths hit."""

import numpy as np
import pytest
import torch
from torch import nn

from internnav_hf.data.obstacles import make_field
from internnav_hf.evaluation.open_loop.common import (
    answer_samples,
    hit_share,
    path_errors,
    sample_generator,
    summarize_rows,
)
from internnav_hf.evaluation.open_loop.navdp import touches
from internnav_hf.training.evaluation import evaluating
from internnav_hf.training.samples import choose_samples

WALL = make_field(np.stack([np.full(81, 1.0), np.linspace(-2, 2, 81)], axis=1))


def straight(angle: float, length: float = 2.0) -> np.ndarray:
    return np.linspace(0, length, 9)[:, None] * [np.cos(angle), np.sin(angle)]


def share(paths: np.ndarray, obstacles, radius_m: float) -> float:
    return hit_share(paths, lambda points: ~touches(points, obstacles, radius_m), 4)


def test_errors_of_paths_are_distances_to_the_expert():
    expert = straight(0.0)
    ade_m, fde_m = path_errors(np.stack([straight(np.pi / 2), expert]), expert)
    assert fde_m == pytest.approx([np.sqrt(8), 0])
    assert ade_m == pytest.approx([np.sqrt(2) * np.linspace(0, 2, 9)[1:].mean(), 0])


def test_a_path_through_a_wall_hits_it():
    paths = np.stack([straight(0.0), straight(np.pi), straight(0.0, 0.7), straight(0.0, 0.9)])
    assert share(paths, WALL, 0.18) == 0.5
    assert share(paths, WALL, 0.05) == 0.25
    assert share(0 * paths, WALL, 2.0) == 0  # a robot that stands still hits nothing
    away = straight(np.pi)[None] + np.array([0.9, 0.0])
    assert share(away, WALL, 0.18) == 0  # one that is too near may leave
    assert share(paths, make_field(np.zeros((0, 2))), 0.18) == 0


def test_a_wall_right_before_the_robot_counts():
    def is_free(points):
        return points[..., 0] < 0.02

    ahead = np.stack([np.linspace(0, 3.3, 33), np.zeros(33)], axis=1)[None]
    assert hit_share(ahead, is_free, 3) == 1
    assert hit_share(-ahead, is_free, 3) == 0
    # it stands where it should not be, and leaves
    assert hit_share(0.5 - ahead, is_free, 3) == 0


def test_every_chosen_sample_is_answered_once():
    batches = []

    def answer(indices: list[int]) -> list[int]:
        batches.append(indices)
        return indices

    found = answer_samples(answer, range(20), 7, 3, seed=1)
    assert found == choose_samples(20, 7, 1).tolist()
    assert [len(batch) for batch in batches] == [3, 3, 1]
    assert answer_samples(answer, range(3), None, 8, seed=1) == [0, 1, 2]
    with pytest.raises(ValueError, match="There is no sample to evaluate; the dataset is empty"):
        answer_samples(answer, [], None, 8, seed=1)


def test_a_sample_has_random_numbers_of_its_own():
    drawn = [torch.rand(2, generator=sample_generator(*of)) for of in ((0, 3), (0, 3), (0, 4))]
    assert drawn[0].tolist() == drawn[1].tolist() != drawn[2].tolist()


def test_rows_become_means_and_counts():
    rows = [{"ade_m": 1.0, "num_missing": 1.0}, {"ade_m": 2.0, "fde_m": 5.0, "num_missing": 1.0}]
    expected = {"ade_m": 1.5, "fde_m": 5.0, "num_missing": 2.0, "num_samples": 2.0}
    assert summarize_rows(rows, ["num_missing"]) == expected


def test_a_model_goes_on_training_after_an_evaluation():
    for is_training in (True, False):
        model = nn.Dropout().train(is_training)
        with evaluating(model):
            assert not model.training
        assert model.training == is_training
