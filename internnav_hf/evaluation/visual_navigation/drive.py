"""One robot's visual-navigation episode: its goal at each place, how it drives, and when it ends.

The rules are those of NavDP's benchmark, each a setting. Differs from there: no physics (see
`sim.wheeled_robot`), and planning takes no time: a robot stands while it is asked.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from internnav_hf.arguments.ranges import check_counts, option
from internnav_hf.camera import CameraSpec
from internnav_hf.evaluation.agents import floor_pixel
from internnav_hf.evaluation.visual_navigation.episodes import DrivingEpisode, Place
from internnav_hf.geometry import robot_to_world, world_to_robot
from internnav_hf.policies.goals import Goal, ImageGoal, NoGoal, PixelGoal, PointGoal
from internnav_hf.sim.pure_pursuit import track
from internnav_hf.sim.render import camera_rays
from internnav_hf.sim.wheeled_robot import WheeledRobot

ARRIVED, STUCK, CONTACT, TIME_LIMIT = "arrived", "stuck", "contact", "time limit"
AREA_CELL_M = 0.1  # published


@dataclass
class DrivingRules:
    """How robots drive, and when an episode ends and succeeds."""

    success_radius: float = option(
        1.5, "Metres from the goal, where the episode ends, that count as reached (published)."
    )
    arrival_distance: float = option(
        1.0, "An episode ends closer to its goal than this (published), if the robot is slow."
    )
    arrival_speed: float = option(0.5, "Slow: m/s and rad/s add up to less (published).")
    stuck_steps: int = option(30, "An episode ends after so many control steps (published) ...")
    stuck_distance: float = option(0.1, "... in which the robot came no farther (published).")
    time_limit: float = option(120.0, "Seconds until an episode is cut off (published).")
    end_at_contact: bool = option(True, "Exploring ends at the first obstacle met (published).")
    control_period: float = option(0.15, "Seconds of a control step (published).")
    max_speed: float = option(0.5, "m/s (published).")
    max_turn_rate: float = option(0.5, "rad/s (published).")
    allow_sliding: bool = option(
        True, "A robot slides along an obstacle that it meets, as physics would have it."
    )
    steps_per_plan: int = option(
        4,
        "Control steps between plans: 0.3 m at full speed, near the 0.25 m of NavDP's frames. "
        "DD-PPO plans when its own step, 0.25 m or 10 degrees, is done.",
    )
    goal_marked_once: bool = option(
        False, "A pixel goal is marked in the first view only, and not again in every view."
    )
    area_depth: float = option(5.0, "Metres of depth that count as explored (published).")

    def __post_init__(self) -> None:
        check_counts(self, "stuck_steps", "steps_per_plan")
        positive = ("success_radius", "time_limit", "control_period", "max_speed", "max_turn_rate")
        for name in (*positive, "area_depth"):
            if not getattr(self, name) > 0:  # nor nan
                raise ValueError(f"--{name}: found {getattr(self, name)}, expected more than 0.")


class DrivingRun:
    """A robot in the middle of an episode of `task`.

    `positions` (a list of (2,)) are the start and every place after a control step, `collisions`
    whether that step met something.
    """

    def __init__(
        self,
        place: Place,
        camera: CameraSpec,
        rules: DrivingRules,
        task: str,
        episode: DrivingEpisode,
    ):
        self.place, self.rules, self.task, self.episode = place, rules, task, episode
        limits = (rules.control_period, rules.max_speed, rules.max_turn_rate, rules.allow_sliding)
        self.robot = WheeledRobot(place.scene, camera, place.space, place.renderer, *limits)
        self.robot.place(episode.start)
        self.positions = [self.robot.pose[:2].copy()]
        self.collisions: list[bool] = []
        self.ending: str | None = None
        self._explored: set[int] = set()

    def observe(self, semantics: bool = False) -> dict[str, np.ndarray]:
        """rgb and depth from here, and `semantics` if asked for; what they show is explored."""
        observation = self.robot.observe(semantics)
        if self.episode.goal is None:
            self._explore(observation["depth"])
        return observation

    def goal(self) -> Goal:
        """The goal of the task, from this place."""
        goal, pose = self.episode.goal, self.robot.pose
        if goal is None:
            return NoGoal()
        if self.task == "image-goal":
            return ImageGoal(self._goal_view)
        if self.task == "pixel-goal":
            if self.rules.goal_marked_once:
                pixel = floor_pixel(goal[:2], self.episode.start, self.robot.camera)
                return PixelGoal(pixel, self._first_view)
            return PixelGoal(floor_pixel(goal[:2], pose, self.robot.camera))
        x, y = world_to_robot(np.array(goal[:2]), pose)
        return PointGoal((float(x), float(y)))

    def follow(self, path: np.ndarray, motion: tuple[float, float] | None = None) -> str | None:
        """Follow `path` (K, 2), in the robot's frame, until the next plan; the ending, if any.

        `motion`, metres and radians: plan when it is done, to the nearest control step at full
        speed, instead of after `steps_per_plan`.
        """
        path_world = robot_to_world(path, self.robot.pose)
        for _ in range(self._control_steps(motion)):
            robot, rules = self.robot, self.rules
            speeds = track(path_world, robot.pose, rules.max_speed, rules.max_turn_rate)
            self.collisions.append(robot.step(*speeds))
            self.positions.append(robot.pose[:2].copy())
            self.ending = self._ending()
            if self.ending is not None:
                break
        return self.ending

    def _control_steps(self, motion: tuple[float, float] | None) -> int:
        rules = self.rules
        if motion is None:
            return rules.steps_per_plan
        seconds = max(abs(motion[0]) / rules.max_speed, abs(motion[1]) / rules.max_turn_rate)
        return max(1, round(seconds / rules.control_period))

    @property
    def goal_distance(self) -> float:
        """Metres to the goal in the plane; nan without a goal."""
        if self.episode.goal is None:
            return float("nan")
        return float(np.hypot(*(self.robot.pose[:2] - self.episode.goal[:2])))

    @property
    def explored_area(self) -> float:
        """m² of floor plan in which something was seen."""
        return len(self._explored) * AREA_CELL_M**2

    def _ending(self) -> str | None:
        rules, speed = self.rules, float(np.abs(self.robot.speed).sum())
        # At full speed along an arc the sum is equal to the limit but for rounding.
        is_slow = speed < rules.arrival_speed - 1e-3
        if self.goal_distance < rules.arrival_distance and is_slow:
            return ARRIVED
        if self.episode.goal is None and rules.end_at_contact and self.robot.collided:
            return CONTACT
        if len(self.positions) > rules.stuck_steps:
            moved = self.positions[-1] - self.positions[-1 - rules.stuck_steps]
            if np.hypot(*moved) < rules.stuck_distance:
                return STUCK
        over = self.robot.time_s > rules.time_limit - rules.control_period / 2
        return TIME_LIMIT if over else None

    @cached_property
    def _goal_view(self) -> np.ndarray:
        assert self.episode.goal is not None
        return self.robot.render_at(self.episode.goal).rgb

    @cached_property
    def _first_view(self) -> np.ndarray:
        return self.robot.render_at(self.episode.start).rgb

    def _explore(self, depth: np.ndarray) -> None:
        camera, T_world_camera = self.robot.camera, self.robot.T_world_camera
        rays, distance = camera_rays(camera.width, camera.height, camera.hfov_deg), depth.ravel()
        seen = (distance > 0) & (distance < self.rules.area_depth)
        R_world_camera, (x, y, _) = T_world_camera[:2, :3].astype(np.float32), T_world_camera[:3, 3]
        places = (rays[seen] * distance[seen, None]) @ R_world_camera.T + (x, y)
        cells = np.floor(places / AREA_CELL_M).astype(np.int32)
        self._explored.update(np.unique(cells.view(np.int64)).tolist())  # both in one number
