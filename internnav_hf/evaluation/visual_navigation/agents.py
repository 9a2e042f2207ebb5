"""Driving agents: they answer views and goals with paths, for many robots at once.

`PolicyAgent` drives any `policies.policy.GoalPolicy`; what is no policy needs no more than the
members of `DrivingAgent` to join the table.

An observation is {"rgb": (H, W, 3) uint8, "depth": (H, W) m}, a goal one of policies.goals.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from internnav_hf.camera import CameraSpec
from internnav_hf.evaluation.agents import episodes_of
from internnav_hf.evaluation.arguments import TASKS
from internnav_hf.evaluation.visual_navigation.drive import DrivingRun
from internnav_hf.evaluation.visual_navigation.episodes import GOAL_KINDS
from internnav_hf.geometry import camera_pose, pixel_to_floor, robot_to_world, world_to_robot
from internnav_hf.policies.goals import Goal, PixelGoal, PointGoal
from internnav_hf.policies.policy import GoalPolicy
from internnav_hf.sim.smooth_paths import FRAME_SPACING_M, planning_field, smooth_path

STRAIGHT_AHEAD_M = 2.4  # and the length of random arcs, of ARC_STEPS pieces
ARC_STEPS = 24
FAR_M = 5.0  # to a pixel without floor


@dataclass(frozen=True)
class Plan:
    """`path` (K, 2): what to drive, metres in the robot's frame, from (0, 0); standing still is one
    point. `trajectories` (N, K, 2) and their `values` (N,) by a critic, best first: for pictures.
    `motion`: metres and radians after which to plan again, see `GoalStep`.
    """

    path: np.ndarray
    trajectories: np.ndarray | None = None
    values: np.ndarray | None = None
    motion: tuple[float, float] | None = None


class DrivingAgent(Protocol):
    """The interface. `name` is its row in the table, `tasks` are those of TASKS that it can do;
    with `needs_images=False` it gets no observations.
    """

    name: str
    tasks: Sequence[str] = TASKS
    needs_images: bool = False

    def reset(self, env_index: int, run: DrivingRun) -> None:
        """A new episode begins: `run` has task and place."""
        ...

    def plan(
        self, env_indices: list[int], observations: list[dict], goals: list[Goal]
    ) -> list[Plan]:
        """What each of them drives next."""
        ...


class PolicyAgent(DrivingAgent):
    """Any policy that drives to goals: one call for all robots that plan at the same moment."""

    needs_images = True

    def __init__(self, policy: GoalPolicy, name: str):
        self.policy, self.name = policy, name
        self.needs_semantics = policy.needs_semantics
        self.tasks = [task for task in TASKS if GOAL_KINDS[task] in policy.goal_kinds]
        self.episodes: dict[int, Any] = {}

    def reset(self, env_index: int, run: DrivingRun) -> None:
        """Forget the past; random numbers are those of the episode, whatever drives beside it."""
        self.episodes[env_index] = self.policy.start(episode_name(run))

    def plan(
        self, env_indices: list[int], observations: list[dict], goals: list[Goal]
    ) -> list[Plan]:
        """The policy's path, with all samples."""
        episodes = episodes_of(self.name, self.episodes, env_indices, observations, goals=goals)
        steps = self.policy.steps(episodes, observations, goals)
        return [Plan(one.path, one.trajectories, one.values, one.motion) for one in steps]


class StraightLine(DrivingAgent):
    """Goes where the goal is as if nothing were in between: to a point, or to the floor at a pixel.

    It does not know where an image was taken, nor where to explore: there it goes straight ahead.
    """

    name = "straight-line"

    def __init__(self) -> None:
        self.runs: dict[int, DrivingRun] = {}

    def reset(self, env_index: int, run: DrivingRun) -> None:
        """Keep the episode, for its camera."""
        self.runs[env_index] = run

    def plan(
        self, env_indices: list[int], observations: list[dict], goals: list[Goal]
    ) -> list[Plan]:
        """One line each."""
        runs = episodes_of(self.name, self.runs, env_indices, goals=goals)
        pairs = zip(runs, goals, strict=True)
        return [Plan(np.array([(0.0, 0.0), self._end(run, goal)])) for run, goal in pairs]

    def _end(self, run: DrivingRun, goal: Goal) -> tuple[float, float]:
        if isinstance(goal, PointGoal):
            return goal.xy
        if not isinstance(goal, PixelGoal):
            return STRAIGHT_AHEAD_M, 0.0
        x, y = floor_at(goal.pixel, run.robot.camera)
        if goal.view is not None:  # marked at the start, not here
            place = robot_to_world(np.array([x, y]), run.episode.start)
            x, y = world_to_robot(place, run.robot.pose)
        return float(x), float(y)


class RandomPath(DrivingAgent):
    """Drives arcs of random curvature, a new one every few plans, whatever the goal.

    Each episode has its own generator, seeded by `seed` and the episode's name, so that a result
    does not depend on how many drive in parallel.
    """

    name = "random"
    plans_per_arc = 5
    largest_curvature = 1.5  # 1/m

    def __init__(self, seed: int):
        self.seed = seed
        self.generators: dict[int, np.random.Generator] = {}
        self.arcs: dict[int, tuple[np.ndarray, int]] = {}

    def reset(self, env_index: int, run: DrivingRun) -> None:
        """Seed by the episode."""
        entropy = [self.seed, *episode_name(run).encode()]
        self.generators[env_index] = np.random.default_rng(entropy)
        self.arcs.pop(env_index, None)

    def plan(
        self, env_indices: list[int], observations: list[dict], goals: list[Goal]
    ) -> list[Plan]:
        """The arc of the moment."""
        episodes_of(self.name, self.generators, env_indices, goals=goals)
        return [Plan(self._arc(index)) for index in env_indices]

    def _arc(self, index: int) -> np.ndarray:
        path, left = self.arcs.get(index, (None, 0))
        if path is None or not left:
            curvature = self.generators[index].uniform(-1, 1) * self.largest_curvature
            turn = curvature * np.linspace(0, STRAIGHT_AHEAD_M, ARC_STEPS)
            steps = np.stack([np.cos(turn), np.sin(turn)], axis=1) * STRAIGHT_AHEAD_M / ARC_STEPS
            path = np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)])
            left = self.plans_per_arc
        self.arcs[index] = path, left - 1
        return path


class Oracle(DrivingAgent):
    """Knows map and goal: follows the path of the demonstrations, short and clear of obstacles.

    Without a goal it goes on and on to the nearest place that it has not been within `reach` metres
    of. It turns round in several moves: turning on the spot for long would count as being stuck.
    """

    name = "oracle"
    reach = 1.5
    arrived = 0.3
    turns = np.radians(np.arange(-90, 91, 15))  # at most, on the spot
    move = 0.6

    def __init__(self) -> None:
        self.runs: dict[int, DrivingRun] = {}
        self.paths: dict[int, np.ndarray] = {}

    def reset(self, env_index: int, run: DrivingRun) -> None:
        """Plan the path, if there is a goal."""
        goal = run.episode.goal
        self.runs[env_index], here = run, run.robot.pose[:2]
        self.paths[env_index] = here[None]
        if goal is not None:
            self.paths[env_index] = path_to(run, np.array(goal[:2]))

    def plan(
        self, env_indices: list[int], observations: list[dict], goals: list[Goal]
    ) -> list[Plan]:
        """The rest of the path."""
        episodes_of(self.name, self.runs, env_indices, goals=goals)
        return [self._plan(index) for index in env_indices]

    def _plan(self, index: int) -> Plan:
        run, pose = self.runs[index], self.runs[index].robot.pose
        path = self.paths[index]
        if run.episode.goal is None and np.hypot(*(path[-1] - pose[:2])) < self.arrived:
            self.paths[index] = path = path_to(run, self._next_place(run))
        nearest = int(np.linalg.norm(path - pose[:2], axis=1).argmin())
        rest = np.concatenate([pose[None, :2], path[nearest + 1 :]])
        return Plan(world_to_robot(rest, pose))

    def _next_place(self, run: DrivingRun) -> np.ndarray:
        """(2,) where to explore; when it has been everywhere, the farthest place."""
        space, pose = run.place.roomy, run.robot.pose
        centers = space.center(np.argwhere(space.navigable)[::8])
        field = planning_field(run.place.space, pose[:2])
        away = field(centers)
        been = np.array(run.positions)[::8]
        is_new = np.linalg.norm(centers[:, None] - been, axis=2).min(axis=1) > self.reach
        place = centers[np.where(is_new, away, np.inf).argmin() if is_new.any() else away.argmax()]
        start = field.path_from(place)[::-1][: round(self.move / space.resolution_m)]
        x, y = world_to_robot(start[-1], pose)
        bearing = np.arctan2(y, x)
        if abs(bearing) <= self.turns[-1]:
            return place
        ahead = self.move * np.stack([np.cos(self.turns), np.sin(self.turns)], axis=1)
        moves = robot_to_world(ahead, pose)
        free = run.place.space.straight_line_is_free(pose[:2], moves)
        return moves[np.where(free, np.abs(self.turns - bearing), np.inf).argmin()]


def path_to(run: DrivingRun, goal_xy: np.ndarray) -> np.ndarray:
    """(K, 2) from here, in the world."""
    field = planning_field(run.place.space, goal_xy)
    return smooth_path(field, run.robot.pose[:2], FRAME_SPACING_M)


def floor_at(pixel: tuple[float, float], camera: CameraSpec) -> np.ndarray:
    """(2,) the floor at a pixel in the robot's frame; above the horizon, `FAR_M` that way."""
    T_robot_camera = camera_pose(0, 0, 0, camera.height_m, np.radians(camera.pitch_deg))
    place = pixel_to_floor(np.array([pixel]), T_robot_camera, camera.intrinsics)[0, :2]
    if np.isfinite(place).all():
        return place
    focal_px, _, center = camera.intrinsics[0]
    bearing = np.arctan2(center - pixel[0], focal_px)
    return FAR_M * np.array([np.cos(bearing), np.sin(bearing)])


def episode_name(run: DrivingRun) -> str:
    """Unique among the scenes."""
    return f"{run.episode.scene_name}/{run.episode.episode_id}"
