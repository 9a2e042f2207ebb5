"""System1 agents: what answers views and goals with paths, for many robots at once.

`PolicyAgent` drives any `policies.policy.GoalPolicy`; what is no policy needs no more than the
members of `System1Agent` to join the table.

An observation is {"rgb": (H, W, 3) uint8, "depth": (H, W) m}, a goal one of policies.goals.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from internnav_hf.camera import CameraSpec
from internnav_hf.evaluation.agents import episodes_of
from internnav_hf.evaluation.arguments import TASKS
from internnav_hf.evaluation.visual_navigation.drive import Drive
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
    """

    path: np.ndarray
    trajectories: np.ndarray | None = None
    values: np.ndarray | None = None


class System1Agent(Protocol):
    """The interface. `name` is its row in the table, `tasks` are those of TASKS that it can do;
    with `needs_images=False` it gets no observations.
    """

    name: str
    tasks: Sequence[str] = TASKS
    needs_images: bool = False

    def reset(self, env_index: int, drive: Drive) -> None:
        """A new episode begins: `drive` has task and place."""
        ...

    def plan(
        self, env_indices: list[int], observations: list[dict], goals: list[Goal]
    ) -> list[Plan]:
        """What each of them drives next."""
        ...


class PolicyAgent(System1Agent):
    """Any policy that drives to goals: one call for all robots that plan at the same moment."""

    needs_images = True

    def __init__(self, policy: GoalPolicy, name: str):
        self.policy, self.name = policy, name
        self.tasks = [task for task in TASKS if GOAL_KINDS[task] in policy.goal_kinds]
        self.episodes: dict[int, Any] = {}

    def reset(self, env_index: int, drive: Drive) -> None:
        """Forget the past; random numbers are those of the episode, whatever drives beside it."""
        self.episodes[env_index] = self.policy.start(episode_name(drive))

    def plan(
        self, env_indices: list[int], observations: list[dict], goals: list[Goal]
    ) -> list[Plan]:
        """The policy's path, with all samples."""
        episodes = episodes_of(self.name, self.episodes, env_indices, observations, goals=goals)
        steps = self.policy.steps(episodes, observations, goals)
        return [Plan(step.path, step.trajectories, step.values) for step in steps]


class StraightLine(System1Agent):
    """Goes where the goal is as if nothing were in between: to a point, or to the floor at a pixel.

    It does not know where an image was taken, nor where to explore: there it goes straight ahead.
    """

    name = "straight-line"

    def __init__(self) -> None:
        self.drives: dict[int, Drive] = {}

    def reset(self, env_index: int, drive: Drive) -> None:
        """Whose camera it is."""
        self.drives[env_index] = drive

    def plan(
        self, env_indices: list[int], observations: list[dict], goals: list[Goal]
    ) -> list[Plan]:
        """One line each."""
        drives = episodes_of(self.name, self.drives, env_indices, goals=goals)
        pairs = zip(drives, goals, strict=True)
        return [Plan(np.array([(0.0, 0.0), self._end(drive, goal)])) for drive, goal in pairs]

    def _end(self, drive: Drive, goal: Goal) -> tuple[float, float]:
        if isinstance(goal, PointGoal):
            return goal.xy
        if not isinstance(goal, PixelGoal):
            return STRAIGHT_AHEAD_M, 0.0
        x, y = floor_at(goal.pixel, drive.rover.camera)
        if goal.view is not None:  # marked at the start, not here
            place = robot_to_world(np.array([x, y]), drive.episode.start)
            x, y = world_to_robot(place, drive.rover.pose)
        return float(x), float(y)


class RandomPath(System1Agent):
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

    def reset(self, env_index: int, drive: Drive) -> None:
        """Seed by the episode."""
        entropy = [self.seed, *episode_name(drive).encode()]
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


class Oracle(System1Agent):
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
        self.drives: dict[int, Drive] = {}
        self.ways: dict[int, np.ndarray] = {}

    def reset(self, env_index: int, drive: Drive) -> None:
        """Plan the path, if there is a goal."""
        goal = drive.episode.goal
        self.drives[env_index], here = drive, drive.rover.pose[:2]
        self.ways[env_index] = here[None]
        if goal is not None:
            self.ways[env_index] = way_to(drive, np.array(goal[:2]))

    def plan(
        self, env_indices: list[int], observations: list[dict], goals: list[Goal]
    ) -> list[Plan]:
        """The rest of the path."""
        episodes_of(self.name, self.drives, env_indices, goals=goals)
        return [self._plan(index) for index in env_indices]

    def _plan(self, index: int) -> Plan:
        drive, pose = self.drives[index], self.drives[index].rover.pose
        way = self.ways[index]
        if drive.episode.goal is None and np.hypot(*(way[-1] - pose[:2])) < self.arrived:
            self.ways[index] = way = way_to(drive, self._next_place(drive))
        nearest = int(np.linalg.norm(way - pose[:2], axis=1).argmin())
        rest = np.concatenate([pose[None, :2], way[nearest + 1 :]])
        return Plan(world_to_robot(rest, pose))

    def _next_place(self, drive: Drive) -> np.ndarray:
        """(2,) where to explore; when it has been everywhere, the farthest place."""
        space, pose = drive.place.roomy, drive.rover.pose
        centers = space.center(np.argwhere(space.navigable)[::8])
        field = planning_field(drive.place.space, pose[:2])
        away = field(centers)
        been = np.array(drive.positions)[::8]
        is_new = np.linalg.norm(centers[:, None] - been, axis=2).min(axis=1) > self.reach
        place = centers[np.where(is_new, away, np.inf).argmin() if is_new.any() else away.argmax()]
        start = field.path_from(place)[::-1][: round(self.move / space.resolution_m)]
        x, y = world_to_robot(start[-1], pose)
        bearing = np.arctan2(y, x)
        if abs(bearing) <= self.turns[-1]:
            return place
        ahead = self.move * np.stack([np.cos(self.turns), np.sin(self.turns)], axis=1)
        moves = robot_to_world(ahead, pose)
        free = drive.place.space.straight_line_is_free(pose[:2], moves)
        return moves[np.where(free, np.abs(self.turns - bearing), np.inf).argmin()]


def way_to(drive: Drive, goal_xy: np.ndarray) -> np.ndarray:
    """(K, 2) from here, in the world."""
    field = planning_field(drive.place.space, goal_xy)
    return smooth_path(field, drive.rover.pose[:2], FRAME_SPACING_M)


def floor_at(pixel: tuple[float, float], camera: CameraSpec) -> np.ndarray:
    """(2,) the floor at a pixel in the robot's frame; above the horizon, `FAR_M` that way."""
    T_robot_camera = camera_pose(0, 0, 0, camera.height_m, np.radians(camera.pitch_deg))
    place = pixel_to_floor(np.array([pixel]), T_robot_camera, camera.intrinsics)[0, :2]
    if np.isfinite(place).all():
        return place
    focal_px, _, center = camera.intrinsics[0]
    bearing = np.arctan2(center - pixel[0], focal_px)
    return FAR_M * np.array([np.cos(bearing), np.sin(bearing)])


def episode_name(drive: Drive) -> str:
    """Unique in a course."""
    return f"{drive.episode.scene_name}/{drive.episode.episode_id}"
