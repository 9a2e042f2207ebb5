"""VLN-CE's continuous environment as a gymnasium environment: forward 0.25 m, turn 15°, look, STOP.

Differs from Habitat's: a robot that meets an obstacle stops there and does not slide along it,
unless `allow_sliding`, and looking down costs no step, as in the published evaluation.
"""

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from internnav_hf.camera import CameraSpec
from internnav_hf.geometry import FORWARD_STEP_M, TURN_STEP, Action, camera_pose, wrap_angle
from internnav_hf.sim.episodes import NavigationEpisode
from internnav_hf.sim.navigation import NavigableSpace
from internnav_hf.sim.render import Renderer, Rendering
from internnav_hf.sim.scenes import Scene

Observation = dict[str, np.ndarray]


class NavigationEnv(gymnasium.Env[Observation, int]):
    """One scene and its episodes.

        Actions are `geometry.Action`. After LOOK_DOWN the observation shows the same place at the
    look-down pitch; LOOK_UP and every step return to the ordinary pitch. A second look in a row
        counts as a step, so that no agent looks forever. The reward is the progress in metres.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 4}

    def __init__(
        self,
        scene: Scene,
        camera: CameraSpec,
        episodes: Sequence[NavigationEpisode],
        success_distance_m: float = 1.0,
        max_steps: int = 500,
        seed: int = 0,
        space: NavigableSpace | None = None,
        render_mode: str | None = None,
        allow_sliding: bool = False,
    ) -> None:
        if not episodes:
            raise ValueError(f"NavigationEnv of scene {scene.name} needs at least one episode.")
        self.scene, self.camera, self.episodes = scene, camera, list(episodes)
        self.success_distance_m, self.max_steps = success_distance_m, max_steps
        self.render_mode = render_mode
        self.space = space or NavigableSpace(scene)
        self._move = self.space.slide if allow_sliding else self.space.move
        self._renderer = Renderer(scene)
        self._seed: int | None = seed
        self.action_space = spaces.Discrete(len(Action))
        image = (camera.height, camera.width)
        self.observation_space = spaces.Dict(
            {
                "rgb": spaces.Box(0, 255, (*image, 3), np.uint8),
                "depth": spaces.Box(0, np.inf, image, np.float32),
            }
        )
        self._start(self.episodes[0])

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start `options["episode"]`, or one drawn from `episodes`."""
        super().reset(seed=self._seed if seed is None else seed)
        self._seed = None  # the constructor's seed counts for the first reset only
        episode = (options or {}).get("episode")
        if episode is None:
            episode = self.episodes[int(self.np_random.integers(len(self.episodes)))]
        self._start(episode)
        return self._observe(), self._info()

    def step(self, action: int) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Gymnasium's five values; `terminated` after STOP, `truncated` after `max_steps`."""
        action = Action(action)
        before, self._collided = self._distance, False
        is_look = action in (Action.LOOK_DOWN, Action.LOOK_UP)
        self.look_down = action == Action.LOOK_DOWN
        if action == Action.FORWARD:
            step = FORWARD_STEP_M * np.array([np.cos(self._yaw), np.sin(self._yaw)])
            self._xy, self._collided = self._move(self._xy, self._xy + step)
            self._distance = self._geodesic_distance()
        elif action in (Action.TURN_LEFT, Action.TURN_RIGHT):
            turn = TURN_STEP if action == Action.TURN_LEFT else -TURN_STEP
            self._yaw = float(wrap_angle(self._yaw + turn))
        self.num_steps += not is_look or self._looked
        self._looked = is_look
        self.stopped = action == Action.STOP
        truncated = not self.stopped and self.num_steps >= self.max_steps
        reward = before - self._distance
        return self._observe(), reward, self.stopped, truncated, self._info()

    def render(self) -> np.ndarray:
        """The current view (H, W, 3) uint8."""
        return self._observe()["rgb"]

    def render_view(self, pitch_deg: float) -> Rendering:
        """The image from the current position at another pitch; the state does not change."""
        return self._renderer.render(self.camera_pose(pitch_deg), self.camera)

    def camera_pose(self, pitch_deg: float) -> np.ndarray:
        """T_world_camera (4, 4) at the current position."""
        x, y = self._xy
        return camera_pose(x, y, self._yaw, self.camera.height_m, np.radians(pitch_deg))

    @property
    def pitch_deg(self) -> float:
        """Pitch of the current view, in degrees down."""
        return self.camera.look_down_pitch_deg if self.look_down else self.camera.pitch_deg

    def _start(self, episode: NavigationEpisode) -> None:
        self.episode = episode
        x, y, self._yaw = episode.start
        self._xy = np.array([x, y])
        self.num_steps, self.look_down, self._looked = 0, False, False
        self.stopped, self._collided = False, False
        self._field = self.space.distance_field(np.array(episode.goal_xy))
        self._distance = self._geodesic_distance()

    def _geodesic_distance(self) -> float:
        """The straight line if it is free, else the length on the grid (at most 8% longer)."""
        goal = np.array(self.episode.goal_xy)
        if self.space.straight_line_is_free(self._xy, goal):
            return float(np.linalg.norm(goal - self._xy))
        return float(self._field(self._xy))

    def _observe(self) -> Observation:
        view = self.render_view(self.pitch_deg)
        return {"rgb": view.rgb, "depth": view.depth}

    def _info(self) -> dict[str, Any]:
        x, y = self._xy
        return {
            "instruction": self.episode.instructions[0],
            "position": (float(x), float(y)),
            "yaw": self._yaw,
            "T_world_camera": self.camera_pose(self.pitch_deg),
            "pitch_deg": self.pitch_deg,
            "geodesic_distance": self._distance,
            "collided": self._collided,
            "num_steps": self.num_steps,
            "success": self.stopped and self._distance <= self.success_distance_m,
        }


def episode_name(env: NavigationEnv) -> str:
    """Unique name of the current episode; it seeds random draws, whatever runs in parallel."""
    return f"{env.scene.name}/{env.episode.episode_id}"
