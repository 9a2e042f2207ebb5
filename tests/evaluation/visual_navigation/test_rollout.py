"""Robots drive in lockstep, and what is kept of it."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from internnav_hf.evaluation.rollout import RolloutStore, finish_tasks
from internnav_hf.evaluation.visual_navigation.agents import Oracle, PolicyAgent, RandomPath
from internnav_hf.evaluation.visual_navigation.drive import TIME_LIMIT, DrivingRules, DrivingRun
from internnav_hf.evaluation.visual_navigation.rollout import DrivingRollout, record_of, run_agent
from tests.evaluation.visual_navigation.scenes import (
    CAMERA,
    SCENES,
    FanPolicy,
    episode,
    start_drive,
)

RULES = DrivingRules(time_limit=6.0)
TASKS = [
    ("hall", episode((1.0, 1.0 + 0.3 * i, 0.1), (4.0, 1.0, 0.0), name=f"e{i}")) for i in range(3)
]


def start(task="point-goal", rules=RULES):
    return lambda name, which: DrivingRun(SCENES.places[name], CAMERA, rules, task, which)


def run(agent, num_parallel=2, tasks=TASKS, **how) -> list[DrivingRollout]:
    found = []
    run_agent(agent, tasks, start(**how), num_parallel, found.append)
    return sorted(found, key=lambda rollout: rollout.episode_id)


def test_what_is_kept_of_a_drive():
    rollout = run(Oracle())[0]
    assert (rollout.agent, rollout.scene, rollout.episode_id) == ("oracle", "hall", "e0")
    assert len(rollout.positions) == len(rollout.collisions) + 1
    assert rollout.positions[0] == pytest.approx([1.0, 1.0])
    assert rollout.goal_distance == pytest.approx(np.hypot(*(rollout.positions[-1] - (4, 1))), 1e-3)
    assert rollout.straight_distance == pytest.approx(3.0)
    assert [plan.step for plan in rollout.decisions[:3]] == [0, 4, 8]
    assert rollout.decisions[0].view is None  # it need not look
    again = DrivingRollout.from_dict(json.loads(json.dumps(rollout.to_dict())))
    np.testing.assert_array_equal(again.positions, rollout.positions)
    assert again.collisions.dtype == bool
    assert [p.trajectories for p in again.decisions] == [p.trajectories for p in rollout.decisions]


def test_all_robots_plan_in_one_call():
    policy = FanPolicy()
    rollouts = run(PolicyAgent(policy, "navdp"), num_parallel=3)
    assert policy.batch_sizes[0] == 3
    assert sum(policy.batch_sizes) == sum(len(rollout.decisions) for rollout in rollouts)


def test_a_rollout_does_not_depend_on_what_drives_beside_it():
    alone, beside = (run(RandomPath(0), num_parallel=n) for n in (1, 3))
    for one, other in zip(alone, beside, strict=True):
        np.testing.assert_array_equal(one.positions, other.positions)


def test_a_plan_is_kept_in_the_world_with_values_and_view():
    drive = start_drive(start=(1.0, 1.0, np.pi / 2), goal=(4.0, 1.0, 0.0))
    agent = PolicyAgent(FanPolicy(), "navdp")
    agent.reset(0, drive)
    seen = drive.observe()
    (plan,) = agent.plan([0], [seen], [drive.goal()])
    record = record_of(drive, plan, drive.goal(), seen)
    assert record.text == "0.0 m ahead, 3.0 m to the right"
    np.testing.assert_allclose(record.trajectories[0][-1], [1.0, 3.0], atol=1e-3)
    np.testing.assert_allclose(record.values, plan.values, atol=1e-3)
    view = np.asarray(Image.open(io.BytesIO(record.view))).astype(int)
    assert np.abs(view - seen["rgb"]).mean() < 8
    assert record.goal_position == (4.0, 1.0)


@pytest.mark.parametrize("once", [False, True])
def test_a_ring_is_drawn_only_in_the_view_in_which_the_goal_was_marked(once):
    drive = start_drive(
        "pixel-goal", DrivingRules(goal_marked_once=once), start=(1, 1, 0), goal=(4, 1, 0)
    )
    agent = Oracle()
    agent.reset(0, drive)
    (plan,) = agent.plan([0], [{}], [drive.goal()])
    record = record_of(drive, plan, drive.goal(), {})
    assert record.text == "to the mark"
    assert (record.goal_pixel is None) == once


def test_success_is_where_it_ends_and_without_a_goal_that_nothing_ended_it():
    rollout = run(Oracle())[0]
    for radius in (0.01, 5.0):
        assert rollout.is_success(radius) == (rollout.goal_distance < radius)
    stuck = replace(rollout, ending="stuck")
    assert stuck.is_success(5.0)
    exploring = replace(rollout, goal=None, goal_distance=None)
    assert not exploring.is_success(1.5)
    assert replace(exploring, ending=TIME_LIMIT).is_success(1.5)


def test_a_rerun_goes_on_where_it_was(tmp_path):
    def finish():
        store = RolloutStore(tmp_path, 1.5, 1, DrivingRollout)
        driven = []

        def drive_them(remaining, on_finished):
            driven.extend(remaining)
            run_agent(Oracle(), remaining, start(), 2, on_finished)

        return finish_tasks(drive_them, TASKS, store, {"agent": "oracle"}), driven

    first, driven = finish()
    assert len(driven) == 3
    lines = (tmp_path / "rollouts.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "rollouts.jsonl").write_text("".join(lines[:2]) + lines[2][:30])
    again, driven = finish()
    assert len(driven) == 1
    assert [r.episode_id for r in again] == ["e0", "e1", "e2"]
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.positions, other.positions)


def test_two_models_in_one_folder_keep_their_own_pictures(tmp_path):
    store, (rollout,) = (
        RolloutStore(tmp_path, 1.5, 1, DrivingRollout),
        run(Oracle(), tasks=TASKS[:1]),
    )
    views = {"one": b"first", "other": b"second"}
    for key, view in views.items():
        plan = replace(rollout.decisions[0], view=view)
        store.append(key, replace(rollout, decisions=[plan]), draw=True)
    for key, view in views.items():
        assert (tmp_path / store.load(key)[0].decisions[0].image).read_bytes() == view


def test_who_explores_is_watched_even_when_blind():
    tasks = [("hall", episode((1.0, 1.0, 0.1), None))]
    (rollout,) = run(RandomPath(0), tasks=tasks, task="no-goal")
    assert rollout.explored_area > 1
    assert rollout.goal is None
    assert rollout.goal_distance is None
    json.dumps(rollout.to_dict(), allow_nan=False)
