"""Followers of instructions in the simulator: what they are shown, and what is remembered."""

import numpy as np

from internnav_hf.evaluation.metrics import episode_metrics, summarize
from internnav_hf.evaluation.records import STEP
from internnav_hf.evaluation.rollout import RolloutStore, evaluate_agent
from internnav_hf.evaluation.vln.policy_agent import PolicyAgent
from internnav_hf.evaluation.vln.report import write_report
from internnav_hf.policies import VLNStep
from tests.tiny.scene_set import CAMERA


class ScriptedFollower:
    """Five steps: left, three forward, of which the first tells of a way, and stop."""

    def __init__(self):
        self.names: list[str] = []
        self.batches: list[int] = []
        self.poses: list[tuple] = []

    def start(self, instruction, name):
        assert instruction
        self.names.append(name)
        return {"time": 0}

    def steps(self, episodes, observations):
        self.batches.append(len(episodes))
        steps = []
        for episode, observation in zip(episodes, observations, strict=True):
            assert observation["rgb"].shape == (48, 64, 3)
            assert observation["depth"].shape == (48, 64)
            self.poses.append(observation["pose"])
            time, episode["time"] = episode["time"], episode["time"] + 1
            action = (2, 1, 1, 1, 0)[time]
            path = np.array([[0, 0], [1, 0.0]]) if time == 1 else None
            steps.append(VLNStep(action, None if time == 4 else time / 4, path))
        return steps


def test_all_walk_in_lockstep_and_some_steps_are_remembered(scene_set, make_env, tmp_path):
    follower = ScriptedFollower()
    store = RolloutStore(tmp_path, success_distance=1.0)
    agent = PolicyAgent(follower, "cma")
    rollouts = evaluate_agent(agent, scene_set.tasks, make_env, store, {}, num_parallel=2)
    assert follower.batches == [2] * 10
    scene, episode = scene_set.tasks[0]
    assert follower.names[0] == f"{scene}/{episode.episode_id}"
    assert follower.poses[0] == tuple(episode.start)
    first = rollouts[0]
    assert first.actions.tolist() == [2, 1, 1, 1, 0]
    assert first.stop_called
    records = first.decisions
    assert [(record.step, record.text) for record in records] == [
        (0, "← · 0% of the path"),
        (1, "↑ · 25% of the path"),
        (4, "STOP"),
    ]
    assert {record.kind for record in records} == {STEP}
    (way,) = np.array(records[1].trajectories)
    heading = [np.cos(records[1].yaw), np.sin(records[1].yaw)]
    np.testing.assert_allclose(way[0], records[1].position, atol=1e-3)
    np.testing.assert_allclose(way[1] - way[0], heading, atol=2e-3)
    assert all((tmp_path / record.image).is_file() for record in records)


def test_the_report_shows_what_they_saw(scene_set, make_env, tmp_path):
    store = RolloutStore(tmp_path, success_distance=1.0)
    rollouts = evaluate_agent(
        PolicyAgent(ScriptedFollower(), "rdp"), scene_set.tasks, make_env, store, {}
    )
    results = {
        "agents": {"rdp": summarize([episode_metrics(rollout, 1.0) for rollout in rollouts])},
        "model": None,
        "command": "python",
        "settings": {"num_scenes": 1, "scene": None},
    }
    shown = ({"rdp": rollouts}, scene_set.scene, 1.0, None, CAMERA)
    page = write_report(tmp_path, results, *shown).read_text(encoding="utf-8")
    assert "25% of the path" in page
    assert "0 decisions" not in page
