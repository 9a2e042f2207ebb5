"""One robot: what it is told, how its episode ends."""

from dataclasses import replace

import numpy as np
import pytest

from internnav_hf.evaluation.agents import floor_pixel
from internnav_hf.evaluation.visual_navigation.drive import (
    ARRIVED,
    CONTACT,
    STUCK,
    TIME_LIMIT,
    DrivingRules,
    DrivingRun,
)
from internnav_hf.policies.goals import ImageGoal, NoGoal, PixelGoal, PointGoal
from tests.evaluation.visual_navigation.scenes import CAMERA, SCENES, episode, start_drive

AHEAD = np.array([[0.0, 0.0], [6.0, 0.0]])
STAND = np.zeros((1, 2))
BESIDE = {"start": (1.0, 1.0, 0.0), "goal": (4.0, 1.0, 0.0)}


def drive_on(drive, path_of) -> str:
    """`path_of(drive)` is what a planner would say; drives to the end."""
    while (ending := drive.follow(path_of(drive))) is None:
        pass
    return ending


def to_goal(drive):
    return np.array([(0, 0), drive.goal().xy])


def test_a_robot_arrives_when_it_is_near_and_slow():
    drive = start_drive(**BESIDE)
    assert drive_on(drive, to_goal) == ARRIVED
    assert drive.goal_distance < 0.3  # it brakes only at the end of its path
    assert len(drive.positions) == len(drive.collisions) + 1
    assert len(drive.collisions) * 0.15 == pytest.approx(2.75 / 0.5, abs=0.8)
    assert not any(drive.collisions)


def test_standing_near_the_goal_is_arriving_and_far_from_it_being_stuck():
    near = start_drive(start=(1.0, 1.0, 0.0), goal=(1.9, 1.0, 0.0))
    assert drive_on(near, lambda _: STAND) == ARRIVED
    assert len(near.collisions) == 1
    far = start_drive(**BESIDE)
    assert drive_on(far, lambda _: STAND) == STUCK
    assert len(far.collisions) == 30


def test_a_step_that_is_meant_ends_the_plan():
    drive = start_drive(**BESIDE)
    done = []
    for path, motion in (
        (AHEAD, (0.25, 0)),
        (AHEAD[:, ::-1], (0, np.radians(10))),
        (STAND, (0, 0)),
    ):
        drive.follow(path, motion)
        done.append(len(drive.collisions))
    assert done == [3, 5, 6]  # 0.225 m and 8.6 degrees, as near as control steps come
    assert drive.positions[-1][0] == pytest.approx(1.225)
    assert np.degrees(drive.robot.pose[2]) == pytest.approx(8.6, abs=0.1)


def test_passing_the_goal_at_full_speed_is_not_arriving():
    drive = start_drive(start=(1.0, 1.0, 0.0), goal=(3.0, 1.0, 0.0))
    assert drive_on(drive, lambda _: AHEAD) == STUCK  # at the wall behind it
    assert drive.positions[-1][0] > 5


def test_turning_on_the_spot_for_long_is_being_stuck():
    drive = start_drive(start=(1.0, 1.0, 0.0), goal=(5.0, 1.0, 0.0))
    assert drive_on(drive, lambda _: -AHEAD) == STUCK


def test_time_runs_out():
    drive = start_drive(rules=DrivingRules(time_limit=1.5), **BESIDE)
    assert drive_on(drive, to_goal) == TIME_LIMIT
    assert len(drive.collisions) == 10


def test_exploring_ends_at_contact_unless_it_may_go_on():
    drive = start_drive("no-goal", start=(1.0, 3.0, 0.0), goal=None)
    assert drive_on(drive, lambda _: AHEAD) == CONTACT
    assert drive.collisions[-1]
    assert not any(drive.collisions[:-1])
    rules = DrivingRules(end_at_contact=False)
    drive = start_drive("no-goal", rules, start=(1.0, 3.0, 0.0), goal=None)
    assert drive_on(drive, lambda _: AHEAD) == STUCK


def test_sliding_is_a_rule():
    places = {"start": (1.0, 2.5, 0.7), "goal": (5.0, 4.5, 0.0)}
    ends = []
    for allow_sliding in (True, False):
        drive = start_drive(rules=DrivingRules(allow_sliding=allow_sliding), **places)
        drive_on(drive, to_goal)
        assert any(drive.collisions)
        ends.append(drive.goal_distance)
    assert ends[0] < ends[1]


def test_what_a_robot_is_told():
    places = {"start": (1.0, 1.0, np.pi / 2), "goal": (4.0, 1.0, 0.0)}
    point = start_drive("point-goal", **places).goal()
    assert isinstance(point, PointGoal)
    assert point.xy == pytest.approx((0, -3))
    image = start_drive("image-goal", **places).goal()
    assert isinstance(image, ImageGoal)
    np.testing.assert_array_equal(image.image, SCENES.view("hall", (4.0, 1.0, 0.0)).rgb)
    assert isinstance(start_drive("no-goal", start=(1.0, 1.0, 0.0), goal=None).goal(), NoGoal)


def test_a_pixel_goal_moves_with_the_robot_unless_it_is_marked_once():
    always, once = (
        start_drive("pixel-goal", DrivingRules(goal_marked_once=value), **BESIDE)
        for value in (False, True)
    )
    first = always.goal()
    assert isinstance(first, PixelGoal)
    assert first.view is None
    assert first.pixel[0] == pytest.approx(CAMERA.width / 2)
    view = once.observe()["rgb"]
    np.testing.assert_array_equal(once.goal().view, view)
    assert once.goal().pixel == first.pixel
    for drive in (always, once):
        drive.follow(AHEAD)
    assert always.goal().pixel[1] > first.pixel[1]  # nearer is lower
    assert once.goal().pixel == first.pixel
    np.testing.assert_array_equal(once.goal().view, view)


def test_a_goal_outside_the_view_lies_beyond_the_edge_on_its_side():
    pose = (0.0, 0.0, 0.0)
    left, right = (floor_pixel((1.0, y), pose, CAMERA) for y in (3.0, -3.0))
    assert left[0] < 0
    assert right[0] > CAMERA.width
    for x in (-2.0, -0.01):
        assert floor_pixel((x, 3.0), pose, CAMERA)[0] < 0
        assert floor_pixel((x, -3.0), pose, CAMERA)[0] > CAMERA.width
    assert floor_pixel((0.2, 0.0), pose, CAMERA)[1] > CAMERA.height


def test_what_was_seen_is_explored_to_a_depth():
    areas = []
    for depth in (1.5, 2.5, 2.5):
        rules = DrivingRules(area_depth=depth)
        drive = start_drive("no-goal", rules, start=(1.0, 5.3, 0.0), goal=None)
        assert drive.explored_area == 0
        drive.observe()
        drive.observe()  # seen again is nothing new
        areas.append(drive.explored_area)
    assert 0 < areas[0] < areas[1] == areas[2] < 36


def test_a_sharper_view_shows_no_less():
    areas = []
    for width, height in ((160, 128), (640, 512)):
        camera = replace(CAMERA, width=width, height=height)
        which = episode((1.0, 5.3, -0.5), None)
        drive = DrivingRun(SCENES.places["hall"], camera, DrivingRules(), "no-goal", which)
        drive.observe()
        areas.append(drive.explored_area)
    assert areas[0] <= areas[1]


def test_rules_are_checked():
    with pytest.raises(ValueError, match="--steps_per_plan: found 0, expected 1 or more"):
        DrivingRules(steps_per_plan=0)
    with pytest.raises(ValueError, match="--time_limit: found 0, expected more than 0"):
        DrivingRules(time_limit=0)
    with pytest.raises(ValueError, match="--max_turn_rate: found 0, expected more than 0"):
        DrivingRules(max_turn_rate=0)
    with pytest.raises(ValueError, match="--time_limit: found nan"):
        DrivingRules(time_limit=float("nan"))
