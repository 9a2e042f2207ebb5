"""Visual-navigation episodes in unseen rooms: where they start and where their goals are.

Published (NavDP's benchmark): ten easy and ten hard cluttered scenes and forty homes and shops, 100
pairs of places in each; the places are 10-30 m apart for point goals in clutter (18.5 m on
average), 3-10 m for image goals there (6.9 m), 4-13.6 m in homes and 4-18.5 m in shops for both.
It has no pixel-goal task; ours is like the point-goal task, with goals that the first view shows.
Also differs: what a goal's image shows is not published; ours looks along the path to it, and shows
furniture if there is any.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from internnav_hf.arguments.ranges import option
from internnav_hf.camera import CameraSpec
from internnav_hf.evaluation.metrics import path_length
from internnav_hf.geometry import camera_pose, project, wrap_angle
from internnav_hf.sim.navigation import NavigableSpace
from internnav_hf.sim.render import Renderer, Rendering
from internnav_hf.sim.scene_sets import hash_scene
from internnav_hf.sim.scenes import Scene
from internnav_hf.sim.smooth_paths import STEERING_ROOM_M, planning_field

GOAL_KINDS = {
    "point-goal": "point",
    "image-goal": "image",
    "pixel-goal": "pixel",
    "no-goal": "none",
}
Pose = tuple[float, float, float]

_TRIES_PER_EPISODE = 400
_SEEN_WITHIN_M = 0.2  # between the goal's floor and what the view shows there
_LEAST_FURNITURE = 0.02  # of a goal's picture
_LAST_PIECE_M = 0.5  # of the way, which a goal's image looks along


@dataclass
class EpisodeRules:
    """Which starts and goals are drawn."""

    min_distance: float = option(
        3.0, "Metres from start to goal, straight. Published: 10 (point goals in clutter), 3, 4."
    )
    max_distance: float = option(10.0, "Metres at most. Published: 30 in clutter, 10, 13.6, 18.5.")
    heading_spread_deg: float = option(
        45.0, "A start faces its goal within this angle to either side; published ones are given."
    )
    clearance: float = option(0.35, "Metres from a start or goal to the nearest obstacle.")
    only_blocked: bool = option(False, "Only goals that no straight line reaches.")

    def __post_init__(self) -> None:
        if not 0 <= self.min_distance < self.max_distance:
            raise ValueError(
                f"--min_distance, --max_distance: found {self.min_distance} and "
                f"{self.max_distance}, expected two lengths in order."
            )
        for name, most in {"heading_spread_deg": 180, "clearance": np.inf}.items():
            if not 0 <= getattr(self, name) <= most:
                raise ValueError(f"--{name}: found {getattr(self, name)}, expected 0 to {most}.")


@dataclass(frozen=True)
class DrivingEpisode:
    """`start` and `goal` are (x, y, yaw); there is no goal if exploring is the task.

    `reference_path` (N, 2) is the shortest path from one to the other, `geodesic_distance` metres.
    """

    episode_id: str
    scene_name: str
    start: Pose
    goal: Pose | None
    reference_path: np.ndarray
    geodesic_distance: float

    @property
    def straight_distance(self) -> float:
        """Metres from start to goal, through whatever is between."""
        return float(np.hypot(*(self.reference_path[-1] - self.reference_path[0])))


@dataclass
class Place:
    """A scene, where one can be in it, and how it looks."""

    scene: Scene
    space: NavigableSpace
    renderer: Renderer

    @cached_property
    def roomy(self) -> NavigableSpace:
        """Where a robot has room to steer: from each place here a way leads to each other."""
        return self.space.wider(STEERING_ROOM_M)


class DrivingScenes:
    """Scenes by name, and episodes in them. What is drawn depends on the seed and the scene alone:
    tasks share starts and goals, but for those that a pixel or a picture does not suit.
    """

    def __init__(self, scenes: list[Scene], camera: CameraSpec):
        self.camera = camera
        self.places = {
            scene.name: Place(scene, NavigableSpace(scene), Renderer(scene)) for scene in scenes
        }

    def scene(self, name: str) -> Scene:
        """The scene of that name."""
        return self.places[name].scene

    def view(self, name: str, pose: Pose) -> Rendering:
        """What a robot at `pose` sees in the named scene."""
        pitch = np.radians(self.camera.pitch_deg)
        T_world_camera = camera_pose(*pose, self.camera.height_m, pitch)
        return self.places[name].renderer.render(T_world_camera, self.camera)

    def tasks(
        self, task: str, rules: EpisodeRules, num_episodes: int, seed: int
    ) -> list[tuple[str, DrivingEpisode]]:
        """(scene name, episode), `num_episodes` in each scene; fewer if a scene is too small.

        ValueError if no scene has one.
        """
        found = []
        for position, (name, place) in enumerate(self.places.items()):
            rng = np.random.default_rng([seed, position])
            for _ in range(_TRIES_PER_EPISODE * num_episodes):
                number = sum(scene == name for scene, _ in found)
                if number == num_episodes:
                    break
                episode = self._draw(task, place, rules, rng, f"{task}_{number:03d}")
                found += [(name, episode)] if episode is not None else []
        if not found:
            raise ValueError(
                f"--task {task}: no scene has a start and a goal that are {rules.min_distance:g} "
                f"to {rules.max_distance:g} m apart, {rules.clearance:g} m from obstacles."
            )
        return found

    def digest(self, tasks: list[tuple[str, DrivingEpisode]]) -> str:
        """Differs wherever the camera, scenes or these episodes do, whatever they are called."""
        content = hashlib.sha256(repr(self.camera).encode())
        for name, place in self.places.items():
            content.update(name.encode())
            hash_scene(content, place.scene)
        for name, episode in tasks:
            content.update(repr((name, episode.episode_id, episode.start, episode.goal)).encode())
        return content.hexdigest()

    def _draw(
        self,
        task: str,
        place: Place,
        rules: EpisodeRules,
        rng: np.random.Generator,
        episode_id: str,
    ) -> DrivingEpisode | None:
        """None when the draw does not fit."""
        space, name = place.space, place.scene.name
        start, goal = place.roomy.sample(rng), place.roomy.sample(rng)
        turn = rng.uniform(-1, 1)
        if task == "no-goal":
            pose = (float(start[0]), float(start[1]), float(turn * np.pi))
            is_free = space.lookup(space.clearance, start, 0.0) >= rules.clearance
            return DrivingEpisode(episode_id, name, pose, None, start[None], 0) if is_free else None
        if not fits(space, start, goal, rules):
            return None
        yaw = np.arctan2(*(goal - start)[::-1]) + np.radians(turn * rules.heading_spread_deg)
        pose = (float(start[0]), float(start[1]), float(wrap_angle(yaw)))
        if task == "pixel-goal" and not self._sees(place, pose, goal):
            return None
        goal_pose = (float(goal[0]), float(goal[1]), arrival_heading(space, start, goal))
        if task == "image-goal" and not self._shows_something(place, goal_pose):
            return None
        path = space.shortest_path(start, goal)
        return DrivingEpisode(episode_id, name, pose, goal_pose, path, path_length(path))

    def _shows_something(self, place: Place, pose: Pose) -> bool:
        """Whether there is more to see than a bare wall, if there is furniture at all."""
        seen = self.view(place.scene.name, pose).instances > 0
        return not place.scene.objects or float(seen.mean()) >= _LEAST_FURNITURE

    def _sees(self, place: Place, pose: Pose, goal: np.ndarray) -> bool:
        """Whether the floor at the goal is in the view and nothing before it."""
        T_world_camera = camera_pose(*pose, self.camera.height_m, np.radians(self.camera.pitch_deg))
        floor = np.array([[*goal, 0.0]])
        (pixel,), (depth,) = project(floor, T_world_camera, self.camera.intrinsics)
        size = np.array([self.camera.width, self.camera.height])
        if not (depth > 0 and (pixel >= 0).all() and (pixel < size).all()):
            return False
        direction = (floor[0] - T_world_camera[:3, 3]) / depth  # length 1 along the optical axis
        _, seen, _ = place.renderer.cast(
            T_world_camera[:3, 3].astype(np.float32), direction[None].astype(np.float32)
        )
        return bool(abs(seen[0] - depth) < _SEEN_WITHIN_M)


def fits(space: NavigableSpace, start: np.ndarray, goal: np.ndarray, rules: EpisodeRules) -> bool:
    """Far enough from each other and from obstacles."""
    if not rules.min_distance <= np.linalg.norm(goal - start) <= rules.max_distance:
        return False
    if (space.lookup(space.clearance, np.stack([start, goal]), 0.0) < rules.clearance).any():
        return False
    return not (rules.only_blocked and space.straight_line_is_free(start, goal))


def arrival_heading(space: NavigableSpace, start: np.ndarray, goal: np.ndarray) -> float:
    """The heading in which a way that keeps clear of obstacles arrives."""
    field = planning_field(space, goal)
    path = field.path_from(start)
    before = path[-1 - min(len(path) - 1, round(_LAST_PIECE_M / space.resolution_m))]
    return float(np.arctan2(*(goal - before)[::-1]))
