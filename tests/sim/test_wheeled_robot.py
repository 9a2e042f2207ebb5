import numpy as np
import pytest

from internnav_hf.camera import CameraSpec
from internnav_hf.geometry import robot_pose
from internnav_hf.sim.navigation import NavigableSpace
from internnav_hf.sim.pure_pursuit import track
from internnav_hf.sim.wheeled_robot import WheeledRobot, arc
from tests.sim.boxes import hall

CAMERA = CameraSpec(width=32, height=24, height_m=0.6, pitch_deg=15)


@pytest.fixture
def robot():
    return WheeledRobot(hall(((3, 3, 0.5), (1, 1, 1))), CAMERA)


def test_it_drives_exactly_along_an_arc(robot):
    robot.place((1.0, 1.0, 0.0))
    for _ in range(20):
        assert not robot.step(0.5, 0.5)  # a circle of 1 m around (1, 2)
    assert np.isclose(robot.time_s, 3.0)
    assert np.allclose(robot.pose, [1 + np.sin(1.5), 2 - np.cos(1.5), 1.5])
    assert np.allclose(robot.speed, (0.5, 0.5), rtol=1e-3)


def test_a_sharp_arc_is_made_of_short_pieces():
    poses = arc(np.array([0.0, 0.0, 0.0]), np.pi, np.pi)
    assert len(poses) == 32
    assert np.allclose(poses[-1], [0, 2, np.pi])
    assert np.allclose(np.linalg.norm(poses[:, :2] - [0, 1], axis=1), 1)
    assert np.allclose(arc(np.zeros(3), 1.0, 0.0), [[1, 0, 0]])


def test_speeds_are_cut_to_the_limits_of_the_robot(robot):
    robot.place((1.0, 1.0, 0.0))
    robot.step(9.0, -9.0)
    assert np.allclose(robot.speed, (0.5, -0.5), rtol=1e-3)
    with pytest.raises(ValueError, match="expected finite numbers"):
        robot.step(float("nan"), 0.0)


def test_a_wall_stops_it_but_it_still_turns(robot):
    robot.place((0.6, 1.0, np.pi))
    hits = [robot.step(0.5, 0.0) for _ in range(10)]
    assert not hits[0]
    assert hits[-1]
    assert robot.collided
    assert robot.speed == (0.0, 0.0)
    assert 0.18 < robot.pose[0] < 0.3  # the robot's radius
    before = robot.pose
    robot.step(0.5, 0.5)
    assert np.allclose(robot.pose[:2], before[:2])
    assert np.isclose(robot.pose[2] - before[2], 0.075)


def test_sliding_goes_on_along_the_wall():
    robot = WheeledRobot(hall(), CAMERA, allow_sliding=True)
    robot.place((0.3, 1.0, 3 * np.pi / 4))
    for _ in range(40):
        robot.step(0.5, 0.0)
    assert robot.collided
    assert robot.pose[1] > 2.0


def test_what_it_sees(robot):
    robot.place((1.0, 3.0, 0.0))
    seen = robot.observe()
    assert seen["rgb"].shape == (24, 32, 3)
    assert seen["rgb"].dtype == np.uint8
    assert np.isclose(seen["depth"][8, 16], 1.5, atol=0.1)  # the box begins 1.5 m ahead
    assert np.allclose(robot_pose(robot.T_world_camera), robot.pose)
    assert robot.T_world_camera[2, 3] == 0.6
    other = robot.render_at((5.0, 3.0, np.pi))
    assert np.isclose(other.depth[8, 16], 1.5, atol=0.1)
    assert np.allclose(robot.pose, [1, 3, 0])


def test_it_cannot_stand_in_a_wall_or_have_no_period(robot):
    with pytest.raises(ValueError, match="cannot stand"):
        robot.place((3.0, 3.0, 0.0))
    for name in ("period_s", "max_speed", "max_turn_rate"):
        with pytest.raises(ValueError, match=name):
            WheeledRobot(robot.scene, CAMERA, space=robot.space, **{name: 0.0})


def test_placing_it_again_starts_the_clock_anew(robot):
    robot.step(0.5, 0.0)
    robot.place((1.0, 1.0, 7.0))
    assert (robot.time_s, robot.speed, robot.collided) == (0.0, (0.0, 0.0), False)
    assert np.isclose(robot.pose[2], 7 - 2 * np.pi)


def test_it_follows_a_planned_way_around_an_obstacle():
    scene = hall(((3, 3, 0.5), (2, 2, 1)))
    space = NavigableSpace(scene)
    robot = WheeledRobot(scene, CAMERA, space=space)
    start, goal = np.array([1.0, 3.0]), np.array([5.0, 3.2])
    field = space.distance_field(goal, clearance_weight=1.5)
    path = space.tighten(np.concatenate([[start], field.path_from(start)[1:], [goal]]))
    robot.place((*start, -2.0))
    while robot.time_s < 60:
        speed, turn_rate = track(path, robot.pose)
        if (speed, turn_rate) == (0.0, 0.0):
            break
        robot.step(speed, turn_rate)
    assert np.linalg.norm(robot.pose[:2] - goal) < 0.1
