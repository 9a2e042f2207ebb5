from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from internnav_hf.geometry import wrap_angle
from internnav_hf.sim.navigation import NavigableSpace
from internnav_hf.sim.scenes import generate_scene, scene_config
from internnav_hf.sim.smooth_paths import (
    STEERING_ROOM_M,
    SmoothPathSampler,
    planning_field,
    smooth_path,
    straighten,
)
from internnav_hf.trajectory import chord_length
from tests.sim.boxes import hall


def planned(space, start, goal):
    return planning_field(space, np.array(goal)), np.array(start)


def test_nothing_bends_a_path_over_free_floor():
    space = NavigableSpace(hall())
    path = smooth_path(*planned(space, (1.0, 1.0), (5.0, 2.5)), spacing_m=0.06)
    assert np.isclose(chord_length(path)[-1], np.linalg.norm(path[-1] - path[0]), rtol=1e-3)
    assert np.linalg.norm(path[0] - (1.0, 1.0)) < 1e-9
    assert np.linalg.norm(path[-1] - (5.0, 2.5)) < space.resolution_m
    steps = np.linalg.norm(np.diff(path, axis=0), axis=1)
    assert np.allclose(steps, 0.06, rtol=0.02)


def test_it_keeps_clear_of_a_corner_and_turns_smoothly():
    space = NavigableSpace(hall(((3, 3, 0.5), (2, 2, 1))))
    field, start = planned(space, (1.0, 3.0), (5.0, 3.2))
    path = smooth_path(field, start, spacing_m=0.06)
    assert space.lookup(space.clearance, path, outside=0).min() > 0.3
    taut = space.shortest_path(start, path[-1])
    assert chord_length(path)[-1] < 1.25 * chord_length(taut)[-1]
    steps = np.diff(path, axis=0)
    bends = wrap_angle(np.diff(np.arctan2(steps[:, 1], steps[:, 0])))
    assert np.abs(bends).max() < 0.25  # of 0.06 m each


def test_a_narrow_gap_is_taken_for_want_of_a_better_path_only():
    # A wall across the hall with a gap of 0.42 m; in the second hall there is a wider one as well.
    walls = (((3, 1.3, 0.5), (0.2, 2.6, 1)), ((3, 4.51, 0.5), (0.2, 2.98, 1)))
    only = NavigableSpace(hall(*walls), resolution_m=0.02)
    path = smooth_path(*planned(only, (2.0, 2.8), (4.0, 2.8)), spacing_m=0.06)
    assert chord_length(path)[-1] < 2.2
    shorter = (((3, 1.3, 0.5), (0.2, 2.6, 1)), ((3, 3.8, 0.5), (0.2, 1.56, 1)))
    both = NavigableSpace(hall(*shorter), resolution_m=0.02)
    path = smooth_path(*planned(both, (2.0, 2.8), (4.0, 2.8)), spacing_m=0.06)
    assert chord_length(path)[-1] > 3.5
    roomy = both.wider(STEERING_ROOM_M)
    assert roomy.is_navigable(path).all()


def test_straightening_costs_nothing():
    space = NavigableSpace(hall(((3, 3, 0.5), (2, 2, 1))))
    field, start = planned(space, (1.0, 3.0), (5.0, 3.2))
    path = np.concatenate([[start], field.path_from(start)[1:]])
    corners = straighten(field, path)
    assert len(corners) < len(path) / 4
    assert np.array_equal(corners[[0, -1]], path[[0, -1]])
    assert chord_length(corners)[-1] < chord_length(path)[-1] + 1e-9
    for first, second in pairwise(corners):
        assert space.straight_line_is_free(first, second)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10**9), st.sampled_from(["easy", "medium", "hard"]))
def test_drawn_paths_touch_nothing_and_are_as_long_as_asked(seed, density):
    space = NavigableSpace(generate_scene(seed, scene_config(density)), resolution_m=0.1)
    poses = SmoothPathSampler(space, 0.06, 2.5, 6.0).draw(np.random.default_rng(seed))
    assert poses is not None
    assert space.is_navigable(poses[:, :2]).all()
    steps = np.linalg.norm(np.diff(poses[:, :2], axis=0), axis=1)
    assert np.allclose(steps, 0.06, rtol=0.05)
    assert 2.4 < steps.sum() < 6.1
    assert (np.abs(poses[:, 2]) <= np.pi).all()


def test_the_heading_follows_the_path_but_for_its_noise(space):
    def deviation(noise):
        sampler, found = SmoothPathSampler(space, heading_noise=noise), []
        for seed in range(15):
            poses = sampler.draw(np.random.default_rng(seed))
            steps = np.gradient(poses[:, :2], axis=0)
            found.append(wrap_angle(poses[:, 2] - np.arctan2(steps[:, 1], steps[:, 0])))
            assert np.abs(np.diff(np.unwrap(poses[:, 2]))).max() < 0.35
        return np.concatenate(found).std()

    assert deviation(0.0) < 1e-9
    assert 0.15 < deviation(0.2) < 0.25


def test_the_same_draws_give_the_same_path(space):
    first, again, other = (
        SmoothPathSampler(space).draw(np.random.default_rng(s)) for s in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert first.shape != other.shape or not np.allclose(first, other)


def test_a_scene_may_be_too_small():
    space = NavigableSpace(hall(size=3.0))
    assert SmoothPathSampler(space, min_length_m=9.0).draw(np.random.default_rng(0)) is None


def test_at_the_goal_there_is_nowhere_to_go():
    field = planning_field(NavigableSpace(hall()), np.array([3.0, 3.0]))
    path = smooth_path(field, np.array([3.01, 3.0]), spacing_m=0.06)
    assert chord_length(path)[-1] < 0.06
    assert len(path) == 2


def test_short_paths_begin_and_end_where_they_should():
    space = NavigableSpace(hall())
    for start in ((3.06, 3.0), (3.3, 3.2), (2.2, 3.9)):
        field, place = planned(space, start, (3.02, 3.02))
        path = smooth_path(field, place, spacing_m=0.06)
        assert np.allclose(path[0], start)
        assert np.allclose(path[-1], space.center(space.cell((3.02, 3.02))))
