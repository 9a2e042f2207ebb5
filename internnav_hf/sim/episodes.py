"""Navigation episodes: a start, a goal, a reference path and instructions.

A goal is not the object itself but a place next to it: within `STOP_DISTANCE_M` of its footprint,
in its room, where the robot can stand. The nearest of these places along the path is the goal.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from internnav_hf.geometry import wrap_angle
from internnav_hf.sim.instructions import describe
from internnav_hf.sim.navigation import DistanceField, NavigableSpace
from internnav_hf.sim.scenes import Scene, SceneObject

STOP_DISTANCE_M = 0.7
PLANNING_CLEARANCE_WEIGHT = 1.5
"""Paths keep clear of walls and corners if that is cheap; see `NavigableSpace.field_to`."""
_TRIES_PER_EPISODE = 60
_NEAR_M = (0.3, 1.5)
"""Smallest and largest distance of a start that is near its goal, in metres."""


@dataclass(frozen=True)
class NavigationEpisode:
    """One task. `start` is (x, y, yaw); `reference_path` (N, 2) leads from there to `goal_xy`.

    `goal_object` is None if the scene has no named objects; instructions then describe the path.
    """

    episode_id: str
    scene_name: str
    start: tuple[float, float, float]
    goal_xy: tuple[float, float]
    goal_object: SceneObject | None
    instructions: tuple[str, ...]
    reference_path: np.ndarray
    geodesic_distance: float


def sample_episodes(
    scene: Scene,
    space: NavigableSpace,
    num_episodes: int,
    seed: int,
    min_distance_m: float = 1.5,
    **options: Any,
) -> list[NavigationEpisode]:
    """Episodes of an `EpisodeSampler`; fewer in a small scene, ValueError if there is none."""
    rng = np.random.default_rng(seed)
    sampler = EpisodeSampler(scene, space, min_distance_m, **options)
    episodes: list[NavigationEpisode] = []
    for _ in range(_TRIES_PER_EPISODE * num_episodes):
        if len(episodes) == num_episodes:
            break
        drawn = sampler.draw(rng, f"{scene.name}_{len(episodes):04d}")
        if drawn is None:
            continue
        episode, field = drawn
        # The sampler compares the planning cost, which exceeds the path's length; near starts stay.
        is_near_start = float(field(np.array(episode.start[:2]))) < min_distance_m
        if is_near_start or episode.geodesic_distance >= min_distance_m:
            episodes.append(episode)
    if not episodes:
        raise ValueError(
            f"Scene {scene.name}: no start is {min_distance_m} m or more of walking from a goal."
        )
    return episodes


@dataclass
class EpisodeSampler:
    """Draws episodes in one scene: random starts, headings and goals; distance fields are computed
    once for each goal.

    Starts lie at least `min_distance_m` of walking from the goal; a `near_fraction` of them, for
    training data, lie anywhere within 1.5 m of it instead.
    """

    scene: Scene
    space: NavigableSpace
    min_distance_m: float = 1.5
    near_fraction: float = 0.0
    num_instructions: int = 2

    def __post_init__(self) -> None:
        self._goals = GoalFields(self.scene, self.space)

    def draw(
        self, rng: np.random.Generator, episode_id: str
    ) -> tuple[NavigationEpisode, DistanceField] | None:
        """An episode and the planning field to its goal; None if the drawn start does not fit."""
        near = rng.random() < self.near_fraction
        low, high = _NEAR_M if near else (self.min_distance_m, np.inf)
        goal, field = self._goals.draw(rng)
        start = _draw_start(self.space, field, rng, low, high)
        if start is None:
            return None
        here = np.array(start[:2])
        path = self.space.tighten(np.concatenate([[here], field.path_from(here)[1:]]))
        episode = NavigationEpisode(
            episode_id=episode_id,
            scene_name=self.scene.name,
            start=start,
            goal_xy=(float(path[-1][0]), float(path[-1][1])),
            goal_object=goal,
            instructions=describe(self.scene, path, start[2], goal, rng, self.num_instructions),
            reference_path=path,
            geodesic_distance=self.space.geodesic_distance(here, path[-1]),
        )
        return episode, field


class GoalFields:
    """Distance fields to the goals of one scene, each computed when it is first drawn."""

    def __init__(self, scene: Scene, space: NavigableSpace) -> None:
        self._space = space
        self._objects = [thing for thing in scene.objects if len(self._places(scene, thing))]
        self._cells = [self._places(scene, thing) for thing in self._objects]
        self._fields: dict[int, DistanceField] = {}

    def draw(self, rng: np.random.Generator) -> tuple[SceneObject | None, DistanceField]:
        """A goal and the planning field to it: an object, or any place if no object has a name."""
        if not self._objects:
            place = self._space.sample(rng)
            return None, self._space.distance_field(place, 0.0, PLANNING_CLEARANCE_WEIGHT)
        index = int(rng.integers(len(self._objects)))
        return self._objects[index], self._field(index)

    def of(self, episode: NavigationEpisode) -> DistanceField:
        """The planning field to the goal of an episode in this scene."""
        if episode.goal_object is None:
            goal = np.array(episode.goal_xy)
            return self._space.distance_field(goal, 0.0, PLANNING_CLEARANCE_WEIGHT)
        numbers = [thing.instance_id for thing in self._objects]
        return self._field(numbers.index(episode.goal_object.instance_id))

    def _field(self, index: int) -> DistanceField:
        if index not in self._fields:
            cells = self._cells[index]
            self._fields[index] = self._space.field_to(cells, PLANNING_CLEARANCE_WEIGHT)
        return self._fields[index]

    def _places(self, scene: Scene, thing: SceneObject) -> np.ndarray:
        """Cells (N, 2) next to an object, in the same room."""
        cells = np.argwhere(self._space.navigable)
        centers = self._space.center(cells)
        is_near = thing.distance(centers) <= STOP_DISTANCE_M
        if scene.rooms:
            is_near &= scene.rooms[thing.room].contains(centers)
        return cells[is_near]


def scene_seeds(seed: int, split: str, count: int) -> list[int]:
    """Seeds of a split's scenes; no two splits or base seeds share one (hashed to 63 bits)."""
    entropy = [seed, *split.encode()]
    words = np.random.SeedSequence(entropy).generate_state(count, np.uint64)
    return [int(word >> np.uint64(1)) for word in words]


def _draw_start(
    space: NavigableSpace, field: DistanceField, rng: np.random.Generator, low: float, high: float
) -> tuple[float, float, float] | None:
    """(x, y, yaw): half of the headings are random, half point roughly along the path."""
    xy = space.sample(rng)
    distance = float(field(xy))
    if not (np.isfinite(distance) and low <= distance <= high):
        return None
    yaw = rng.uniform(-np.pi, np.pi)
    if rng.random() < 0.5:
        ahead = field.path_from(xy)[:12][-1] - xy
        yaw = np.arctan2(ahead[1], ahead[0]) + rng.normal(0, 0.7)
    return float(xy[0]), float(xy[1]), float(wrap_angle(yaw))
