import re
from dataclasses import replace

import numpy as np
import pytest

from internnav_hf.geometry import wrap_angle
from internnav_hf.sim.episodes import STOP_DISTANCE_M, EpisodeSampler, sample_episodes, scene_seeds
from internnav_hf.sim.instructions import describe
from internnav_hf.sim.meshes.layout import Door, Room
from internnav_hf.sim.navigation import NavigableSpace
from internnav_hf.sim.scenes import SceneConfig, SceneObject, generate_scene
from tests.sim.boxes import hall


@pytest.fixture(scope="module")
def episodes(scene, space):
    return sample_episodes(scene, space, num_episodes=30, seed=1)


def test_the_same_seed_gives_the_same_episodes(scene, space, episodes):
    again = sample_episodes(scene, space, num_episodes=30, seed=1)
    other = sample_episodes(scene, space, num_episodes=30, seed=2)
    assert [e.start for e in again] == [e.start for e in episodes]
    assert [e.instructions for e in again] == [e.instructions for e in episodes]
    assert [e.start for e in other] != [e.start for e in episodes]


def test_a_goal_is_a_place_beside_its_object_in_its_room(scene, space, episodes):
    assert len({episode.episode_id for episode in episodes}) == len(episodes)
    for episode in episodes:
        thing, goal = episode.goal_object, np.array(episode.goal_xy)
        assert space.is_navigable(goal)
        assert thing.distance(goal) <= STOP_DISTANCE_M
        assert scene.room_at(goal) == thing.room


def test_paths_lead_from_start_to_goal_and_are_no_shorter_than_possible(space, episodes):
    for episode in episodes:
        path = episode.reference_path
        assert np.allclose(path[0], episode.start[:2])
        assert np.allclose(path[-1], episode.goal_xy)
        between = (path[:-1] + path[1:]) / 2
        assert space.lookup(space.clearance, between, 0).min() > 0.12  # a cell below the radius
        length = np.linalg.norm(np.diff(path, axis=0), axis=1).sum()
        assert 1.0 < episode.geodesic_distance <= length + 0.1


def test_both_rooms_and_all_headings_occur(scene, episodes):
    rooms = {(scene.room_at(episode.start[:2]), episode.goal_object.room) for episode in episodes}
    assert any(start == goal for start, goal in rooms)
    assert any(start != goal for start, goal in rooms)
    yaws = np.array([episode.start[2] for episode in episodes])
    assert (yaws > 1).any()
    assert (yaws < -1).any()


def test_near_starts_are_near(scene, space):
    sampler = EpisodeSampler(scene, space, near_fraction=1.0)
    rng = np.random.default_rng(0)
    drawn = [sampler.draw(rng, "near") for _ in range(60)]
    distances = [episode.geodesic_distance for episode, _ in filter(None, drawn)]
    assert distances
    assert max(distances) <= 1.6


def test_far_starts_are_as_far_to_walk_as_asked_and_near_ones_stay(scene, space):
    far = sample_episodes(scene, space, 20, seed=1, min_distance_m=2.5)
    assert min(episode.geodesic_distance for episode in far) >= 2.5
    near = sample_episodes(scene, space, 5, seed=1, min_distance_m=2.5, near_fraction=1.0)
    assert max(episode.geodesic_distance for episode in near) <= 1.6


def test_instructions_name_the_object_the_first_turn_and_the_doors(scene, episodes):
    for episode in episodes:
        ahead = episode.reference_path[1] - episode.reference_path[0]
        bearing = wrap_angle(np.arctan2(ahead[1], ahead[0]) - episode.start[2])
        assert len(set(episode.instructions)) == len(episode.instructions) == 2
        for text in episode.instructions:
            assert episode.goal_object.name in text
            assert re.fullmatch(r"[A-Z][a-z, ]+\.", text)
            turn = re.match(r"Turn (?:around to the )?(left|right)", text)
            assert bool(turn) == (abs(bearing) > np.radians(35))
            if turn:
                assert turn[1] == ("left" if bearing > 0 else "right")
            if scene.room_at(episode.start[:2]) not in (None, episode.goal_object.room):
                assert "through the door" in text


def test_instructions_use_few_words():
    words = set()
    for seed in range(12):
        scene = generate_scene(seed, SceneConfig(num_rooms=(1, 3)))
        for episode in sample_episodes(
            scene, NavigableSpace(scene, 0.1), 6, seed, 1.0, num_instructions=3
        ):
            words |= set(re.findall(r"[a-z]+", " ".join(episode.instructions).lower()))
    assert len(words) < 50


def test_many_doors_on_the_way_are_several():
    rooms = [Room(0, (0.0, 0.0), (1.0, 2.0)), Room(1, (7.0, 0.0), (9.0, 2.0))]
    doors = [Door((float(x), 1.0), 0, (0, 1), 0.9) for x in range(1, 8)]
    goal = SceneObject("chair", "red", "chair", (8.5, 1.0), (0.5, 0.5, 1.0), 0.0, 1, 1)
    scene = replace(hall(), rooms=rooms, doors=doors, objects=[goal])
    path = np.array([[0.5, 1.0], [8.0, 1.0]])
    (text,) = describe(scene, path, 0.0, goal, np.random.default_rng(0), 1)
    assert text.startswith("Go through several doors")


def test_a_scene_without_names_gets_the_way_told():
    space = NavigableSpace(hall())
    path = np.array([[1, 1], [3, 1], [3, 4]])
    texts = describe(hall(), path, np.pi / 2, None, np.random.default_rng(0))
    assert texts == ("Turn right, walk 2 meters, turn left, walk 3 meters, then stop.",)
    assert sample_episodes(hall(), space, 2, seed=0)[0].goal_object is None


def test_a_scene_too_small_for_any_episode_is_told():
    small = hall(size=1.0)
    with pytest.raises(ValueError, match="Scene hall: no start is"):
        sample_episodes(small, NavigableSpace(small), 2, seed=0)


def test_seeds_of_splits_differ_and_grow_with_the_count():
    train, unseen = scene_seeds(0, "train", 200), scene_seeds(0, "val_unseen", 200)
    assert not set(train) & set(unseen)
    assert not set(train) & set(scene_seeds(1, "train", 200))
    assert len(set(train)) == 200
    assert scene_seeds(0, "train", 20) == train[:20]
