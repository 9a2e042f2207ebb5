"""The dual system in the simulator, with a tiny model and with trajectories by rule."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from internnav_hf.camera import CameraSpec
from internnav_hf.evaluation.drawing import draw_map
from internnav_hf.evaluation.metrics import episode_metrics
from internnav_hf.evaluation.rollout import RolloutStore, evaluate_agent, resample
from internnav_hf.evaluation.vln.dual_system_agent import DualSystemAgent
from internnav_hf.geometry import Action
from internnav_hf.models.system2.dialogue import AnswerKind
from internnav_hf.policies import Decision, DualSystemPolicy, DualSystemStep
from internnav_hf.sim.episodes import PLANNING_CLEARANCE_WEIGHT
from tests.tiny.dual_system import tiny_dual_system
from tests.tiny.system2 import tiny_processor

CAMERA = CameraSpec(width=64, height=48)
POINT = Decision(AnswerKind.PIXEL_GOAL, "↓", goal_pixel=(30.0, 20.0), plan=torch.zeros(4, 64))
LEFT = Decision(AnswerKind.TURN, "←←", actions=(2, 2))
STOP = Decision(AnswerKind.STOP, "STOP", actions=(0,))


class RuledPolicy:
    """`step(index)` is what is done at the next question; counts what it is shown."""

    needs_depth = False

    def __init__(self, *steps: DualSystemStep):
        self.todo = iter(steps)
        self.batch_sizes: list[int] = []
        self.shown: list[dict] = []
        self.num_noted = 0

    def start(self, instruction, name):
        return name

    def note(self, episode, rgb):
        self.num_noted += 1

    def steps(self, episodes, observations):
        self.batch_sizes.append(len(episodes))
        self.shown += observations
        return [next(self.todo) for _ in episodes]


def step_of(decision: Decision, *actions: int, **values) -> DualSystemStep:
    return DualSystemStep(actions, decision, asked=True, **values)


def walk(policy, scene_set, make_env, out, num_parallel=1, num_tasks=4, **settings):
    store = RolloutStore(out, success_distance=1.0)
    agent = DualSystemAgent(policy, **settings)
    return evaluate_agent(agent, scene_set.tasks[:num_tasks], make_env, store, {}, num_parallel)


def tiny_policy(**settings) -> DualSystemPolicy:
    model = tiny_dual_system("navdp_async", image_width=64, image_height=48)
    processor = tiny_processor(camera=CAMERA.to_dict())
    return DualSystemPolicy(model, processor, num_samples=2, **settings)


def test_actions_are_taken_one_by_one_and_every_frame_is_seen(scene_set, make_env, tmp_path):
    policy = RuledPolicy(step_of(LEFT, 2, 2), step_of(POINT, 1, 3, 3), step_of(STOP, 0))
    (rollout,) = walk(policy, scene_set, make_env, tmp_path, num_tasks=1)
    assert rollout.actions.tolist() == [2, 2, 1, 3, 3, 0]
    assert rollout.stop_called
    assert policy.num_noted == 3  # the other three frames it was asked about
    assert [decision.step for decision in rollout.decisions] == [0, 2, 5]
    assert [d.kind for d in rollout.decisions] == ["TURN", "PIXEL_GOAL", "STOP"]


def test_all_environments_share_one_call(scene_set, make_env, tmp_path):
    policy = RuledPolicy(*[step_of(STOP, 0)] * 4)
    walk(policy, scene_set, make_env, tmp_path, num_parallel=3)
    assert policy.batch_sizes == [3, 1]


@pytest.mark.parametrize("use_depth", [True, False])
def test_the_look_down_view_is_shown(scene_set, make_env, tmp_path, use_depth):
    policy = RuledPolicy(step_of(STOP, 0))
    env = None

    def remember(name):
        nonlocal env
        env = make_env(name)
        return env

    walk(policy, scene_set, remember, tmp_path, num_tasks=1, use_depth=use_depth)
    view = env.render_view(30)
    shown = policy.shown[0]
    np.testing.assert_array_equal(shown["rgb_look_down"], view.rgb)
    assert np.abs(shown["rgb"].astype(int) - view.rgb).max() > 0
    assert ("depth_look_down" in shown) == use_depth


def test_trajectories_are_remembered_in_the_world(scene_set, make_env, tmp_path):
    ahead = np.stack([np.linspace(0, 1, 9), np.zeros(9)], axis=1)
    pointing = step_of(POINT, 1, trajectories=np.stack([ahead] * 2), path=ahead)
    policy = RuledPolicy(step_of(LEFT, 2), pointing, step_of(STOP, 0))
    (rollout,) = walk(policy, scene_set, make_env, tmp_path, num_tasks=1)
    decision = rollout.decisions[1]
    places = np.array(decision.trajectories)
    assert places.shape == (2, 9, 2)
    np.testing.assert_allclose(places[0, 0], decision.position, atol=1e-3)
    heading = np.array([np.cos(decision.yaw), np.sin(decision.yaw)])
    np.testing.assert_allclose(places[0, -1] - places[0, 0], heading, atol=2e-3)
    assert decision.yaw == pytest.approx(scene_set.tasks[0][1].start[2] + np.radians(15))
    assert rollout.decisions[0].trajectories is None


def test_perfect_trajectories_arrive(scene_set, make_env, tmp_path):
    """The expert knows a way that keeps clear of walls; the policy is the real one."""
    policy = tiny_policy()
    envs = {}

    def remember(name):
        envs["now"] = make_env(name)
        return envs["now"]

    def way() -> np.ndarray:
        """(9, 2) in the robot's frame, to the goal or 0.8 m towards it."""
        env = envs["now"]
        T_world_camera, goal = env.camera_pose(0), np.array(env.episode.goal_xy)
        field = env.space.distance_field(goal, clearance_weight=PLANNING_CLEARANCE_WEIGHT)
        path = resample(field.path_from(T_world_camera[:2, 3]), 0.1)[:9]
        path = np.concatenate([path, np.repeat(path[-1:], 9 - len(path), axis=0)])
        ahead, left = T_world_camera[:2, 2], -T_world_camera[:2, 0]
        return (path - path[0]) @ np.stack([ahead, left], axis=1)

    def decide(images, instruction, history, look_down, force_look_down):
        env = envs["now"]
        near = np.hypot(*np.subtract(env.episode.goal_xy, env.camera_pose(0)[:2, 3])) < 0.6
        return [STOP if near else POINT for _ in images]

    def sample(plan, **_):
        steps = np.zeros((1, 2, 8, 3), np.float32)
        steps[..., :2] = np.diff(way(), axis=0)
        return torch.as_tensor(steps)

    policy.system2.decide, policy.expert.sample = decide, sample
    rollouts = walk(policy, scene_set, remember, tmp_path)
    metrics = [episode_metrics(rollout, 1.0) for rollout in rollouts]
    assert [episode["sr"] for episode in metrics] == [1.0] * len(scene_set.tasks)
    assert np.mean([episode["spl"] for episode in metrics]) > 0.8


def test_a_tiny_model_walks_the_same_alone_and_beside_others(scene_set, make_env, tmp_path):
    paths = []
    for num_parallel in (1, 2):
        policy = tiny_policy(max_steps_per_plan=4)
        policy.system2._generate = lambda session: ["↓"] * len(session.last_hidden)
        rollouts = walk(
            policy,
            scene_set,
            short(make_env),
            tmp_path / str(num_parallel),
            num_parallel,
            num_tasks=2,
        )
        paths.append([rollout.actions.tolist() for rollout in rollouts])
        assert {action for path in paths[-1] for action in path} <= {
            Action.FORWARD,
            Action.TURN_LEFT,
            Action.TURN_RIGHT,
        }
    assert paths[0] == paths[1]


def short(make_env):
    def make(name):
        env = make_env(name)
        env.max_steps = 6
        return env

    return make


def test_evaluation_without_the_depth_of_training_is_refused():
    with pytest.raises(ValueError, match=r"use_depth: found False.*trained with depth"):
        DualSystemAgent(tiny_policy(), use_depth=False)


def test_with_one_pitch_the_ordinary_view_is_shown_and_nothing_rendered(scene_set, tmp_path):
    camera = replace(CAMERA, pitch_deg=30.0, look_down_pitch_deg=30.0)

    def make_env(name):
        env = scene_set.make_env(name, camera, success_distance=1.0, max_steps=5)
        env.render_view = only_once(env.render_view)
        return env

    policy = RuledPolicy(step_of(LEFT, 2, 2), step_of(STOP, 0))
    walk(policy, scene_set, make_env, tmp_path, num_tasks=1)
    for shown in policy.shown:
        assert shown["rgb_look_down"] is shown["rgb"]
        assert shown["depth_look_down"].shape == (48, 64)


def only_once(render):
    """An environment renders one view for each observation."""
    pitches = []

    def counted(pitch_deg):
        pitches.append(pitch_deg)
        assert set(pitches) == {30.0}
        assert len(pitches) <= 4  # the start and three actions
        return render(pitch_deg)

    return counted


def test_only_drawn_episodes_keep_trajectories_and_the_map_shows_them(
    scene_set, make_env, tmp_path
):
    path = np.stack([np.linspace(0, 1, 9), np.zeros(9)], axis=1)
    trajectories = np.stack([path, path + 0.05])
    policy = RuledPolicy(*[step_of(POINT, 2, trajectories=trajectories), step_of(STOP, 0)] * 4)
    store = RolloutStore(tmp_path, success_distance=0.0, num_drawn=1)
    rollouts = evaluate_agent(DualSystemAgent(policy), scene_set.tasks[:4], make_env, store, {}, 1)
    kept = [rollout.decisions[0].trajectories is not None for rollout in rollouts]
    assert kept == [True, False, False, False]
    with_bundle = draw_map(scene_set.scene(rollouts[0].scene), rollouts[:1], 1.0)
    rollouts[0].decisions[0].trajectories = None
    assert draw_map(scene_set.scene(rollouts[0].scene), rollouts[:1], 1.0) != with_bundle
