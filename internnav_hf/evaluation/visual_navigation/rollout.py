"""Closed loop: a System1 drives episodes in several environments in lockstep.

All robots plan at the same moments, in one call, and then drive for the same control steps.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from PIL import Image
from tqdm import tqdm

from internnav_hf.evaluation.drawing import jpeg
from internnav_hf.evaluation.records import PLAN, DecisionRecord, StoredRollout
from internnav_hf.evaluation.visual_navigation.agents import Plan, System1Agent
from internnav_hf.evaluation.visual_navigation.drive import TIME_LIMIT, Drive
from internnav_hf.evaluation.visual_navigation.episodes import System1Episode
from internnav_hf.geometry import robot_to_world
from internnav_hf.policies.goals import Goal, PixelGoal, PointGoal

Task = tuple[str, System1Episode]  # scene name, episode


@dataclass
class System1Rollout(StoredRollout):
    """An episode of visual navigation. T control steps of `control_period` seconds.

    `ending` is one of `drive`'s; the goal and all that is measured to it are None without one.
    Every plan is a decision.
    """

    task: str
    ending: str
    control_period: float
    start_yaw: float
    goal: tuple[float, float, float] | None
    goal_distance: float | None
    straight_distance: float
    geodesic_distance: float
    explored_area: float

    @property
    def goal_xy(self) -> tuple[float, float] | None:
        """Metres in the world, if there is a goal."""
        return None if self.goal is None else self.goal[:2]

    @property
    def outcome(self) -> str:
        """How it ended."""
        return self.ending

    def is_success(self, success_distance: float) -> bool:
        """Ends near the goal, however it ended; without a goal: nothing ended it before time."""
        if self.goal_distance is None:
            return self.ending == TIME_LIMIT
        return self.goal_distance < success_distance


@dataclass
class _Robot:
    """One environment in the middle of an episode."""

    drive: Drive
    plans: list[DecisionRecord] = field(default_factory=list)

    def follow(self, plan: Plan, goal: Goal, observation: dict) -> str | None:
        """Drive until the next plan; how the episode ended, if it did."""
        self.plans.append(record_of(self.drive, plan, goal, observation))
        return self.drive.drive(plan.path)

    def rollout(self, agent: str) -> System1Rollout:
        drive, episode = self.drive, self.drive.episode
        assert drive.ending is not None
        return System1Rollout(
            agent=agent,
            scene=episode.scene_name,
            episode_id=episode.episode_id,
            task=drive.task,
            ending=drive.ending,
            control_period=drive.rules.control_period,
            positions=np.round(drive.positions, 4),
            collisions=np.array(drive.collisions, dtype=bool),
            start_yaw=episode.start[2],
            reference_path=episode.reference_path,
            goal=episode.goal,
            goal_distance=None if episode.goal is None else drive.goal_distance,
            straight_distance=episode.straight_distance,
            geodesic_distance=episode.geodesic_distance,
            explored_area=drive.explored_area,
            decisions=self.plans,
        )


def run_system1(
    agent: System1Agent,
    tasks: list[Task],
    start: Callable[[str, System1Episode], Drive],
    num_parallel: int,
    on_finished: Callable[[System1Rollout], None],
) -> None:
    """Drive all `tasks`, at most `num_parallel` at a time; `start` puts a robot at its start."""
    waiting, robots = deque(tasks), dict[int, _Robot]()
    with tqdm(total=len(tasks), desc=agent.name, unit="episode") as progress:
        while waiting or robots:
            for index in range(num_parallel):
                if index not in robots and waiting:
                    robots[index] = _Robot(start(*waiting.popleft()))
                    agent.reset(index, robots[index].drive)
            indices = sorted(robots)
            drives = [robots[index].drive for index in indices]
            seen = [drive.observe() if must_look(agent, drive) else {} for drive in drives]
            goals = [drive.goal() for drive in drives]
            plans = agent.plan(indices, seen, goals)
            for index, *given in zip(indices, plans, goals, seen, strict=True):
                if robots[index].follow(*given) is not None:
                    on_finished(robots.pop(index).rollout(agent.name))
                    progress.update()


def must_look(agent: System1Agent, drive: Drive) -> bool:
    """Whether to render: exploration is scored from the observed depth."""
    return agent.needs_images or drive.episode.goal is None


def record_of(drive: Drive, plan: Plan, goal: Goal, observation: dict) -> DecisionRecord:
    """What is kept of a plan; trajectories in the world, the view as a JPEG."""
    pose = drive.rover.pose
    trajectories = plan.path[None] if plan.trajectories is None else plan.trajectories
    pixel = goal.pixel if isinstance(goal, PixelGoal) and goal.view is None else None
    return DecisionRecord(
        step=len(drive.collisions),
        kind=PLAN,
        text=words(goal),
        position=(float(pose[0]), float(pose[1])),
        yaw=float(pose[2]),
        goal_pixel=pixel,
        goal_position=None if drive.episode.goal is None else drive.episode.goal[:2],
        trajectories=np.round(robot_to_world(trajectories, tuple(pose)), 3).tolist(),
        values=None if plan.values is None else np.round(plan.values, 4).tolist(),
        view=jpeg(Image.fromarray(observation["rgb"])) if observation else None,
    )


def words(goal: Goal) -> str:
    """The goal, for a caption."""
    if isinstance(goal, PointGoal):
        x, y = goal.xy
        return f"{x:.1f} m ahead, {abs(y):.1f} m to the {'left' if y > 0 else 'right'}"
    return {"image": "to the picture", "pixel": "to the mark"}.get(goal.kind, "explore")
