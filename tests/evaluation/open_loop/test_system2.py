"""Open loop on a small dataset, with policies whose score is known."""

import numpy as np
import pytest

from internnav_hf.data.tasks.system2 import System2Dataset
from internnav_hf.evaluation.open_loop.common import own_batches
from internnav_hf.evaluation.open_loop.system2 import (
    evaluate_open_loop,
    geometric_median,
    median_goal,
    scalars,
)
from internnav_hf.models.system2.dialogue import Answer
from internnav_hf.training.samples import choose_samples
from tests.data.vln_ce import straight_episode, write_scene
from tests.evaluation.fakes import LEFT, LOOK_DOWN, STOP, UNPARSABLE, ScriptedPolicy, point
from tests.evaluation.fakes import decision_of as decision


@pytest.fixture
def dataset(tmp_path):
    episodes = [straight_episode(0), straight_episode(1)]
    for episode in episodes:
        episode["actions"][9] = 2 + episode["meta"]["episode_index"]  # one left, one right
    write_scene(tmp_path / "r2r" / "scene", episodes, size=(64, 48))
    return System2Dataset(tmp_path, stop_repeat=1, cache_dir=tmp_path / "cache")


class KnowsAll(ScriptedPolicy):
    """Looks up the expert's answers in the order in which it is asked."""

    def __init__(self, dataset):
        self.samples = [dataset.decision(index) for index in range(len(dataset))]
        self.next_free = 0
        self.goals = iter([s["goal_pixel"] for s in self.samples if s["goal_pixel"]])
        super().__init__(self.look_up, lambda view: point(*next(self.goals)))

    def look_up(self, image, instruction):
        sample = self.samples[self.next_free]
        self.next_free += 1
        if sample["goal_pixel"]:
            return LOOK_DOWN
        return decision(Answer.of_actions(sample["actions"]))


def test_the_expert_has_no_error(dataset):
    result = evaluate_open_loop(KnowsAll(dataset), dataset, batch_size=3)
    assert result["pixel_error_px"] == 0 == result["pixel_error_own_px"]
    assert result["within_20px"] == result["action_accuracy"] == result["balanced_accuracy"] == 1
    assert result["format_validity"] == 1
    assert result["confusion"]["counts"] == [[4, 0, 0, 0], [0, 2, 0, 0], [0, 0, 2, 0]]
    assert result["num_samples"] == len(dataset) == 8


def test_a_constant_has_the_error_of_the_constant(dataset):
    goals = np.array([[10, 20], [14, 20], [10, 21], [14, 21]])
    expected = np.linalg.norm(goals - [12, 20.5], axis=1).mean()
    policy = ScriptedPolicy(lambda *_: STOP, lambda view: point(12, 20.5))
    result = evaluate_open_loop(policy, dataset, batch_size=4)
    assert result["pixel_error_px"] == pytest.approx(expected)
    assert result["pixel_error_constant_px"] == pytest.approx(expected)
    assert "pixel_error_own_px" not in result  # it never looked down by itself
    assert result["confusion"]["counts"] == [[0, 0, 4, 0], [0, 0, 2, 0], [0, 0, 2, 0]]
    assert result["action_accuracy"] == 0.25
    assert result["balanced_accuracy"] == 0.25


def test_another_constant_can_be_the_one_to_beat(dataset):
    policy = ScriptedPolicy(lambda *_: STOP, lambda view: point(10, 20))
    result = evaluate_open_loop(policy, dataset, constant_goal=(10, 20))
    assert result["pixel_error_px"] == result["pixel_error_constant_px"]
    assert median_goal(dataset) == pytest.approx([12, 20.5])


def test_no_constant_is_better_than_the_geometric_median():
    points = np.array([[0, 0], [40, 0], [0, 30], [5, 5], [6, 2], [90, 80], [5, 2]])

    def error(constant):
        return np.linalg.norm(points - constant, axis=1).mean()

    best = geometric_median(points)
    assert error(best) < error(np.median(points, axis=0))
    for shift in ([0.5, 0], [-0.5, 0], [0, 0.5], [0, -0.5]):
        assert error(best) < error(best + shift)
    assert geometric_median(points[:1]).tolist() == [0, 0]


def test_the_wrong_side_is_the_right_class_but_the_wrong_action(dataset):
    policy = ScriptedPolicy(lambda *_: LEFT, lambda view: point(0, 0))
    result = evaluate_open_loop(policy, dataset)
    assert result["confusion"]["counts"][1] == [0, 2, 0, 0]
    assert result["recall"]["turn left"] == 1
    assert result["recall"]["turn right"] == 0


def test_unparsable_answers_count_as_invalid_and_wrong(dataset):
    result = evaluate_open_loop(
        ScriptedPolicy(lambda *_: UNPARSABLE, lambda v: point(0, 0)), dataset
    )
    assert result["format_validity"] == 0
    assert result["action_accuracy"] == 0
    assert [row[3] for row in result["confusion"]["counts"]] == [4, 2, 2]


def test_a_missing_goal_is_not_within_and_has_the_error_of_the_constant(dataset):
    result = evaluate_open_loop(ScriptedPolicy(lambda *_: LOOK_DOWN, lambda v: UNPARSABLE), dataset)
    assert result["num_goals_missing"] == 4
    assert result["pixel_error_px"] == result["pixel_error_constant_px"] > 0
    assert result["within_20px"] == 0
    assert "pixel_error_own_px" not in result
    assert result["format_validity"] == 0.5


def test_errors_are_over_the_same_samples_when_some_goals_are_missing(dataset):
    goals = iter([UNPARSABLE, point(14, 21), UNPARSABLE, point(14, 21)])
    policy = ScriptedPolicy(lambda *_: LOOK_DOWN, lambda view: next(goals))
    result = evaluate_open_loop(policy, dataset, constant_goal=(14, 21))
    assert result["num_goals_missing"] == 2
    assert result["pixel_error_px"] == pytest.approx(result["pixel_error_constant_px"])
    assert result["within_20px"] == 0.5


def test_samples_are_drawn_once_and_repeatably(dataset):
    first, second = (choose_samples(100, 10, seed=3) for _ in range(2))
    assert first.tolist() == second.tolist() == sorted(set(first.tolist()))
    assert choose_samples(5, None, 0).tolist() == list(range(5))


def test_scalars_are_numbers_by_name(dataset):
    numbers = scalars(evaluate_open_loop(KnowsAll(dataset), dataset))
    assert numbers["pixel_error_px"] == 0
    assert numbers["recall_turn_left"] == 1
    assert numbers["confusion_turn_as_turn"] > 0
    assert numbers["confusion_turn_as_stop"] == 0
    assert all(isinstance(value, float) for value in numbers.values())


def test_processes_share_samples_and_take_as_many_rounds(monkeypatch):
    class State:
        num_processes, is_main_process = 3, False

    rounds, taken = [], []
    monkeypatch.setattr("internnav_hf.evaluation.open_loop.common.PartialState", State)
    monkeypatch.setattr(
        "internnav_hf.evaluation.open_loop.common.leave_together", lambda: rounds.append(rank)
    )
    for rank in range(3):
        State.process_index = rank
        taken += [index for batch in own_batches(np.arange(7), 2) for index in batch]
    assert sorted(taken) == list(range(7))
    assert [rounds.count(rank) for rank in range(3)] == [2, 2, 2]
