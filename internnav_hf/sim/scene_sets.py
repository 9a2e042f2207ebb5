"""Sets of scenes for evaluation, which are in no training dataset, and the episodes in them."""

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from internnav_hf.camera import CameraSpec
from internnav_hf.sim.env import NavigationEnv
from internnav_hf.sim.episodes import NavigationEpisode, sample_episodes, scene_seeds
from internnav_hf.sim.navigation import NavigableSpace
from internnav_hf.sim.scenes import Scene, SceneConfig, generate_scene

Task = tuple[str, NavigationEpisode]  # scene name, episode

# Image size for agents that do not use the image, so that rendering costs almost nothing.
BLIND_SIZE = {"width": 8, "height": 6}

SPLIT = "evaluation"  # for `scene_seeds`; datasets have other splits, so no scene is shared


@dataclass
class SceneWithEpisodes:
    """A scene, its navigable space and its episodes."""

    scene: Scene
    space: NavigableSpace
    episodes: list[NavigationEpisode]


class SceneSet:
    """Scenes with episodes, by name; makes environments in them."""

    def __init__(
        self, scenes: list[Scene], num_episodes: int, seed: int, min_distance_m: float = 2.0
    ):
        """Draws `num_episodes` in each scene, each at least `min_distance_m` of walking long."""
        self.scenes: dict[str, SceneWithEpisodes] = {}
        for position, scene in enumerate(scenes):
            space = NavigableSpace(scene)
            episodes = sample_episodes(scene, space, num_episodes, seed + position, min_distance_m)
            self.scenes[scene.name] = SceneWithEpisodes(scene, space, episodes)

    def scene(self, name: str) -> Scene:
        """The scene of that name."""
        return self.scenes[name].scene

    @property
    def tasks(self) -> list[Task]:
        """Every episode, scene by scene."""
        return [(name, episode) for name, s in self.scenes.items() for episode in s.episodes]

    def digest(self) -> str:
        """A hash of the scenes and episodes themselves, not only of their names and seeds."""
        content = hashlib.sha256()
        for name, place in self.scenes.items():
            content.update(name.encode())
            hash_scene(content, place.scene)
            for episode in place.episodes:
                task = (episode.episode_id, episode.start, episode.goal_xy, episode.instructions)
                content.update(repr(task).encode())
        return content.hexdigest()

    def make_env(
        self,
        name: str,
        camera: CameraSpec,
        success_distance: float,
        max_steps: int,
        see: bool = True,
        allow_sliding: bool = False,
    ) -> NavigationEnv:
        """An environment in the named scene; with `see=False` its images are tiny."""
        place = self.scenes[name]
        camera = camera if see else replace(camera, **BLIND_SIZE)
        return NavigationEnv(
            place.scene,
            camera,
            place.episodes,
            success_distance_m=success_distance,
            max_steps=max_steps,
            space=place.space,
            allow_sliding=allow_sliding,
        )


def hash_scene(content: Any, scene: Scene) -> None:
    """Add everything that is visible of a scene to the hash `content`."""
    arrays = [scene.vertices, scene.faces, scene.face_colors]
    if scene.textures is not None:
        arrays += [*scene.textures.images, scene.textures.face_texture, scene.textures.face_uv]
    for array in arrays:
        content.update(repr((array.shape, array.dtype.str)).encode())
        content.update(np.ascontiguousarray(array).tobytes())


def unseen_scenes(num_scenes: int, seed: int, config: SceneConfig | None = None) -> list[Scene]:
    """Generated scenes that are in no dataset, whatever the dataset's seed."""
    seeds = scene_seeds(seed, SPLIT, num_scenes)
    scenes = [generate_scene(scene_seed, config) for scene_seed in seeds]
    return [replace(scene, name=f"unseen_{i:03d}") for i, scene in enumerate(scenes)]
