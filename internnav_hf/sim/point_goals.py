"""Point-goal navigation as DD-PPO learns it (arXiv 1911.00357): a gymnasium environment.

Actions: 0 stop, 1 forward, 2 and 3 turn left and right, by 0.25 m and 10 degrees unless the rules
say otherwise. A step costs 0.01 and earns the metres that the way to the goal got shorter; stopping
within 0.2 m of it earns 2.5. The published code gives these 2.5 as they are, though its measure of
success is SPL; the paper's text weights them with it. An episode ends when the robot stops, or
after 500 steps; both count alike.

Differs: episodes are drawn anew, a start anywhere and one of a scene's goals that is as far as
asked, while Gibson's are a list that leaves out most straight ways.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from internnav_hf.camera import CameraSpec
from internnav_hf.geometry import (
    Action,
    camera_pose,
    world_to_robot,
    wrap_angle,
)
from internnav_hf.models.ddppo.views import scaled_depth, sized_rgb
from internnav_hf.sim.navigation import NavigableSpace
from internnav_hf.sim.render import Renderer
from internnav_hf.sim.scenes import Scene, SceneConfig, generate_scene, load_scene

NUM_ACTIONS = 4
RESULTS = ("success", "spl", "episode_return", "episode_steps")
"""What is known of a finished episode, in this order."""
_GOALS_PER_SCENE = 32  # the ways to a goal take longer to find than a hundred views
_MOST_SCENES, _MOST_FIELDS = 64, 512  # kept by a process
_TRIES = 300

Observation = dict[str, np.ndarray]


@dataclass(frozen=True)
class PointGoalRules:
    """Actions, rewards, ends and distances of episodes."""

    forward_step_m: float = 0.25
    turn_angle_deg: float = 10.0
    success_distance_m: float = 0.2
    max_steps: int = 500
    step_reward: float = -0.01
    success_reward: float = 2.5
    allow_sliding: bool = True
    min_distance_m: float = 1.0
    """of walking, from start to goal"""
    max_distance_m: float = 30.0


@dataclass(frozen=True)
class PointGoalTask:
    """Scenes and how one drives through them; can be pickled, so that each process builds its own.

    `sources` are seeds of generated scenes or paths of meshes; depths in `depth_range_m` become
    0 .. 1. The camera's views are shown with `view_size` (rows, columns), by default its own.
    """

    sources: tuple[int | str, ...]
    camera: CameraSpec
    depth_range_m: tuple[float, float] = (0.0, 10.0)
    config: SceneConfig = field(default_factory=SceneConfig)
    rules: PointGoalRules = field(default_factory=PointGoalRules)
    grid_resolution_m: float = 0.05
    view_size: tuple[int, int] | None = None

    @property
    def image_height(self) -> int:
        """Rows of what is shown."""
        return self.camera.height if self.view_size is None else self.view_size[0]

    @property
    def image_width(self) -> int:
        """Columns of what is shown."""
        return self.camera.width if self.view_size is None else self.view_size[1]

    @property
    def min_depth_m(self) -> float:
        """What is shown as 0."""
        return self.depth_range_m[0]

    @property
    def max_depth_m(self) -> float:
        """What is shown as 1."""
        return self.depth_range_m[1]

    @property
    def cameras(self) -> list[CameraSpec]:
        """The one, as data sets tell theirs."""
        return [self.camera]

    def scenes(self) -> dict[str, list[Path]]:
        """Files of scenes by the name of their folder; "simulated" for those that are generated."""
        files = [Path(source) for source in self.sources if isinstance(source, str)]
        found = {"simulated": []} if len(files) < len(self.sources) else {}
        for file in files:
            found.setdefault(file.parent.name, []).append(file)
        return found

    def environments(self, seeds: Sequence[int]) -> list["PointGoalEnv"]:
        """One for each seed; they share the scenes."""
        places = Places(self)
        return [PointGoalEnv(self, places, seed) for seed in seeds]

    def place(self, index: int) -> "Place":
        """Build a scene."""
        source = self.sources[index]
        is_file = isinstance(source, str)
        scene = load_scene(source) if is_file else generate_scene(source, self.config)
        return Place(scene, NavigableSpace(scene, self.grid_resolution_m), Renderer(scene))


@dataclass(frozen=True)
class Place:
    """A scene, where a robot can be in it, and how it looks."""

    scene: Scene
    space: NavigableSpace
    renderer: Renderer

    @cached_property
    def goals(self) -> np.ndarray:
        """(G, 2) places, the same for each environment."""
        rng = np.random.default_rng(0)
        return np.stack([self.space.sample(rng) for _ in range(_GOALS_PER_SCENE)])


class Places:
    """Scenes of a task, and metres to goals in them, made when they are needed; the latest stay."""

    def __init__(self, task: PointGoalTask) -> None:
        self.place = lru_cache(_MOST_SCENES)(task.place)
        self.metres = lru_cache(_MOST_FIELDS)(self._metres)

    def _metres(self, scene: int, goal: tuple[float, float]) -> np.ndarray:
        return self.place(scene).space.distance_field(np.array(goal)).values.astype(np.float32)


class PointGoalEnv(gymnasium.Env[Observation, int]):
    """Episodes in the scenes of a task, one after another.

    Observations: `pointgoal` (2,) metres to the goal and its bearing, positive to the left; `depth`
    (H, W, 1) in 0 .. 1; `rgb` (H, W, 3) uint8. `state` and `restore` let a run go on exactly.
    """

    metadata = {"render_modes": []}

    def __init__(self, task: PointGoalTask, places: Places, seed: int) -> None:
        """`seed` decides on the episodes."""
        self.task, self.rules, self._places = task, task.rules, places
        self._seed: int | None = seed
        self.action_space = spaces.Discrete(NUM_ACTIONS)
        size = (task.image_height, task.image_width)
        self.observation_space = spaces.Dict(
            {
                "pointgoal": spaces.Box(-np.inf, np.inf, (2,), np.float32),
                "depth": spaces.Box(0, 1, (*size, 1), np.float32),
                "rgb": spaces.Box(0, 255, (*size, 3), np.uint8),
            }
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Draw an episode and start it."""
        super().reset(seed=self._seed if seed is None else seed)
        self._seed = None  # the constructor's seed counts for the first reset only
        self._draw(int(self.np_random.integers(len(self.task.sources))))
        self._shortest = self._distance
        return self._observe(), self._info()

    def step(self, action: int) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Gymnasium's five values; `terminated` after a stop, `truncated` after `max_steps`."""
        before, action = self._distance, Action(action)
        if action == Action.FORWARD:
            self._advance()
        elif action in (Action.TURN_LEFT, Action.TURN_RIGHT):
            turn = np.radians(self.rules.turn_angle_deg)
            left = action == Action.TURN_LEFT
            self._yaw = float(wrap_angle(self._yaw + (turn if left else -turn)))
        elif action != Action.STOP:
            raise ValueError(f"PointGoalEnv: found action {int(action)}, expected 0 to 3.")
        self._num_steps += 1
        stopped = action == Action.STOP
        self._success = stopped and self._distance <= self.rules.success_distance_m
        reward = self.rules.step_reward + before - self._distance
        reward += self.rules.success_reward * self._success
        self._return += reward
        truncated = not stopped and self._num_steps >= self.rules.max_steps
        return self._observe(), reward, stopped, truncated, self._info()

    def state(self) -> dict[str, Any]:
        """The episode and the generator that draws the next ones: numbers only."""
        return {
            "generator": self.np_random.bit_generator.state,
            "scene": self._scene,
            "pose": [float(value) for value in (*self._xy, self._yaw)],
            "goal": [float(value) for value in self._goal],
            "shortest": self._shortest,
            "walked": self._walked,
            "num_steps": self._num_steps,
            "return": self._return,
        }

    def restore(self, state: dict[str, Any]) -> Observation:
        """Go on from a `state`; returns what is seen there."""
        self._seed = None
        self.np_random.bit_generator.state = state["generator"]
        self._start(state["scene"], state["pose"], state["goal"])
        self._shortest, self._walked = state["shortest"], state["walked"]
        self._num_steps, self._return = state["num_steps"], state["return"]
        return self._observe()

    def _draw(self, scene: int) -> None:
        """Start at a place and a goal that fit."""
        place, rng = self._places.place(scene), self.np_random
        low, high = self.rules.min_distance_m, self.rules.max_distance_m
        for _ in range(_TRIES):
            start = place.space.sample(rng)
            goal = place.goals[rng.integers(len(place.goals))]
            if np.hypot(*(goal - start)) > high:
                continue
            self._start(scene, (*start, rng.uniform(-np.pi, np.pi)), goal)
            if low <= self._distance <= high:
                return
        raise ValueError(
            f"Scene {place.scene.name}: no start is {low:g} to {high:g} m of walking from a goal."
        )

    def _start(self, scene: int, pose: Sequence[float], goal: Sequence[float]) -> None:
        self._scene, self.place = scene, self._places.place(scene)
        self._xy, self._yaw = np.array(pose[:2], dtype=np.float64), float(pose[2])
        self._goal = np.array(goal, dtype=np.float64)
        self._num_steps, self._walked, self._return, self._success = 0, 0.0, 0.0, False
        self._distance = self._geodesic_distance()

    def _advance(self) -> None:
        space = self.place.space
        move = space.slide if self.rules.allow_sliding else space.move
        step = self.rules.forward_step_m * np.array([np.cos(self._yaw), np.sin(self._yaw)])
        reached, _ = move(self._xy, self._xy + step)
        self._walked += float(np.hypot(*(reached - self._xy)))
        self._xy = reached
        self._distance = self._geodesic_distance()

    def _geodesic_distance(self) -> float:
        """The straight line if it is free, else the length on the grid (at most 8% longer)."""
        space, goal = self.place.space, self._goal
        if space.straight_line_is_free(self._xy, goal):
            return float(np.hypot(*(goal - self._xy)))
        metres = self._places.metres(self._scene, (float(goal[0]), float(goal[1])))
        return float(space.lookup(metres, self._xy, outside=np.inf))

    def _observe(self) -> Observation:
        camera = self.task.camera
        pose = (float(self._xy[0]), float(self._xy[1]), self._yaw)
        T_world_camera = camera_pose(*pose, camera.height_m, np.radians(camera.pitch_deg))
        view = self.place.renderer.render(T_world_camera, camera)
        depth, rgb = scaled_depth(view.depth, self.task).numpy(), view.rgb
        if rgb.shape[:2] != depth.shape[:2]:
            rgb = sized_rgb(rgb, self.task).numpy()
        x, y = world_to_robot(self._goal, pose)
        goal = np.array([np.hypot(x, y), np.arctan2(y, x)], dtype=np.float32)
        return {"pointgoal": goal, "depth": depth, "rgb": rgb}

    def _info(self) -> dict[str, Any]:
        longest = max(self._shortest, self._walked)  # 0 for a start at the goal
        spl = self._success * (self._shortest / longest if longest else 1.0)
        return {
            "success": float(self._success),
            "spl": float(spl),
            "episode_return": self._return,
            "episode_steps": float(self._num_steps),
            "geodesic_distance": self._distance,
        }
