import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from internnav_hf.data.episode import next_actions
from internnav_hf.data.tasks.system2_sampling import (
    SamplingRules,
    history_indices,
    sample_episode,
    subsample,
)
from internnav_hf.models.system2.dialogue import AnswerKind


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (0, []),
        (1, [0]),
        (4, [0, 1, 2, 3]),
        (8, [0, 1, 2, 3, 4, 5, 6, 7]),
        (13, [0, 1, 3, 5, 6, 8, 10, 12]),
    ],
)
def test_history_spreads_over_the_past(frame, expected):
    assert history_indices(frame, 8).tolist() == expected


@given(st.integers(1, 500), st.integers(1, 16))
def test_history_ends_with_the_last_past_frame_or_starts_with_the_first(frame, num_history):
    history = history_indices(frame, num_history)
    assert history[0] == 0
    assert len(history) <= num_history
    assert num_history == 1 or history[-1] == frame - 1
    assert (np.diff(history) > 0).all()


def test_subsample_keeps_the_share_and_repeats():
    kept = subsample(1001, 30, seed=3)
    assert len(kept) == 300
    assert (np.diff(kept) > 0).all()
    assert np.array_equal(kept, subsample(1001, 30, seed=3))
    assert not np.array_equal(kept, subsample(1001, 30, seed=4))


@given(st.lists(st.sampled_from([1, 2, 3]), min_size=3, max_size=60), st.integers(1, 7))
def test_every_sample_follows_the_rules(moves, sample_step):
    action = np.array([-1, *moves], np.int32)
    none = np.full(len(action), -1)
    rules = SamplingRules(sample_step=sample_step)
    samples = sample_episode(next_actions(action), none, np.stack([none, none], 1), rules)
    assert [sample.answer_class for sample in samples].count(AnswerKind.STOP) == 1
    assert samples[-1].frame_index == len(action) - 1
    for sample in samples[:-1]:
        assert sample.answer_class == AnswerKind.TURN
        assert 1 not in sample.actions
        assert sample.frame_index % sample_step == 0


def test_a_near_waypoint_is_passed_over():
    action = np.array([-1, 1, 1, 1, 1, 1])
    goal = np.full((6, 2), 7)
    for ahead, classes in ((2, [AnswerKind.STOP]), (3, [AnswerKind.PIXEL_GOAL, AnswerKind.STOP])):
        relative = np.array([ahead, -1, -1, -1, -1, -1])
        samples = sample_episode(next_actions(action), relative, goal, SamplingRules())
        assert [sample.answer_class for sample in samples] == classes


def test_rules_refuse_a_step_of_zero():
    with pytest.raises(ValueError, match="sample_step is 0"):
        dataclasses.replace(SamplingRules(), sample_step=0)
