from pathlib import Path

import numpy as np
import pytest

from internnav_hf.data.checks.poses import (
    check_camera_axes,
    check_heading,
    check_matrices,
    check_moves,
    check_positions,
    check_standing,
    check_yaw,
)
from internnav_hf.geometry import camera_pose, robot_pose, robot_poses

PATH = Path("episode.parquet")
PITCH = float(np.radians(30))


def walk(length=40):
    """(T, 3) x, y, yaw of a robot on an arc, with a little noise."""
    rng = np.random.default_rng(0)
    yaw = 0.1 * np.arange(length)
    steps = 0.25 * np.stack([np.cos(yaw), np.sin(yaw)], axis=1) + 0.02 * rng.normal(
        size=(length, 2)
    )
    return np.column_stack([np.cumsum(steps, axis=0) - steps[0], yaw])


def matrices(poses, pitch=PITCH):
    return np.array([camera_pose(*pose, 1.25, pitch) for pose in poses])


def refused(message):
    return pytest.raises(ValueError, match=rf"episode.parquet: {message}")


def test_a_walk_passes():
    T_world_camera = matrices(walk())
    check_positions(T_world_camera[:, :3, 3], PATH, "pose")
    check_matrices(T_world_camera, PATH, "pose")
    check_camera_axes(T_world_camera, PITCH, PATH, "pose")
    check_heading(walk(), PATH, "yaw")
    check_yaw(walk()[:, 2], PATH, "yaw")
    np.testing.assert_array_equal(
        robot_poses(T_world_camera), [robot_pose(pose) for pose in T_world_camera]
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda xyz: xyz * 1000, "pose: found steps of .* are these millimetres or centimetres"),
        (lambda xyz: xyz * 100, "pose: found steps of .* are these millimetres or centimetres"),
        (lambda xyz: xyz + np.array([0, 0, 1e6]), r"pose: found z of 1e\+06 at frame 0"),
        (lambda xyz: np.where(np.arange(40)[:, None] == 7, 1e30, xyz), "pose: found x, y of 1e"),
        (lambda xyz: xyz + 500 * (np.arange(40)[:, None] >= 12), "a jump of 866.* m to frame 12"),
    ],
)
def test_positions_that_are_none_are_named(change, message):
    with refused(f".*{message}"):
        check_positions(change(matrices(walk())[:, :3, 3]), PATH, "pose")


def test_a_robot_that_never_moves_is_named():
    led = np.array([-1] + [1] * 39)
    with refused("pose: found 0.00975 m in 39 forward actions"):
        check_moves(led, np.arange(40)[:, None] * [0.00025, 0], PATH, "pose")
    check_moves(led, walk()[:, :2], PATH, "pose")


Z_UP_TO_Y_UP = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])


@pytest.mark.parametrize(
    "change",
    [
        np.linalg.inv,
        lambda poses: Z_UP_TO_Y_UP @ poses,
        lambda poses: poses @ np.diag([1.0, -1, -1, 1]),
        lambda poses: np.swapaxes(poses, 1, 2),
        lambda poses: poses * [[0.5], [0.5], [0.5], [1]],
        lambda poses: poses * [-1.0, 1, 1, 1],
        lambda poses: matrices(walk(), pitch=0.0),
    ],
)
def test_other_axes_are_named(change):
    poses = change(matrices(walk()))
    with refused("pose: found (axes|a last row|a camera that looks down by)"):
        check_matrices(poses, PATH, "pose")
        check_camera_axes(poses, PITCH, PATH, "pose")


@pytest.mark.parametrize(
    "change", [lambda yaw: -yaw, lambda yaw: yaw + np.pi, np.degrees, lambda yaw: yaw + np.pi / 2]
)
def test_a_robot_that_goes_aside_is_named(change):
    poses = walk()
    poses[:, 2] = change(poses[:, 2])
    with refused("yaw: found steps .* aside of where the robot faces"):
        check_heading(poses, PATH, "yaw")


def test_degrees_are_named():
    turns = np.repeat(np.arange(20), 2) * 15.0
    with refused("yaw: found 285 at frame 38, expected radians; are these degrees"):
        check_yaw(turns, PATH, "yaw")
    with refused("yaw: found 90 at frame 0"):
        check_yaw(np.full(10, 90.0), PATH, "yaw")
    check_yaw(np.radians(turns), PATH, "yaw")
    check_yaw(np.radians(3 * turns), PATH, "yaw")


def test_stairs_pass():
    for rise in (6, 12):
        xyz = np.insert(walk()[:, :2], 2, np.linspace(0, rise, 40), axis=1)
        check_positions(xyz, PATH, "pose")


def test_a_pose_that_never_changes_is_named():
    poses = np.ones((12, 3))
    with refused("pose: found the same pose at all 12 frames, and 6 motions"):
        check_standing(poses, 6, PATH, "pose")
    check_standing(poses, 2, PATH, "pose")
    poses[7] += 0.001  # a robot that rests, by a sensor
    check_standing(poses, 6, PATH, "pose")
