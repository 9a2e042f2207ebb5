"""A wheeled robot that moves continuously: the visual-navigation benchmark's counterpart of `env`.

A unicycle: in each control period it drives at one speed and turns at one rate, exactly on an arc.
Published (NavDP's benchmark): Dingo base in IsaacSim, control every 0.15 s, at most 0.5 m/s and
0.5 rad/s. Differences: no dynamics, so speeds are reached at once, and an obstacle
stops the robot, or lets it slide, while the published one is pushed back.
"""

import numpy as np

from internnav_hf.camera import CameraSpec
from internnav_hf.geometry import camera_pose, wrap_angle
from internnav_hf.sim.navigation import NavigableSpace
from internnav_hf.sim.render import Renderer, Rendering
from internnav_hf.sim.scenes import Scene
from internnav_hf.sim.semantic_views import class_colours_of

_LONGEST_CHORD_TURN = 0.1  # rad; arcs are checked for obstacles in straight pieces


class WheeledRobot:
    """One robot in one scene; `space` and `renderer` are created if they are not given.

    Attributes, the current state: `pose` (3,) x, y, yaw in the world, `time_s` driven so far,
    `speed` (forward m/s, turn rad/s) reached in the last step, `collided` in the last step.
    """

    def __init__(
        self,
        scene: Scene,
        camera: CameraSpec,
        space: NavigableSpace | None = None,
        renderer: Renderer | None = None,
        period_s: float = 0.15,
        max_speed: float = 0.5,
        max_turn_rate: float = 0.5,
        allow_sliding: bool = False,
    ) -> None:
        limits = {"period_s": period_s, "max_speed": max_speed, "max_turn_rate": max_turn_rate}
        for name, value in limits.items():
            if value <= 0:
                raise ValueError(f"WheeledRobot: {name} must be positive; found {value}.")
        self.scene, self.camera = scene, camera
        self.space = space or NavigableSpace(scene)
        self.period_s, self.max_speed, self.max_turn_rate = period_s, max_speed, max_turn_rate
        self._renderer = renderer or Renderer(scene)
        self._move = self.space.slide if allow_sliding else self.space.move
        self.place((*self.space.nearest(np.mean(scene.bounds, axis=0)[:2]), 0.0))

    def place(self, pose: tuple[float, float, float] | np.ndarray) -> None:
        """Put the robot at (x, y, yaw), at rest, and set its clock to 0."""
        x, y, yaw = (float(value) for value in pose)
        if not self.space.is_navigable(np.array([x, y])):
            raise ValueError(f"Scene {self.scene.name}: a robot cannot stand at ({x:.2f}, {y:.2f})")
        self.pose = np.array([x, y, wrap_angle(yaw)])
        self.time_s, self.speed, self.collided = 0.0, (0.0, 0.0), False

    def step(self, forward_speed: float, turn_rate: float) -> bool:
        """Drive for one period, in m/s and rad/s; True if an obstacle blocked the robot.

        Speeds beyond the robot's limits are clipped. A blocked robot still turns: it is round.
        """
        if not np.isfinite([forward_speed, turn_rate]).all():
            raise ValueError(
                f"WheeledRobot: found speeds {forward_speed}, {turn_rate}, expected finite numbers."
            )
        forward = float(np.clip(forward_speed, -self.max_speed, self.max_speed))
        turn = float(np.clip(turn_rate, -self.max_turn_rate, self.max_turn_rate))
        before, xy = self.pose, self.pose[:2]
        self.collided = False
        targets = arc(before, forward * self.period_s, turn * self.period_s)
        for step in np.diff(targets[:, :2], axis=0, prepend=before[None, :2]):
            xy, collided = self._move(xy, xy + step)
            self.collided |= collided
        self.pose = np.array([*xy, wrap_angle(targets[-1, 2])])
        chord_yaw = before[2] + turn * self.period_s / 2
        moved = (xy - before[:2]) @ (np.cos(chord_yaw), np.sin(chord_yaw))
        self.speed = (float(moved) / self.period_s, turn)
        self.time_s += self.period_s
        return self.collided

    @property
    def T_world_camera(self) -> np.ndarray:
        """(4, 4) at the current position and the camera's ordinary pitch."""
        return self._camera_pose(self.pose)

    def observe(self, semantics: bool = False) -> dict[str, np.ndarray]:
        """The current view: rgb (H, W, 3) uint8, depth (H, W) float32 in metres, 0 unknown; if
        asked for, semantics (H, W, 3) uint8, colours of classes.
        """
        view = self.render_at(self.pose)
        seen = {"rgb": view.rgb, "depth": view.depth}
        if semantics:
            seen["semantics"] = class_colours_of(view, self.T_world_camera, self.camera)
        return seen

    def render_at(self, pose: tuple[float, float, float] | np.ndarray) -> Rendering:
        """The robot's view from any (x, y, yaw), for example a goal's image."""
        return self._renderer.render(self._camera_pose(pose), self.camera)

    def _camera_pose(self, pose: tuple[float, float, float] | np.ndarray) -> np.ndarray:
        x, y, yaw = pose
        return camera_pose(x, y, yaw, self.camera.height_m, np.radians(self.camera.pitch_deg))


def arc(pose: np.ndarray, length_m: float, turn: float) -> np.ndarray:
    """(N, 3) poses along the arc after `pose` (3,); it turns by `turn` radians in total."""
    num_parts = int(np.ceil(abs(turn) / _LONGEST_CHORD_TURN)) or 1
    fractions = np.arange(1, num_parts + 1) / num_parts
    x, y, yaw = pose
    # The chord of an arc has the mean heading, and sinc(half the turn) of the arc's length.
    chord = fractions * length_m * np.sinc(fractions * turn / 2 / np.pi)
    heading = yaw + fractions * turn / 2
    return np.stack(
        [x + chord * np.cos(heading), y + chord * np.sin(heading), yaw + fractions * turn], axis=1
    )
