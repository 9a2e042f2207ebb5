"""Starts and goals of visual navigation."""

from dataclasses import replace

import numpy as np
import pytest

from internnav_hf.evaluation.arguments import TASKS
from internnav_hf.evaluation.visual_navigation.episodes import (
    DrivingScenes,
    EpisodeRules,
    arrival_heading,
)
from internnav_hf.geometry import wrap_angle
from internnav_hf.sim.scenes import generate_scene, scene_config
from tests.evaluation.visual_navigation.scenes import CAMERA, SCENES
from tests.sim.boxes import hall

RULES = EpisodeRules(min_distance=2.0, max_distance=4.5, heading_spread_deg=20.0)
SPACE = SCENES.places["hall"].space


@pytest.mark.parametrize("task", TASKS[:3])
def test_starts_face_goals_that_are_as_far_as_asked(task):
    found = SCENES.tasks(task, RULES, 12, seed=0)
    assert len(found) == 12
    assert len({episode.episode_id for _, episode in found}) == 12
    for name, episode in found:
        assert name == episode.scene_name == "hall"
        start, goal = np.array(episode.start[:2]), np.array(episode.goal[:2])
        assert RULES.min_distance <= np.hypot(*(goal - start)) <= RULES.max_distance
        assert np.hypot(*(goal - start)) == pytest.approx(episode.straight_distance)
        assert episode.straight_distance <= episode.geodesic_distance + 1e-9
        assert (SPACE.lookup(SPACE.clearance, np.stack([start, goal]), 0) >= RULES.clearance).all()
        turn = wrap_angle(np.arctan2(*(goal - start)[::-1]) - episode.start[2])
        assert abs(turn) <= np.radians(20) + 1e-9


def test_tasks_share_their_pairs_and_seeds_do_not():
    point, image = (SCENES.tasks(task, RULES, 5, seed=0) for task in ("point-goal", "image-goal"))
    assert [e.start for _, e in point] == [e.start for _, e in image]
    other = SCENES.tasks("point-goal", RULES, 5, seed=1)
    assert [e.start for _, e in point] != [e.start for _, e in other]


def test_a_goals_picture_shows_furniture_where_there_is_some():
    scene = generate_scene(3, scene_config("easy"))
    scenes = DrivingScenes([scene], CAMERA)
    shares = [
        (scenes.view(scene.name, episode.goal).instances > 0).mean()
        for task in ("point-goal", "image-goal")
        for _, episode in scenes.tasks(task, RULES, 15, seed=0)
    ]
    assert min(shares[:15]) < 0.02 <= min(shares[15:])


def test_exploring_has_no_goal():
    for _, episode in SCENES.tasks("no-goal", RULES, 5, seed=0):
        assert episode.goal is None
        assert episode.straight_distance == 0


def test_the_first_view_shows_a_pixel_goal():
    rules = replace(RULES, heading_spread_deg=60.0)
    free = [
        bool(SPACE.straight_line_is_free(np.array(e.start[:2]), np.array(e.goal[:2])))
        for task in ("point-goal", "pixel-goal")
        for _, e in SCENES.tasks(task, rules, 30, seed=0)
    ]
    assert sum(free[:30]) < 25  # the block is in the way of some points
    assert sum(free[30:]) > sum(free[:30])  # and of few that are seen; it can be passed closely


def test_goals_can_be_behind_something():
    blocked = SCENES.tasks("point-goal", replace(RULES, only_blocked=True), 5, seed=0)
    for _, episode in blocked:
        assert len(episode.reference_path) > 2
        assert episode.geodesic_distance > episode.straight_distance


def test_an_image_looks_along_the_way():
    heading = arrival_heading(SPACE, np.array([1.0, 1.0]), np.array([5.0, 1.0]))
    assert heading == pytest.approx(0, abs=0.3)
    round_the_block = arrival_heading(SPACE, np.array([1.0, 3.0]), np.array([4.0, 3.0]))
    assert abs(round_the_block) > 0.5


def test_a_scene_that_is_too_small_is_named():
    with pytest.raises(ValueError, match="--task point-goal: no scene has a start and a goal"):
        SCENES.tasks("point-goal", EpisodeRules(min_distance=20, max_distance=30), 1, seed=0)
    with pytest.raises(ValueError, match="expected two lengths in order"):
        EpisodeRules(min_distance=5, max_distance=4)
    with pytest.raises(ValueError, match="--heading_spread_deg: found nan, expected 0 to 180"):
        EpisodeRules(heading_spread_deg=float("nan"))


def test_the_digest_tells_courses_apart():
    tasks = SCENES.tasks("point-goal", RULES, 2, seed=0)
    same = DrivingScenes([SCENES.scene("hall")], CAMERA)
    assert same.digest(tasks) == SCENES.digest(tasks)
    others = [
        DrivingScenes([hall()], CAMERA).digest(tasks),
        DrivingScenes([SCENES.scene("hall")], replace(CAMERA, width=32)).digest(tasks),
        SCENES.digest(tasks[:1]),
    ]
    assert len({SCENES.digest(tasks), *others}) == 4
