"""DD-PPO's agent on robots: memory, actions, goals by position, NavDP's server, its benchmark."""

import json

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from internnav_hf.camera import CameraSpec
from internnav_hf.evaluation.visual_navigation.benchmark import (
    VisualNavigationArguments,
    evaluate_visual_navigation,
)
from internnav_hf.evaluation.visual_navigation.drive import DrivingRules
from internnav_hf.evaluation.visual_navigation.episodes import EpisodeRules
from internnav_hf.models.ddppo.views import scaled_depth, sized_rgb
from internnav_hf.policies import DDPPOPolicy, PointGoal, PositionGoal
from tests.tiny.ddppo import ddppo_policy, tiny_ddppo

SEEN = {"rgb": np.zeros((48, 64, 3), np.uint8) + 90, "depth": np.full((48, 64), 3.0, np.float32)}
GOAL = PointGoal((3.0, 1.0))


def recording(policy: DDPPOPolicy) -> tuple[DDPPOPolicy, list[dict]]:
    """`policy`, and what its network is asked for, in turn."""
    asked, forward = [], policy.model.forward

    def record(**batch):
        asked.append(batch)
        return forward(**batch)

    policy.model.forward = record
    return policy, asked


def choosing(policy: DDPPOPolicy, *actions: int) -> DDPPOPolicy:
    """`policy`, which takes `actions` in turn."""
    rest = iter(actions)
    policy._chosen = lambda logits, episodes: [torch.tensor(next(rest)) for _ in episodes]
    return policy


def test_actions_are_lines_of_20_points():
    policy = choosing(ddppo_policy(), 0, 1, 2, 3)
    steps = [policy.act(SEEN, GOAL) for _ in range(4)]
    assert [step.action for step in steps] == [0, 1, 2, 3]
    assert [step.path[-1].tolist() for step in steps] == [[0, 0], [1, 0], [0, 1], [0, -1]]
    assert all(step.path.shape == (20, 2) and not step.path[0].any() for step in steps)
    assert [step.is_stop for step in steps] == [True, False, False, False]
    assert isinstance(steps[0].value, float)
    turn = np.radians(10)
    assert [step.motion for step in steps] == [(0, 0), (0.25, 0), (0, turn), (0, -turn)]
    benchmarked = choosing(ddppo_policy(as_benchmarked=True), 1)
    assert benchmarked.act(SEEN, GOAL).motion is None  # NavDP's robot follows the line


def test_each_robot_has_its_state_and_its_last_action():
    policy, asked = recording(ddppo_policy())
    choosing(policy, 1, 2, 3, 1)
    one, other = policy.start("one"), policy.start("other")
    policy.steps([one], [SEEN], [GOAL])
    policy.steps([one, other], [SEEN, SEEN], [GOAL, GOAL])
    assert asked[1]["masks"].tolist() == [[True], [False]]
    assert asked[1]["previous_actions"].tolist() == [[1], [0]]
    assert asked[1]["hidden_states"][0].any()
    assert not asked[1]["hidden_states"][1].any()
    assert_close(asked[0]["pointgoal"][0, 0], torch.tensor([10**0.5, np.arctan2(1.0, 3.0)]).float())
    policy.reset()
    policy.act(SEEN, GOAL)
    assert not asked[2]["masks"].any()


@pytest.mark.parametrize("space", [{}, {"action_space": "continuous", "num_actions": 2}])
def test_actions_are_drawn_by_the_seed_or_the_likeliest_is_taken(space):
    model = tiny_ddppo(**space)

    def actions(name="", **told):
        policy = DDPPOPolicy(model, **told)
        policy.episode = policy.start(name)
        return [policy.act(SEEN, GOAL).action for _ in range(12)]

    assert actions() == actions()
    assert actions() != actions(seed=1)
    assert actions() != actions("another")
    assert actions(sample_actions=False) == actions(sample_actions=False, seed=1)


def test_continuous_actions_are_arcs():
    model = tiny_ddppo(action_space="continuous", num_actions=2, turn_angle_deg=90)
    policy = DDPPOPolicy(model, sample_actions=False)
    assert_close(policy._path((1.0, 0.0))[-1], np.array([0.25, 0.0]))
    assert_close(policy._path((0.0, -0.5))[-1], np.array([0.0, -1.0]))
    chord = 0.25 * np.sin(0.1) / 0.1
    expected = chord * np.array([np.cos(0.1), np.sin(0.1)])
    assert_close(policy._path((1.0, 0.2 / (np.pi / 2)))[-1], expected)
    assert len(policy.act(SEEN, GOAL).action) == 2


def test_a_position_is_a_point_from_where_the_robot_is():
    policy, asked = recording(ddppo_policy())
    policy.act(SEEN | {"pose": (1.0, 2.0, np.pi / 2)}, PositionGoal((1.0, 5.0)))
    assert_close(asked[0]["pointgoal"][0, 0], torch.tensor([3.0, 0.0]), atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="found no 'pose'"):
        policy.act(SEEN, PositionGoal((1.0, 5.0)))


def test_a_goal_that_moves_starts_the_state_afresh_if_asked():
    for told, expected in ((0.1, [False, True, False]), (None, [False, True, True])):
        policy, asked = recording(ddppo_policy(goal_move_m=told))
        # the same place from 0.25 m farther on, then one 0.2 m to its side
        for x, goal in ((0.0, (3.0, 1.0)), (0.25, (2.75, 1.0)), (0.25, (2.75, 1.2))):
            policy.act(SEEN | {"pose": (x, 0.0, 0.0)}, PointGoal(goal))
        assert [bool(batch["masks"].all()) for batch in asked] == expected
    with pytest.raises(ValueError, match="found no 'pose'"):
        ddppo_policy(goal_move_m=0.1).act(SEEN, GOAL)


def test_depth_is_scaled_from_metres_to_the_models_range():
    depth = np.full((64, 96), 2.75, np.float32)
    depth[:, :48] = np.nan
    depth[:2, -2:] = (0.0, 5.0), (np.inf, -1.0)
    config = tiny_ddppo(min_depth_m=0.5, max_depth_m=5.0).config
    seen = scaled_depth(depth, config)
    assert seen.shape == (32, 48, 1)
    assert_close(seen[5, 30, 0], torch.tensor(0.5))
    assert_close(seen[0, -1, 0], torch.tensor(1.0))  # of what is known in the area
    assert not seen[:, :24].any()
    assert_close(scaled_depth(depth, config, metres=True)[5, 30, 0], torch.tensor(2.75))
    assert sized_rgb(np.full((64, 96, 3), 7, np.uint8), config).unique().tolist() == [7]


@pytest.mark.parametrize(
    ("depth", "told"),
    [
        (np.full((48, 64), 3000, np.uint16), "divide millimetres by 1000"),
        (np.full((48, 64), 3000.0), "a median of 3000, expected metres"),
        (None, "found no 'depth'"),
    ],
)
def test_depth_that_is_not_in_metres_is_refused(depth, told):
    with pytest.raises(ValueError, match=f"DDPPOPolicy: observation.*{told}"):
        ddppo_policy().act(SEEN | {"depth": depth}, GOAL)


def test_as_benchmarked_it_forgets_and_sees_metres():
    policy, asked = recording(ddppo_policy(as_benchmarked=True, sample_actions=False))
    for _ in range(3):
        policy.act(SEEN, PointGoal((8.0, 2.0)))
    assert policy.sample_actions
    for batch in asked:
        assert not batch["masks"].any()
        assert not batch["hidden_states"].any()
        assert_close(batch["depth"].unique(), torch.tensor([3.0]))
        assert_close(batch["pointgoal"][0, 0, 0], torch.tensor(29**0.5))
    policy.act(SEEN | {"depth": 3 * SEEN["depth"]}, PointGoal((8.0, 2.0)))
    assert_close(asked[-1]["depth"].unique(), torch.tensor([6.5535]))


def test_it_drives_the_visual_navigation_benchmark(tmp_path):
    camera = CameraSpec(width=64, height=48, height_m=0.5)
    tiny_ddppo(camera=camera.to_dict()).save_pretrained(tmp_path / "model")
    args = VisualNavigationArguments(
        task=["point-goal"], model=str(tmp_path / "model"), out=str(tmp_path / "out"),
        scenes=1, episodes=1, baselines=["none"], num_parallel=1,
    )  # fmt: skip
    rules = EpisodeRules(min_distance=1.0)
    evaluate_visual_navigation(args, rules, DrivingRules(time_limit=1.2))
    tasks = json.loads((tmp_path / "out" / "metrics.json").read_text())["tasks"]
    assert tasks["point-goal"]["ddppo"]["num_episodes"] == 1
