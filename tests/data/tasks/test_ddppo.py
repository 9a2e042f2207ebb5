"""DD-PPO's samples: steps to where a walk ends, of recorded actions or of poses; views; batches."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from internnav_hf.data import DDPPOCollator, DDPPODataset
from internnav_hf.data.tasks.ddppo_targets import (
    StepSizes,
    agreement,
    discrete_steps,
    led_by,
    points_to,
    smooth_steps,
    step_sizes,
)
from internnav_hf.geometry import robot_to_world
from internnav_hf.models.ddppo.config import DDPPOConfig
from internnav_hf.models.ddppo.views import scaled_depth
from tests.data import vln_n1, vln_pe
from tests.tiny.ddppo import SIZES

TURN = np.radians(15)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return vln_pe.write_root(tmp_path_factory.mktemp("ddppo") / "data")


def opened(root, config=None, **options) -> DDPPODataset:
    config = config or DDPPOConfig(**SIZES)
    return DDPPODataset(root, config, cache_dir=root.parent / "cache", **options)


def test_an_item_is_one_walk_to_where_it_ends(root):
    dataset = opened(root)
    actions = np.array(vln_pe.some_actions(9))
    item, poses = dataset[1], vln_pe.poses_of(actions.tolist())
    assert (len(dataset), dataset.lengths.tolist()) == (4, [6, 9, 7, 10])
    assert item["actions"].tolist() == actions.tolist()
    assert item["previous_actions"].tolist() == [-1, *actions[:-1].tolist()]
    assert item["masks"].tolist() == [False] + [True] * 8
    assert item["inflection_weights"].tolist()[:3] == pytest.approx([3.2, 1, 3.2])
    for pose, (distance, angle) in zip(poses, item["pointgoal"].numpy(), strict=True):
        there = distance * np.array([np.cos(angle), np.sin(angle)])
        np.testing.assert_allclose(robot_to_world(there, pose), poses[-1, :2], atol=1e-5)
    metres = 10 * vln_pe.depth_of(9)
    assert item["depth"].shape == (9, 32, 48, 1)
    assert_close(item["depth"][3], scaled_depth(metres[3], dataset.config))


def test_steps_of_the_data_are_measured_and_agree_with_its_poses(root):
    dataset = opened(root)
    assert dataset.agreement == 1
    assert dataset.sizes == pytest.approx((0.25, 15.0))
    assert dataset.cameras == []


def test_items_go_into_a_batch(root):
    dataset = opened(root, DDPPOConfig(**SIZES, views=("rgb", "depth")))
    batch = DDPPOCollator()([dataset[0], dataset[3]])
    assert batch["step_mask"].sum(1).tolist() == [6, 10]
    assert batch["rgb"].shape == (2, 10, 32, 48, 3)
    assert batch["rgb"].dtype == torch.uint8
    assert batch["depth"].shape == (2, 10, 32, 48, 1)
    assert batch["previous_actions"][0, 6:].tolist() == [-1] * 4
    assert batch["episode_mask"].tolist() == [True, True]


def test_longer_walks_are_cut(root):
    dataset = opened(root, max_steps=7)
    assert dataset.lengths.tolist() == [6, 7, 7, 7]
    assert {len(value) for value in dataset[3].values()} == {7}


def test_the_walk_ends_where_the_goal_is_near():
    actions = np.array([1, 1, 1, 3, 3, 0])  # at the goal it turns to an object
    poses = vln_pe.poses_of(actions.tolist())
    steps = discrete_steps(poses, actions, led_by(actions), 0.2)
    assert steps.actions.tolist() == [1, 1, 1, 0]
    assert steps.previous_actions.tolist() == [-1, 1, 1, 1]
    steps = discrete_steps(poses, actions, led_by(actions), 0.3)
    assert steps.actions.tolist() == [1, 1, 0]


def test_what_was_done_is_remembered_and_the_experts_action_is_learnt():
    poses = np.array([[0, 0, 0], [0, 0, TURN], [0, 0, 0], [0.25, 0, 0], [0.5, 0, 0]])
    expert, led = np.array([1, 3, 1, 1, 0]), np.array([-1, 2, 3, 1, 1])
    steps = discrete_steps(poses, expert, led, 0.2)
    assert steps.actions.tolist() == [1, 3, 1, 1, 0]
    assert steps.previous_actions.tolist() == [-1, 2, 3, 1, 1]
    assert agreement([(poses, led)]) == 1
    assert agreement([(poses, led_by(expert))]) < 1
    assert step_sizes([(poses, led)]) == pytest.approx((0.25, 15))


def test_smooth_walks_become_steps_of_about_a_size():
    turns = np.concatenate([np.zeros(25), np.linspace(0, np.pi / 2, 40), np.full(25, np.pi / 2)])
    moves = 0.05 * np.stack([np.cos(turns), np.sin(turns)], axis=1)
    poses = np.column_stack([np.cumsum(moves, axis=0), turns])
    steps = smooth_steps(poses, StepSizes(0.25, 10.0), 0.2)
    taken = poses[steps.frames]
    lengths = np.linalg.norm(np.diff(taken[:, :2], axis=0), axis=1)
    assert lengths[steps.actions[:-1] == 1].max() < 0.31
    assert steps.actions[-1] == 0
    assert set(steps.actions[:4].tolist()) == {1}
    assert (steps.actions == 2).sum() >= 4
    assert not (steps.actions == 3).any()
    assert np.abs(np.diff(taken[:, 2])).max() < np.radians(15)
    assert steps.pointgoals[-1, 0] <= 0.2
    np.testing.assert_array_equal(steps.previous_actions, led_by(steps.actions))


def test_on_the_spot_there_is_no_direction():
    assert points_to(np.array([[1.0, 2.0, 3.0]]), np.array([1.0, 2.0])).tolist() == [[0, 0]]


def test_walks_without_actions_give_samples(tmp_path):
    vln_n1.write_root(tmp_path / "data")
    dataset = opened(tmp_path / "data")
    item = dataset[0]
    assert np.isnan(dataset.agreement)
    assert dataset.sizes == (0.25, 10.0)
    assert item["actions"][-1] == 0
    assert len(item["depth"]) == len(item["actions"]) == dataset.lengths[0] > 3
    assert dataset.cameras[0].height_m == vln_n1.HEIGHT_M


def test_actions_that_contradict_the_poses_are_refused(root, monkeypatch):
    monkeypatch.setattr("internnav_hf.data.tasks.ddppo.agreement", lambda walks: 0.5)
    with pytest.raises(ValueError, match="actions: .*50% of the motions as they say.*90%"):
        opened(root)


@pytest.mark.parametrize(
    ("config", "options", "told"),
    [
        ({"action_space": "continuous", "num_actions": 2}, {}, "action_space is 'continuous'"),
        ({}, {"max_steps": 0}, "max_steps is 0"),
        ({}, {"arrival_m": -1.0}, "arrival_m is -1.0"),
    ],
)
def test_options_that_cannot_be_are_refused(root, config, options, told):
    with pytest.raises(ValueError, match=told):
        opened(root, DDPPOConfig(**(SIZES | config)), **options)
