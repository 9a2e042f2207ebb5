"""A small course: one scene of two rooms, a few episodes, a small camera."""

import pytest

from internnav_hf.camera import CameraSpec
from internnav_hf.evaluation.course import Course, unseen_scenes
from internnav_hf.sim.scenes import SceneConfig

CAMERA = CameraSpec(width=64, height=48)


@pytest.fixture(scope="session")
def course() -> Course:
    config = SceneConfig(num_rooms=(2, 2), num_objects=(3, 3))
    return Course(unseen_scenes(1, seed=0, config=config), num_episodes=4, seed=0)


@pytest.fixture
def make_env(course):
    return lambda name: course.make_env(name, CAMERA, success_distance=1.0, max_steps=120)
