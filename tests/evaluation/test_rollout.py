"""Agents walk a small scene_set in the simulator; stores and reruns."""

import json
import threading
from dataclasses import replace

import numpy as np
import pytest

from internnav_hf.evaluation import rollout as rollouts_module
from internnav_hf.evaluation.agents import ForwardWalker, OracleAgent, RandomWalker
from internnav_hf.evaluation.metrics import episode_metrics, summarize
from internnav_hf.evaluation.rollout import RolloutStore, evaluate_agent, resample
from internnav_hf.geometry import Action


def walk(agent, scene_set, make_env, out, num_parallel=2, seed=0):
    store = RolloutStore(out, success_distance=1.0)
    return evaluate_agent(agent, scene_set.tasks, make_env, store, {"seed": seed}, num_parallel)


def summary(rollouts):
    return summarize([episode_metrics(rollout, 1.0) for rollout in rollouts])


def test_the_oracle_arrives_by_the_shortest_path(scene_set, make_env, tmp_path):
    result = summary(walk(OracleAgent(), scene_set, make_env, tmp_path))
    assert result["sr"] == result["os"] == 1
    assert result["spl"] > 0.95
    assert result["ndtw"] > 0.6
    assert result["ne"] < 0.3
    assert result["collision_rate"] == 0


def test_the_random_walker_does_not_and_repeats_whatever_runs_beside_it(
    scene_set, make_env, tmp_path
):
    alone = walk(RandomWalker(0), scene_set, make_env, tmp_path / "a", num_parallel=1)
    beside = walk(RandomWalker(0), scene_set, make_env, tmp_path / "b", num_parallel=3)
    other = walk(RandomWalker(1), scene_set, make_env, tmp_path / "c")
    assert [r.actions.tolist() for r in alone] == [r.actions.tolist() for r in beside]
    assert [r.actions.tolist() for r in alone] != [r.actions.tolist() for r in other]
    assert summary(alone)["spl"] < 0.3


def test_the_forward_walker_turns_walks_and_stops(scene_set, make_env, tmp_path):
    """Headings differ, and repeat whatever runs beside it."""
    alone = walk(ForwardWalker(0, num_steps=3), scene_set, make_env, tmp_path / "a", num_parallel=1)
    beside = walk(
        ForwardWalker(0, num_steps=3), scene_set, make_env, tmp_path / "b", num_parallel=3
    )
    assert [r.actions.tolist() for r in alone] == [r.actions.tolist() for r in beside]
    turns = [len(rollout.actions) - 4 for rollout in alone]
    assert len(set(turns)) > 1
    assert 0 <= min(turns) <= max(turns) <= 22
    for rollout, count in zip(alone, turns, strict=True):
        expected = [*[Action.TURN_RIGHT] * count, *[Action.FORWARD] * 3, Action.STOP]
        assert rollout.actions.tolist() == expected
        assert rollout.stop_called


def test_what_a_rollout_remembers(scene_set, make_env, tmp_path):
    rollout = walk(RandomWalker(0), scene_set, make_env, tmp_path)[0]
    assert len(rollout.positions) == len(rollout.goal_distances) == len(rollout.actions) + 1
    assert len(rollout.collisions) == len(rollout.actions) <= 120
    assert rollout.stop_called == (rollout.actions[-1] == Action.STOP)
    assert rollout.shortest_distance == scene_set.tasks[0][1].geodesic_distance
    assert rollout.positions[0] == pytest.approx(scene_set.tasks[0][1].start[:2])


def test_a_rerun_goes_on_where_it_was(scene_set, make_env, tmp_path):
    first = walk(OracleAgent(), scene_set, make_env, tmp_path)
    lines = (tmp_path / "rollouts.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "rollouts.jsonl").write_text("".join(lines[:3]) + lines[3][:40])  # cut off

    walked = []

    def counting(name):
        walked.append(name)
        return make_env(name)

    again = walk(OracleAgent(), scene_set, counting, tmp_path)
    assert len(walked) == len(scene_set.tasks) - 3
    assert [r.actions.tolist() for r in again] == [r.actions.tolist() for r in first]
    keys = [json.loads(line)["key"] for line in (tmp_path / "rollouts.jsonl").open()]
    assert len(keys) == len(scene_set.tasks)
    assert len(set(keys)) == 1


def test_other_settings_walk_again_and_lose_nothing(scene_set, make_env, tmp_path):
    walk(OracleAgent(), scene_set, make_env, tmp_path, seed=0)
    before = (tmp_path / "rollouts.jsonl").read_text()
    walk(OracleAgent(), scene_set, make_env, tmp_path, seed=1)
    after = (tmp_path / "rollouts.jsonl").read_text()
    assert after.startswith(before)
    assert len(after.splitlines()) == 2 * len(scene_set.tasks)


def test_an_episode_without_stop_ends_at_the_step_limit(scene_set, tmp_path):
    def make_env(name):
        return scene_set.make_env(name, replace_camera(), success_distance=1.0, max_steps=5)

    agent = OracleAgent()
    rollouts = walk(agent, scene_set, make_env, tmp_path)
    assert {len(rollout.actions) for rollout in rollouts} == {5}
    assert not any(rollout.stop_called for rollout in rollouts)


def replace_camera():
    from tests.tiny.scene_set import CAMERA

    return replace(CAMERA, width=8, height=6)


def test_resampling_keeps_ends_and_spacing():
    path = resample(np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 0.6]]), spacing=0.25)
    steps = np.linalg.norm(np.diff(path, axis=0), axis=1)
    assert path[0].tolist() == [0, 0]
    assert path[-1].tolist() == [1, 0.6]
    assert steps.max() <= 0.25
    assert resample(np.array([[2.0, 1.0]])).tolist() == [[2, 1]]


@pytest.mark.parametrize(
    "line",
    [
        '{"key": "KEY"}',
        '{"key": "KEY", "rollout": []}',
        '{"key": "KEY", "rollout": {"agent": "a"}}',
        '{"key": "KEY", "rollout": ' + "[" * 100_000,
        '"KEY"',
        '{"key": "KEY", "rollout": {}',
    ],
)
def test_a_broken_episode_of_an_earlier_run_is_named(tmp_path, line):
    store = RolloutStore(tmp_path, 1.0)
    store.path.write_text(f"{line}\n")
    assert store.load("other key") == []
    with pytest.raises(ValueError, match=r"rollouts\.jsonl:1: line: found .* expected an episode"):
        store.load("KEY")


def test_positions_that_are_no_numbers_are_refused(scene_set, make_env, tmp_path):
    walk(OracleAgent(), scene_set, make_env, tmp_path)
    store = RolloutStore(tmp_path, 1.0)
    entry = json.loads(store.path.read_text().splitlines()[0])
    assert len(store.load(entry["key"])) > 1
    entry["rollout"]["positions"] = [["<b>", 0.0]]
    store.path.write_text(json.dumps(entry) + "\n")
    with pytest.raises(ValueError, match="positions holds no numbers"):
        store.load(entry["key"])


class TwoProcesses:
    """Stands in for `PartialState` of two processes, which are two threads here."""

    barrier = threading.Barrier(2, timeout=60)
    num_processes = 2

    @property
    def process_index(self) -> int:
        return int(threading.current_thread().name)

    @property
    def is_main_process(self) -> bool:
        return self.process_index == 0

    def wait_for_everyone(self) -> None:
        self.barrier.wait()


def test_processes_share_the_episodes_and_all_get_all(scene_set, make_env, tmp_path, monkeypatch):
    alone = walk(OracleAgent(), scene_set, make_env, tmp_path / "alone")
    monkeypatch.setattr(rollouts_module, "PartialState", TwoProcesses)
    found, counts = {}, []
    for _ in range(2):  # the second time nothing is left to do

        def work():
            name = threading.current_thread().name
            found[name] = walk(OracleAgent(), scene_set, make_env, tmp_path / "shared")

        threads = [threading.Thread(target=work, name=name) for name in "01"]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        files = sorted((tmp_path / "shared").glob("*.jsonl"))
        counts.append([(file.name, len(file.read_text().splitlines())) for file in files])
    assert counts == [[("rollouts.1.jsonl", 2), ("rollouts.jsonl", 2)]] * 2
    for shared in found.values():
        assert [r.episode for r in shared] == [r.episode for r in alone]
        assert [r.actions.tolist() for r in shared] == [r.actions.tolist() for r in alone]
