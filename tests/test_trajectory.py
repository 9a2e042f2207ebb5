import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from safetensors.numpy import load_file

from internnav_hf.geometry import FORWARD_STEP_M, TURN_STEP, Action, camera_pose, robot_pose
from internnav_hf.trajectory import (
    SPACING_M,
    actions_along,
    chord_length,
    dense_path,
    follow,
    path_of,
    relative_poses,
    resample,
    trajectory_actions,
)

GOLDEN = Path(__file__).parent / "golden"
TARGETS = load_file(GOLDEN / "trajectory_targets.safetensors")
MOTION = load_file(GOLDEN / "traj_to_actions.safetensors")
DISCRETE = json.loads((GOLDEN / "traj_to_actions.json").read_text())
SCALE = np.array([4.0, 4.0, 1.0])
PITCH = np.radians(30)

angles = st.floats(-np.pi, np.pi)
metres = st.floats(-20, 20)
turns = st.lists(st.integers(-3, 3), min_size=1, max_size=15)


def cases(tensors):
    return sorted({key.split("/")[0] for key in tensors})


def pitch_of(case):
    return np.radians(int(case.rpartition("_p")[2]))


def cameras(walk, pitch=PITCH, height_m=1.25):
    """T_world_camera (N, 4, 4) above a walk (N, 3)."""
    return np.stack([camera_pose(x, y, yaw, height_m, pitch) for x, y, yaw in walk])


def walk_of(turn_counts, start=(0.0, 0.0, 0.0)):
    """(N, 3): turn on the spot, step forward, and again."""
    x, y, yaw = start
    walk = [(x, y, yaw)]
    for count in turn_counts:
        yaw += count * TURN_STEP
        walk.append((x, y, yaw))
        x, y = x + FORWARD_STEP_M * np.cos(yaw), y + FORWARD_STEP_M * np.sin(yaw)
        walk.append((x, y, yaw))
    return np.array(walk)


@pytest.mark.parametrize("case", cases(TARGETS))
def test_each_arrow_of_the_targets_equals_the_golden(case):
    golden = {name: TARGETS[f"{case}/{name}"] for name in ("poses", "points33", "delta32")}
    relative = relative_poses(golden["poses"], pitch_of(case))
    assert relative.dtype == np.float64
    assert_allclose(relative, TARGETS[f"{case}/relative_xyyaw"], atol=1e-7)
    points = resample(dense_path(TARGETS[f"{case}/relative_xyyaw"]), SPACING_M, 33)
    assert_allclose(points, golden["points33"], atol=1e-12)
    assert_allclose(actions_along(golden["points33"]) * SCALE, golden["delta32"], atol=1e-12)
    whole = trajectory_actions(golden["poses"], pitch_of(case))
    assert_allclose(whole * SCALE, golden["delta32"], atol=1e-7)


@pytest.mark.parametrize("case", cases(MOTION))
def test_each_arrow_back_to_motion_equals_the_golden(case):
    actions = MOTION[f"{case}/dp_actions"] / SCALE
    golden = MOTION[f"{case}/mean_trajectory"]
    assert_allclose(path_of(actions).mean(axis=0), golden, atol=1e-6)
    assert follow(golden) == DISCRETE["discrete"][case]


@given(turns, metres, metres, angles, st.sampled_from([0.0, 15.0, 30.0, 45.0]))
def test_relative_poses_do_not_depend_on_where_the_walk_starts(counts, x, y, yaw, pitch_deg):
    pitch = np.radians(pitch_deg)
    here = relative_poses(cameras(walk_of(counts), pitch), pitch)
    there = relative_poses(cameras(walk_of(counts, (x, y, yaw)), pitch), pitch)
    assert_allclose(here[:, :2], there[:, :2], atol=1e-9)
    assert_allclose(np.exp(1j * here[:, 2]), np.exp(1j * there[:, 2]), atol=1e-9)


@given(turns, st.sampled_from([0.0, 15.0, 30.0, 45.0]))
def test_relative_poses_agree_with_the_geometry(counts, pitch_deg):
    poses = cameras(walk_of(counts), np.radians(pitch_deg))
    x, y, yaw = np.array([robot_pose(pose) for pose in poses]).T
    relative = relative_poses(poses, np.radians(pitch_deg))
    assert_allclose(relative[:, :2], np.stack([x, y], axis=1), atol=1e-9)
    assert_allclose(np.exp(1j * relative[:, 2]), np.exp(1j * yaw), atol=1e-9)


@given(st.integers(0, 20), st.floats(-np.pi, np.pi))
def test_a_straight_path_resamples_to_a_straight_path(num_steps, heading):
    direction = np.array([np.cos(heading), np.sin(heading)])
    walk = np.zeros((num_steps + 1, 3))
    walk[:, :2] = np.arange(num_steps + 1)[:, None] * FORWARD_STEP_M * direction
    points = resample(dense_path(walk), SPACING_M, 33)
    along = np.minimum(np.arange(33) * SPACING_M, num_steps * FORWARD_STEP_M)
    assert_allclose(points, along[:, None] * direction, atol=1e-9)


@given(turns)
def test_a_path_comes_back_from_its_actions(counts):
    points = resample(dense_path(walk_of(counts)), SPACING_M, 33)
    assert_allclose(path_of(actions_along(points)), points, atol=1e-12)


@given(turns)
def test_points_lie_on_the_dense_path_at_even_distances(counts):
    path = dense_path(walk_of(counts))
    points = resample(path, SPACING_M, 33)
    length = chord_length(path)[-1]
    assert_allclose(points[0], 0, atol=1e-12)
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    assert (steps <= SPACING_M + 1e-9).all()
    if length <= 32 * SPACING_M:
        assert_allclose(points[-1], path[-1], atol=1e-9)


@given(turns)
def test_headings_add_up_while_the_path_goes_on(counts):
    points = resample(dense_path(walk_of(counts)), SPACING_M, 33)
    actions = actions_along(points)
    moves = np.linalg.norm(actions[:, :2], axis=1) > 1e-6
    heading = np.exp(1j * np.cumsum(actions[:, 2]))[moves]
    along = np.exp(1j * np.arctan2(actions[moves, 1], actions[moves, 0]))
    assert_allclose(heading, along, atol=1e-9)
    assert (np.abs(actions[1:, 2]) <= np.pi).all()


def test_a_path_that_ends_early_ends_in_the_published_turn_back():
    actions = trajectory_actions(cameras(walk_of([2, 0, 0, 0])), PITCH)
    stop = int(np.flatnonzero(np.linalg.norm(actions[:, :2], axis=1) < 1e-9)[0])
    assert actions[stop, 2] == pytest.approx(-2 * TURN_STEP)
    assert not actions[stop + 1 :].any()


def test_other_horizons_are_a_prefix():
    poses = cameras(walk_of([1, 0, -1, 0, 0, 2, 0, 0, 0]))
    assert_allclose(trajectory_actions(poses, PITCH, 8), trajectory_actions(poses, PITCH)[:8])


def test_nan_poses_are_refused():
    poses = cameras(walk_of([0, 0]))
    poses[3, 0, 3] = np.nan
    with pytest.raises(ValueError, match="poses: found nan or infinity in pose 3"):
        trajectory_actions(poses, PITCH)


@pytest.mark.parametrize("shape", [(0, 4, 4), (4, 4), (3, 3, 4)])
def test_poses_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"poses: found shape .*expected \(N, 4, 4\)"):
        relative_poses(np.zeros(shape), PITCH)


@given(turns)
def test_following_a_walk_never_leads_away_from_its_goal(counts):
    path = resample(dense_path(walk_of([0, *(np.sign(counts))])), SPACING_M, 33)
    found = follow(path)
    assert set(found) <= {Action.FORWARD, Action.TURN_LEFT, Action.TURN_RIGHT}
    position, heading = np.zeros(2), 0.0
    for action in found:
        if action == Action.FORWARD:
            position += FORWARD_STEP_M * np.array([np.cos(heading), np.sin(heading)])
        else:
            heading += TURN_STEP if action == Action.TURN_LEFT else -TURN_STEP
    start, end = np.linalg.norm(path[-1]), np.linalg.norm(path[-1] - position)
    assert end <= max(0.2, start)


def test_there_is_nothing_to_follow_on_the_spot():
    assert follow(np.zeros((33, 2))) == []
    assert follow(path_of([[0.1, 0.0, 0.0]] * 10)) == [Action.FORWARD] * 4


def test_paths_of_many_robots_and_samples():
    actions = np.random.default_rng(0).normal(size=(2, 5, 32, 3))
    assert path_of(actions).shape == (2, 5, 33, 2)
    assert_allclose(path_of(actions)[1, 2], path_of(actions[1, 2]))
