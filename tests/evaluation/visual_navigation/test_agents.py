"""Who plans paths: the model, and what it is compared with."""

import numpy as np
import pytest

from internnav_hf.camera import CameraSpec
from internnav_hf.evaluation.agents import floor_pixel
from internnav_hf.evaluation.visual_navigation.agents import (
    Oracle,
    PolicyAgent,
    RandomPath,
    StraightLine,
    floor_at,
)
from internnav_hf.evaluation.visual_navigation.drive import (
    ARRIVED,
    TIME_LIMIT,
    DrivingRules,
)
from internnav_hf.geometry import robot_to_world
from internnav_hf.policies import NavDPPolicy
from internnav_hf.policies.goals import PixelGoal
from tests.evaluation.visual_navigation.scenes import CAMERA, FanPolicy, start_drive
from tests.tiny.navdp import tiny_navdp_model

BEHIND_THE_BLOCK = {"start": (1.0, 3.0, 0.3), "goal": (5.0, 3.0, 0.0)}


def plan(agent, drive, observation=None):
    return agent.plan([0], [observation or {}], [drive.goal()])[0]


def drive_all(agent, drive) -> str:
    agent.reset(0, drive)
    while (ending := drive.follow(plan(agent, drive).path)) is None:
        pass
    return ending


@pytest.mark.parametrize("task", ["point-goal", "pixel-goal"])
@pytest.mark.parametrize("goal_marked_once", [True, False])
def test_a_straight_line_leads_to_the_goal(task, goal_marked_once):
    rules = DrivingRules(goal_marked_once=goal_marked_once)
    drive = start_drive(task, rules, start=(1.0, 1.0, 0.2), goal=(4.0, 1.5, 0.0))
    agent = StraightLine()
    agent.reset(0, drive)
    for _ in range(3):
        end = robot_to_world(plan(agent, drive).path[-1], drive.robot.pose)
        np.testing.assert_allclose(end, [4.0, 1.5], atol=1e-6)
        drive.follow(plan(agent, drive).path)


def test_a_straight_line_knows_no_pictures():
    for task, goal in (("image-goal", (4.0, 1.0, 0.0)), ("no-goal", None)):
        drive = start_drive(task, start=(1.0, 1.0, 0.2), goal=goal)
        agent = StraightLine()
        agent.reset(0, drive)
        assert plan(agent, drive).path.tolist() == [[0, 0], [2.4, 0]]


def test_the_floor_at_a_pixel():
    camera = CameraSpec(pitch_deg=30)
    for place in ((2.0, 0.5), (1.0, -0.3)):
        pixel = floor_pixel(place, (0.0, 0.0, 0.0), camera)
        np.testing.assert_allclose(floor_at(pixel, camera), place, atol=1e-9)
    level = CameraSpec(pitch_deg=0)
    assert floor_at((320, 100), level).tolist() == [5, 0]
    assert floor_at((0, 100), level)[1] > 0


def test_the_oracle_goes_round_what_is_in_between():
    drive = start_drive(**BEHIND_THE_BLOCK)
    assert drive_all(Oracle(), drive) == ARRIVED
    assert not any(drive.collisions)
    assert drive.goal_distance < 0.3
    straight = start_drive(**BEHIND_THE_BLOCK)
    drive_all(StraightLine(), straight)
    assert any(straight.collisions)


def test_the_oracle_explores_without_contact():
    areas = []
    for agent in (Oracle(), StraightLine()):
        rules = DrivingRules(time_limit=30)
        drive = start_drive("no-goal", rules, start=(1.0, 3.0, 1.57), goal=None)
        agent.reset(0, drive)
        drive.observe()
        ending = None
        while ending is None:
            ending = drive.follow(plan(agent, drive).path)
            drive.observe()
        areas.append(drive.explored_area)
        assert (ending == TIME_LIMIT) == isinstance(agent, Oracle)
    assert areas[0] > areas[1]


def test_random_paths_are_the_episodes_and_last_a_while():
    found = []
    for seed, name in ((0, "x"), (0, "x"), (1, "x"), (0, "y")):
        agent = RandomPath(seed)
        drive = start_drive(start=(1.0, 1.0, 0.2), goal=(4.0, 1.0, 0.0), name=name)
        agent.reset(0, drive)
        found.append([plan(agent, drive).path for _ in range(6)])
    first = found[0]
    np.testing.assert_array_equal(first, found[1])
    for other in found[2:]:
        assert not np.array_equal(first[0], other[0])
    assert all(np.array_equal(first[0], path) for path in first[:5])
    assert not np.array_equal(first[0], first[5])
    lengths = np.linalg.norm(np.diff(first[0], axis=0), axis=1)
    np.testing.assert_allclose(lengths, 0.1)


def test_a_model_does_the_tasks_it_was_trained_for_in_one_call():
    policy = FanPolicy(goal_kinds=("point", "none"))
    agent = PolicyAgent(policy, "navdp")
    assert agent.tasks == ["point-goal", "no-goal"]
    drives = [start_drive(start=(1, 1, 0), goal=(4, 1, 0), name=name) for name in "ab"]
    for index, drive in enumerate(drives):
        agent.reset(index, drive)
    assert policy.started == ["hall/a", "hall/b"]
    plans = agent.plan([0, 1], [{}, {}], [drive.goal() for drive in drives])
    assert policy.batch_sizes == [2]
    assert plans[0].path.shape == (9, 2)
    assert plans[0].values.argmax() == 0


def test_navdp_plans_for_every_kind_of_goal():
    agent = PolicyAgent(NavDPPolicy(tiny_navdp_model(), num_samples=3), "navdp")
    drives = [
        start_drive(task, start=(1.0, 1.0, 0.0), goal=None if task == "no-goal" else (4, 1, 0))
        for task in agent.tasks
    ]
    assert len(drives) == 4
    for index, drive in enumerate(drives):
        agent.reset(index, drive)
    goals = [drive.goal() for drive in drives]
    assert isinstance(goals[2], PixelGoal)
    plans = agent.plan([0, 1, 2, 3], [drive.observe() for drive in drives], goals)
    for found in plans:
        assert found.path.shape == (7, 2)
        assert found.trajectories.shape == (3, 7, 2)
        assert (np.diff(found.values) <= 0).all()
    assert CAMERA.width == drives[0].observe()["rgb"].shape[1]
