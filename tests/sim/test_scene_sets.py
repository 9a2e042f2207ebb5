"""Where agents are compared."""

from dataclasses import replace

import numpy as np

from internnav_hf.camera import CameraSpec
from internnav_hf.sim.episodes import scene_seeds
from internnav_hf.sim.scene_sets import SPLIT, SceneSet, unseen_scenes


def test_no_dataset_has_these_scenes():
    unseen = {seed for base in range(5) for seed in scene_seeds(base, SPLIT, 50)}
    datasets = {
        seed
        for base in range(5)
        for split in ("train", "val_unseen", "mesh")
        for seed in scene_seeds(base, split, 50)
    }
    assert len(unseen) == 250
    assert not unseen & datasets


def test_scenes_repeat_with_their_seed_and_differ_by_it():
    first, again, other = (unseen_scenes(2, seed) for seed in (0, 0, 1))
    assert [scene.name for scene in first] == ["unseen_000", "unseen_001"]
    assert np.array_equal(first[1].vertices, again[1].vertices)
    assert not np.array_equal(first[1].vertices, other[1].vertices)


def test_every_scene_has_its_episodes_far_enough_away(scene_set):
    assert [name for name, _ in scene_set.tasks] == ["unseen_000"] * 4
    again = SceneSet([scene_set.scene("unseen_000")], num_episodes=4, seed=0)
    for (_, episode), (_, same) in zip(scene_set.tasks, again.tasks, strict=True):
        assert episode.start == same.start
        assert episode.geodesic_distance >= 2.0


def test_the_digest_differs_by_scene_and_by_episode(scene_set):
    scene = scene_set.scene("unseen_000")
    same, others = SceneSet([scene], 4, seed=0), [SceneSet([scene], 4, seed=1)]
    others.append(SceneSet([replace(scene, face_colors=255 - scene.face_colors)], 4, seed=0))
    assert same.digest() == scene_set.digest()
    assert len({scene_set.digest(), *(other.digest() for other in others)}) == 3


def test_nothing_is_rendered_for_the_blind(scene_set):
    seeing, blind = (
        scene_set.make_env("unseen_000", CameraSpec(64, 48), 1.0, 100, see) for see in (True, False)
    )
    assert seeing.reset()[0]["rgb"].shape == (48, 64, 3)
    assert blind.reset()[0]["rgb"].size < 200
    assert blind.space is seeing.space
