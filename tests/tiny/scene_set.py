"""A small scene_set: one scene of two rooms, a few episodes, a small camera."""

from pathlib import Path

import pytest

from internnav_hf.camera import CameraSpec
from internnav_hf.sim.scene_sets import SceneSet, unseen_scenes
from internnav_hf.sim.scenes import SceneConfig
from scripts import make_dataset

CAMERA = CameraSpec(width=64, height=48)


@pytest.fixture(scope="session")
def scene_set() -> SceneSet:
    config = SceneConfig(num_rooms=(2, 2), num_objects=(3, 3))
    return SceneSet(unseen_scenes(1, seed=0, config=config), num_episodes=4, seed=0)


@pytest.fixture(scope="session")
def simulated_data(tmp_path_factory) -> Path:
    """A data root with one held-out scene, with depth, seen by CAMERA."""
    out = tmp_path_factory.mktemp("simulated")
    sizes = {"scenes": 1, "held_out_scenes": 1, "episodes": 3, "width": 64, "height": 48}
    sizes |= {"num_rooms": [1, 1], "num_objects": [2, 2], "workers": 1}
    make_dataset.main(make_dataset.DatasetArguments(out=str(out), **sizes))
    return out


@pytest.fixture
def make_env(scene_set):
    return lambda name: scene_set.make_env(name, CAMERA, success_distance=1.0, max_steps=120)
