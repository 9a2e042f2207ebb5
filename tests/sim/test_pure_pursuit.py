from itertools import pairwise

import numpy as np
import pytest

from internnav_hf.sim.pure_pursuit import track
from internnav_hf.sim.wheeled_robot import arc

PERIOD_S = 0.15
STRAIGHT = np.stack([np.linspace(0, 3, 25), np.zeros(25)], axis=1)


def drive(path, pose, num_steps=400):
    """The poses of a robot that nothing stops."""
    poses = [np.array(pose, float)]
    for _ in range(num_steps):
        speed, turn_rate = track(path, poses[-1])
        if (speed, turn_rate) == (0.0, 0.0):
            break
        poses.append(arc(poses[-1], speed * PERIOD_S, turn_rate * PERIOD_S)[-1])
    return np.array(poses)


def distance_from(path, points):
    dense = np.concatenate([np.linspace(a, b, 50) for a, b in pairwise(path)])
    return np.linalg.norm(points[:, None] - dense, axis=2).min(axis=1)


def test_a_straight_path_is_driven_straight_and_at_full_speed():
    assert track(STRAIGHT, (0, 0, 0)) == (0.5, 0.0)
    poses = drive(STRAIGHT, (0, 0, 0))
    assert np.allclose(poses[:, 1:], 0)
    assert np.linalg.norm(poses[-1, :2] - STRAIGHT[-1]) < 0.06
    assert (np.diff(poses[:, 0]) > 0).all()  # brakes, and does not overshoot


def test_a_robot_beside_the_path_returns_to_it():
    poses = drive(STRAIGHT, (0, 0.3, 0.4))
    assert np.abs(poses[-1, 1]) < 0.02
    assert np.linalg.norm(poses[-1, :2] - STRAIGHT[-1]) < 0.06


@pytest.mark.parametrize("yaw", [np.pi, 2.0, -2.0])
def test_it_turns_on_the_spot_when_the_path_leads_backwards(yaw):
    speed, turn_rate = track(STRAIGHT, (0, 0, yaw))
    assert speed == 0
    assert abs(turn_rate) == 0.5
    poses = drive(STRAIGHT, (0, 0, yaw))
    assert np.linalg.norm(poses[-1, :2] - STRAIGHT[-1]) < 0.06


def test_limits_hold_and_corners_are_cut_by_centimetres():
    corner = np.array([[0.0, 0], [1.5, 0], [1.5, 1.5], [0, 1.5]])
    for bearing in np.linspace(-3, 3, 41):
        speed, turn_rate = track(corner, (0.2, 0.1, bearing), max_speed=0.4, max_turn_rate=0.3)
        assert 0 <= speed <= 0.4 + 1e-9
        assert abs(turn_rate) <= 0.3 + 1e-9
    poses = drive(corner, (0, 0, 0))
    assert np.linalg.norm(poses[-1, :2] - corner[-1]) < 0.06
    assert distance_from(corner, poses[:, :2]).max() < 0.06


def test_an_empty_way_is_a_stop_and_a_way_to_the_side_a_turn():
    assert track(np.zeros((5, 2)), (0, 0, 1)) == (0.0, 0.0)
    assert track(np.array([[1.0, 1.0]]), (1, 1, 0)) == (0.0, 0.0)
    assert track(np.array([[0.0, 0], [0, 1]]), (0, 0, 0)) == (0.0, 0.5)


@pytest.mark.parametrize("path", [np.zeros((0, 2)), np.zeros(4), np.full((3, 2), np.nan)])
def test_a_broken_path_is_named(path):
    with pytest.raises(ValueError, match="path"):
        track(path, (0, 0, 0))
