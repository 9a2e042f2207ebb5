import numpy as np
import pytest
from safetensors.numpy import load_file

from internnav_hf.data.formats.vln_pe.reader import HORIZON, previous_actions
from internnav_hf.data.tasks.vln_targets import (
    discrete_displacements,
    displacements,
    inflection_weights,
    planned_displacements,
    previous_displacements,
    relative_poses,
    stop_progress,
)
from internnav_hf.geometry import wrap_angle
from tests.data.vln_pe import poses_of, some_actions
from tests.golden import GOLDEN

LIMIT = np.array([0.25, 0.25, 0.27])


@pytest.fixture(scope="module")
def golden():
    return load_file(GOLDEN / "rdp_dataset_targets.safetensors")


@pytest.fixture(scope="module")
def poses(golden):
    return np.column_stack([golden["in.position"][:, :2], wrap_angle(golden["in.yaw"])])


def test_displacements_equal_the_published(golden, poses):
    raw = displacements(poses)
    expected = golden["out.raw_deltas_before_discrete_fix"]
    np.testing.assert_allclose(raw, expected, atol=1e-12)
    fixed = discrete_displacements(raw, golden["in.actions"])
    np.testing.assert_allclose(fixed / LIMIT, golden["out.actions"], atol=1e-6)


def test_what_goes_in_equals_the_published(golden, poses):
    previous = previous_displacements(poses)
    np.testing.assert_allclose(previous / LIMIT, golden["out.prev_actions"], atol=1e-6)
    np.testing.assert_allclose(relative_poses(poses), golden["out.imu"], atol=1e-6)
    np.testing.assert_array_equal(stop_progress(12), golden["out.stop_progress"])


def test_a_perfect_walk_needs_no_fix_but_of_its_turns():
    actions = np.array(some_actions(14))
    raw = displacements(poses_of(actions.tolist()))
    fixed = discrete_displacements(raw, actions)
    np.testing.assert_allclose(fixed[..., :2], raw[..., :2], atol=1e-12)
    turned = np.abs(raw[..., 2]) > 0.1
    np.testing.assert_allclose(fixed[~turned][:, 2], 0, atol=1e-12)
    np.testing.assert_allclose(np.abs(raw[turned][:, 2]), np.radians(15))
    np.testing.assert_allclose(fixed[turned][:, 2], raw[turned][:, 2])


def test_a_step_against_a_wall_becomes_the_commanded_one():
    actions, stuck = np.array([2, 1, 0]), np.zeros((3, 3))
    fixed = discrete_displacements(displacements(stuck, 3), actions)
    left = np.radians(15)
    np.testing.assert_allclose(
        fixed[0], [[0, 0, 0.27], [0.25 * np.cos(left), 0.25 * np.sin(left), 0], [0, 0, 0]]
    )
    np.testing.assert_allclose(fixed[1], [[0.25, 0, 0], [0, 0, 0], [0, 0, 0]])
    assert not fixed[2].any()


def test_the_fix_is_the_published_one_step_by_step():
    rng = np.random.default_rng(0)
    actions = rng.integers(0, 4, 40)
    steps = rng.uniform(-0.3, 0.3, (40, 8, 3)) * rng.integers(0, 2, (40, 8, 1))
    fixed = discrete_displacements(steps, actions)
    for frame in range(40):
        heading = 0.0
        for k, (dx, dy, dyaw) in enumerate(steps[frame]):
            action = actions[frame + k] if frame + k < 40 else 0
            if action == 0:
                dx = dy = dyaw = 0.0
            elif action == 1:
                if abs(dx) < 0.1 and abs(dy) < 0.1:
                    dx, dy = 0.25 * np.cos(heading), 0.25 * np.sin(heading)
                dyaw = 0.0 if dyaw > 0.1 else dyaw
            else:
                side = 1 if action == 2 else -1
                dx, dy = (0.0 if abs(value) > 0.1 else value for value in (dx, dy))
                dyaw = side * 0.27 if abs(dyaw) < 0.2 else dyaw
                heading += side * np.radians(15)
            np.testing.assert_allclose(fixed[frame, k], [dx, dy, dyaw], atol=1e-12)


def test_turns_of_a_forward_step_go_by_their_side():
    raw = np.array([[[0.3, 0.0, 0.15]], [[0.3, 0.0, -0.15]], [[0.3, 0.0, 0.05]]])
    fixed = discrete_displacements(raw, np.array([1, 1, 1]))
    np.testing.assert_allclose(fixed[:, 0], [[0.3, 0, 0], [0.3, 0, -0.15], [0.3, 0, 0.05]])


def test_a_turn_does_not_drive():
    fixed = discrete_displacements(np.array([[[0.15, 0.05, -0.1]]]), np.array([3]))
    np.testing.assert_allclose(fixed[0], [[0, 0.05, -0.27]])


def test_a_plan_that_is_done_is_the_way_that_was_walked():
    actions = np.array(some_actions(14))
    padded = np.append(actions, [0] * HORIZON)
    plans = np.lib.stride_tricks.sliding_window_view(padded, HORIZON)[:14]
    walked = displacements(poses_of(actions.tolist()))
    np.testing.assert_allclose(planned_displacements(plans), walked, atol=1e-12)


def test_going_on_has_a_negative_displacement_behind():
    poses = np.column_stack([0.25 * np.arange(4), np.zeros((4, 2))])
    previous = previous_displacements(poses)
    np.testing.assert_allclose(previous[3, :, 0], [-0.25, -0.25, -0.25, 0], atol=1e-12)
    assert not previous[0].any()


def test_the_stop_is_as_far_as_the_expert_says():
    np.testing.assert_allclose(stop_progress(4, np.arange(4, 0, -1)), stop_progress(4))
    np.testing.assert_allclose(stop_progress(2, np.array([5, 9, 1])), [1 / 5, 2 / 10])


def test_a_turn_across_pi_is_small():
    poses = np.array([[0, 0, np.pi - 0.1], [0, 0, -np.pi + 0.1]])
    np.testing.assert_allclose(displacements(poses, 1)[0, 0], [0, 0, 0.2], atol=1e-12)


def test_the_action_before_and_the_weights():
    actions = np.array([1, 1, 2, 2, 0])
    assert previous_actions(actions).tolist() == [-1, 1, 1, 2, 2]
    weights = inflection_weights(actions)
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights, [3.2, 1, 3.2, 1, 3.2])
    np.testing.assert_allclose(inflection_weights(actions, 1.9)[2], 1.9)
