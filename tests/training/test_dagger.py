"""DAgger's walks: who acts, what is taught, and what training reads of it."""

import numpy as np
import pytest
import torch

from internnav_hf.data import VLNDataset
from internnav_hf.data.formats.vln_pe.reader import (
    ACTION,
    EXPERT_ACTIONS,
    EXPERT_STEPS,
    HORIZON,
    PREVIOUS_ACTION,
    PROGRESS,
)
from internnav_hf.data.tasks.vln import read_texts
from internnav_hf.data.vocabulary import learn_words
from internnav_hf.geometry import Action
from internnav_hf.models.vln.processor import VLNProcessor, word_tokenizer
from internnav_hf.policies import VLNPolicy, VLNStep
from internnav_hf.training import dagger
from internnav_hf.training.dagger import SCAN, collect
from tests.data.vln_pe import read_walks
from tests.tiny.scene_set import CAMERA
from tests.tiny.vln import tiny_seq2seq
from tests.tiny.vln_processor import tiny_vln_processor


class Walker:
    """Always does `action`; notes what it is told."""

    def __init__(self, action: int):
        self.action = action
        self.told: list[list] = []
        self.batches: list[int] = []
        self.model = torch.nn.Linear(1, 1)
        torch.nn.init.constant_(self.model.weight, 1)
        torch.nn.init.zeros_(self.model.bias)

    def start(self, instruction, name):
        self.told.append([])
        return self.told[-1]

    def steps(self, episodes, observations):
        self.batches.append(len(episodes))
        for episode, observation in zip(episodes, observations, strict=True):
            episode.append(observation.get("previous_action"))
        return [VLNStep(self.action) for _ in episodes]


def gather(policy, scene_set, out, beta, **settings):
    settings = {"seed": 0, "num_episodes": 4, "num_parallel": 3, "max_steps": 60} | settings
    return collect(policy, scene_set, CAMERA, out, beta, **settings)


def walks_of(root) -> list:
    return list(read_walks(root))


def actions_of(walk) -> np.ndarray:
    """(T,) the expert's action at each frame."""
    return walk.columns[ACTION]


def executed_of(walk) -> np.ndarray:
    """(T,) the action that led to each frame."""
    return walk.columns[PREVIOUS_ACTION]


def test_where_the_expert_acts_it_is_its_own_walk(scene_set, tmp_path):
    walks = walks_of(gather(Walker(int(Action.TURN_LEFT)), scene_set, tmp_path, beta=1.0))
    assert len(walks) == 4
    for walk, (_, episode) in zip(walks, scene_set.tasks, strict=True):
        assert actions_of(walk)[-1] == Action.STOP
        assert (executed_of(walk) == [-1, *actions_of(walk)[:-1]]).all()
        end = np.linalg.norm(walk.poses[-1, :2] - episode.goal_xy)
        assert end < 0.5
        assert walk.columns[PROGRESS][-1] > 0.8
        assert walk.poses[0] == pytest.approx(episode.start)


def test_where_the_policy_acts_the_expert_only_teaches(scene_set, tmp_path):
    """It turns once round on the spot; at one of the headings the expert would walk."""
    policy = Walker(int(Action.TURN_LEFT))
    walks = walks_of(gather(policy, scene_set, tmp_path, beta=0.0, max_steps=24))
    for walk in walks:
        assert len(actions_of(walk)) == 24
        assert (executed_of(walk) == [-1, *[Action.TURN_LEFT] * 23]).all()
        assert Action.FORWARD in actions_of(walk)
        np.testing.assert_allclose(walk.poses[:, :2], walk.poses[:1, :2].repeat(24, 0))
    assert policy.batches == [3] * 24 + [1] * 24
    for told in policy.told:
        assert told == [None, *[Action.TURN_LEFT] * 23]


def test_the_policy_is_told_what_was_executed(scene_set, tmp_path):
    policy = Walker(int(Action.TURN_LEFT))
    walks = walks_of(gather(policy, scene_set, tmp_path, beta=0.5, max_steps=30))
    for told, walk in zip(policy.told, walks, strict=True):
        assert told[1:] == executed_of(walk)[1:].tolist()
    shares = [
        np.mean(executed_of(walk)[1:] == actions_of(walk)[:-1])  # the expert's was executed
        for walk in walks
    ]
    assert 0.3 < np.mean(shares) < 0.95


def test_a_stop_of_the_policy_ends_the_walk(scene_set, tmp_path):
    walks = walks_of(gather(Walker(int(Action.STOP)), scene_set, tmp_path, beta=0.0))
    assert [len(actions_of(walk)) for walk in walks] == [1] * 4
    assert all(actions_of(walk)[0] != Action.STOP for walk in walks)


def test_draws_are_those_of_the_episode(scene_set, tmp_path):
    one = walks_of(gather(Walker(2), scene_set, tmp_path / "a", 0.5, num_parallel=1))
    many = walks_of(gather(Walker(2), scene_set, tmp_path / "b", 0.5, num_parallel=4))
    other = walks_of(gather(Walker(2), scene_set, tmp_path / "c", 0.5, seed=1))
    executed = [[executed_of(w).tolist() for w in walks] for walks in (one, many, other)]
    assert executed[0] == executed[1] != executed[2]


def test_finished_scenes_stay_and_other_settings_are_an_error(scene_set, tmp_path):
    gather(Walker(2), scene_set, tmp_path, 0.5, num_episodes=2)
    assert len(walks_of(tmp_path)) == 2
    again = Walker(1)
    gather(again, scene_set, tmp_path, 0.5, num_episodes=2)
    assert not again.batches
    (scene,) = (tmp_path / SCAN).iterdir()
    assert scene.name in scene_set.scenes
    with pytest.raises(ValueError, match=r"other settings \(beta was 0.5, is 0.25\)"):
        gather(again, scene_set, tmp_path, 0.25, num_episodes=2)
    torch.nn.init.zeros_(again.model.weight)
    with pytest.raises(ValueError, match=r"other settings \(policy was .*, is "):
        gather(again, scene_set, tmp_path, 0.5, num_episodes=2)
    with pytest.raises(ValueError, match="beta: found 2, expected a probability"):
        gather(again, scene_set, tmp_path / "other", 2)


def test_a_plan_is_the_way_that_the_expert_would_go(scene_set, tmp_path):
    """Who turns on the spot is taught to walk, also where several steps are learnt at a time."""
    alone = gather(Walker(0), scene_set, tmp_path / "expert", beta=1.0)
    for walk in walks_of(alone):
        padded = np.append(actions_of(walk), [0] * HORIZON)
        windows = np.lib.stride_tricks.sliding_window_view(padded, HORIZON)[: walk.length]
        np.testing.assert_array_equal(walk.columns[EXPERT_ACTIONS], windows)
        assert walk.columns[EXPERT_STEPS].tolist() == [*range(walk.length, 0, -1)]
    root = gather(Walker(int(Action.TURN_LEFT)), scene_set, tmp_path / "turns", 0.0, max_steps=24)
    walks, dataset = walks_of(root), opened(root, tmp_path)
    steps = np.concatenate([dataset[i]["displacements"] for i in range(len(dataset))])
    went = np.linalg.norm(steps[..., :2], axis=-1).sum(axis=1)
    assert (went > 0.24).mean() > 0.4  # the way is up to eleven turns away
    first = np.concatenate([dataset[i]["displacements"][:, 0] for i in range(len(dataset))])
    # to be cut off, or to stop too early, is not to arrive
    assert max(dataset[i]["stop_progress"].max() for i in range(len(dataset))) < 1
    texts = [len(walk.record.instructions) for walk in walks]
    taught = np.concatenate([np.tile(actions_of(w), n) for w, n in zip(walks, texts, strict=True)])
    turns = np.select([taught == 2, taught == 3], [1, -1]) * np.radians(15)
    np.testing.assert_allclose(first[:, 2], turns, atol=1e-6)
    np.testing.assert_allclose(first[:, 0], 0.25 * (taught == 1), atol=1e-6)


def opened(root, tmp_path) -> VLNDataset:
    processor = VLNProcessor(word_tokenizer(learn_words(read_texts(root))))
    return VLNDataset(root, processor, "displacements", cache_dir=tmp_path / "cache")


def test_walks_leave_as_soon_as_they_can(scene_set):
    """Many of a scene do not fit into memory together."""
    place = next(iter(scene_set.scenes.values()))
    policy, episodes = Walker(int(Action.STOP)), [episode for _, episode in scene_set.tasks]
    recorded = dagger._episodes(policy, place, episodes, CAMERA, 0.0, 0, 2, 60)
    assert len(next(recorded).actions) == 1
    assert len(policy.told) == 2
    assert len(list(recorded)) == 3


def test_a_model_collects(scene_set, tmp_path):
    policy = VLNPolicy(tiny_seq2seq(use_previous_action=True), tiny_vln_processor())
    walks = walks_of(gather(policy, scene_set, tmp_path, beta=0.5, max_steps=5))
    assert len(walks) == 4
