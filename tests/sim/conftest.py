"""Two furnished rooms, where a robot can be in them, and a camera of few pixels."""

import pytest

from internnav_hf.camera import CameraSpec
from internnav_hf.sim.navigation import NavigableSpace
from internnav_hf.sim.render import Renderer
from internnav_hf.sim.scenes import Scene, SceneConfig, generate_scene
from tests.tiny.scene_set import make_env, scene_set, simulated_data

__all__ = ["make_env", "scene_set", "simulated_data"]

TWO_ROOMS = SceneConfig(num_rooms=(2, 2), num_objects=(5, 5))


@pytest.fixture(scope="session")
def scene() -> Scene:
    return generate_scene(7, TWO_ROOMS)


@pytest.fixture(scope="session")
def space(scene) -> NavigableSpace:
    return NavigableSpace(scene)


@pytest.fixture(scope="session")
def renderer(scene) -> Renderer:
    return Renderer(scene)


@pytest.fixture(scope="session")
def camera() -> CameraSpec:
    return CameraSpec(width=128, height=96)
