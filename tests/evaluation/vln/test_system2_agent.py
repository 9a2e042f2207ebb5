"""System2 with the shortest-path follower, System2 played by rules."""

import numpy as np
import pytest

from internnav_hf.evaluation.metrics import episode_metrics
from internnav_hf.evaluation.rollout import RolloutStore, evaluate_agent, resample
from internnav_hf.evaluation.vln.system2_agent import System2Agent
from internnav_hf.geometry import Action, project, robot_pose
from internnav_hf.models.system2.dialogue import AnswerKind
from internnav_hf.policies import Decision
from internnav_hf.sim.follower import next_action
from tests.evaluation.fakes import LOOK_DOWN, STOP, UNPARSABLE, ScriptedPolicy, point


class Guide(ScriptedPolicy):
    """Knows map and goal of the one environment `env`; points at the way where it sees it."""

    def __init__(self):
        super().__init__(self.first_answer, lambda view: point(*self.pixel()))

    def target(self):
        """(2,) the farthest place on the shortest path, up to 2 m, with a free line to it."""
        start, goal = self.env.camera_pose(0)[:2, 3], self.env.episode.goal_xy
        path = resample(self.env.space.shortest_path(start, goal))[:9]
        return path[self.env.space.straight_line_is_free(start, path)][-1]

    def pixel(self):
        camera = self.env.camera
        pose = self.env.camera_pose(camera.look_down_pitch_deg)
        return project(np.array([[*self.target(), 0.0]]), pose, camera.intrinsics)[0][0]

    def first_answer(self, image, instruction):
        x, y, yaw = robot_pose(self.env.camera_pose(0))
        if np.hypot(*np.subtract(self.env.episode.goal_xy, (x, y))) < 0.9:
            return STOP
        u, v = self.pixel()
        if 0 <= u < self.env.camera.width and 0 <= v < self.env.camera.height:
            return LOOK_DOWN
        field = self.env.space.distance_field(self.env.episode.goal_xy)
        action = next_action(self.env.space, field, (x, y), yaw)
        return Decision(AnswerKind.TURN, "turn", actions=(int(action),))


def walk(policy, scene_set, make_env, out, num_parallel=1, **settings):
    store = RolloutStore(out, success_distance=1.0, num_drawn=1)
    agent = System2Agent(policy, **settings)
    return evaluate_agent(agent, scene_set.tasks, make_env, store, {}, num_parallel)


@pytest.mark.parametrize("use_depth", [True, False])
def test_pointing_the_way_arrives(scene_set, make_env, tmp_path, use_depth):
    policy = Guide()

    def remember(name):
        policy.env = make_env(name)
        return policy.env

    rollouts = walk(policy, scene_set, remember, tmp_path, use_depth=use_depth)
    metrics = [episode_metrics(rollout, 1.0) for rollout in rollouts]
    assert [episode["sr"] for episode in metrics] == [1.0] * len(scene_set.tasks)
    assert np.mean([episode["spl"] for episode in metrics]) > 0.85
    assert any(d.goal_position for rollout in rollouts for d in rollout.decisions)


def test_all_environments_share_one_call(scene_set, make_env, tmp_path):
    policy = ScriptedPolicy(lambda *_: STOP)
    walk(policy, scene_set, make_env, tmp_path, num_parallel=3)
    assert policy.batch_sizes == [3, 1]


def test_history_is_every_frame_seen(scene_set, make_env, tmp_path):
    policy = ScriptedPolicy(lambda *_: Decision(AnswerKind.TURN, "←←", actions=(2, 2)))
    walk(policy, scene_set, make_env, tmp_path)
    assert policy.histories[:3] == [0, 2, 4]


def test_unparsable_answers_turn_left_and_are_counted(scene_set, make_env, tmp_path):
    rollout = walk(ScriptedPolicy(lambda *_: UNPARSABLE), scene_set, make_env, tmp_path)[0]
    assert set(rollout.actions.tolist()) == {Action.TURN_LEFT}
    assert rollout.num_unparsable == len(rollout.actions) == 120
    assert not rollout.stop_called


def test_a_goal_is_followed_for_a_few_steps_then_asked_again(scene_set, make_env, tmp_path):
    policy = ScriptedPolicy(lambda *_: LOOK_DOWN, lambda view: point(32, 2))
    rollout = walk(policy, scene_set, make_env, tmp_path, max_steps_per_goal=3)[0]
    asked = [decision.step for decision in rollout.decisions]
    assert np.diff(asked).max() <= 3
    assert {decision.kind for decision in rollout.decisions} == {"PIXEL_GOAL"}


def test_a_turn_that_ends_in_stop_stops(scene_set, make_env, tmp_path):
    policy = ScriptedPolicy(lambda *_: Decision(AnswerKind.TURN, "→STOP", actions=(3, 0)))
    rollout = walk(policy, scene_set, make_env, tmp_path)[0]
    assert rollout.actions.tolist() == [Action.TURN_RIGHT, Action.STOP]
    assert rollout.stop_called


def test_views_of_a_few_episodes_are_kept(scene_set, make_env, tmp_path):
    heatmap = np.full((3, 4), 1 / 12)
    goal = Decision(AnswerKind.PIXEL_GOAL, "↓", (30.0, 40.0), 0.5, heatmap)
    rollouts = walk(
        ScriptedPolicy(lambda *_: LOOK_DOWN, lambda view: goal), scene_set, make_env, tmp_path
    )
    drawn = [r for r in rollouts if r.decisions[0].image]
    assert len(drawn) == 1  # one failure is wanted, and all fail
    assert all((tmp_path / decision.image).is_file() for decision in drawn[0].decisions)
    assert np.shape(drawn[0].decisions[0].heatmap) == (3, 4)
    assert all(d.heatmap is None for r in rollouts if r is not drawn[0] for d in r.decisions)
