"""Closed loop: an agent drives episodes in several environments in lockstep.

All robots plan in one call, and then each drives until it plans again.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from PIL import Image

from internnav_hf.evaluation.drawing import jpeg
from internnav_hf.evaluation.records import PLAN, DecisionRecord, StoredRollout
from internnav_hf.evaluation.rollout import run_in_lockstep
from internnav_hf.evaluation.visual_navigation.agents import DrivingAgent, Plan, PolicyAgent
from internnav_hf.evaluation.visual_navigation.drive import TIME_LIMIT, DrivingRun
from internnav_hf.evaluation.visual_navigation.episodes import DrivingEpisode
from internnav_hf.geometry import robot_to_world
from internnav_hf.policies.goals import Goal, PixelGoal, PointGoal

Task = tuple[str, DrivingEpisode]  # scene name, episode


@dataclass
class DrivingRollout(StoredRollout):
    """An episode of visual navigation. T control steps of `control_period` seconds.

    `ending` is one of `drive`'s; the goal and all that is measured to it are None without one.
    Every plan is a decision; plan_seconds (P,) is how long the robot waited for each, in a call
    that robots which plan at the same moment share.
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
    plan_seconds: np.ndarray

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


def _finished(
    agent: str, run: DrivingRun, plans: list[DecisionRecord], waits: list[float]
) -> DrivingRollout:
    episode = run.episode
    assert run.ending is not None
    return DrivingRollout(
        agent=agent,
        scene=episode.scene_name,
        episode_id=episode.episode_id,
        task=run.task,
        ending=run.ending,
        control_period=run.rules.control_period,
        positions=np.round(run.positions, 4),
        collisions=np.array(run.collisions, dtype=bool),
        start_yaw=episode.start[2],
        reference_path=episode.reference_path,
        goal=episode.goal,
        goal_distance=None if episode.goal is None else run.goal_distance,
        straight_distance=episode.straight_distance,
        geodesic_distance=episode.geodesic_distance,
        explored_area=run.explored_area,
        plan_seconds=np.round(waits, 6),
        decisions=plans,
    )


def run_agent(
    agent: DrivingAgent,
    tasks: list[Task],
    start: Callable[[str, DrivingEpisode], DrivingRun],
    num_parallel: int,
    on_finished: Callable[[DrivingRollout], None],
) -> None:
    """Drive all `tasks`, at most `num_parallel` at a time; `start` puts a robot at its start."""
    records: dict[int, list[DecisionRecord]] = {}
    waits: dict[int, list[float]] = {}

    def begin(index: int, scene: str, episode: DrivingEpisode) -> DrivingRun:
        run, records[index], waits[index] = start(scene, episode), [], []
        agent.reset(index, run)
        return run

    def advance(runs: dict[int, DrivingRun]) -> Iterator[int]:
        # Exploration is scored from the observed depth.
        sees = [agent.needs_images or run.episode.goal is None for run in runs.values()]
        semantics = isinstance(agent, PolicyAgent) and agent.needs_semantics
        pairs = zip(runs.values(), sees, strict=True)
        views = [run.observe(semantics) if is_seen else {} for run, is_seen in pairs]
        goals = [run.goal() for run in runs.values()]
        began = perf_counter()
        plans = agent.plan([*runs], views, goals)
        wait = perf_counter() - began
        for (index, run), plan, *given in zip(runs.items(), plans, goals, views, strict=True):
            records[index].append(record_of(run, plan, *given))
            waits[index].append(wait)
            if run.follow(plan.path, plan.motion) is not None:
                on_finished(_finished(agent.name, run, records[index], waits[index]))
                yield index

    run_in_lockstep(agent.name, tasks, num_parallel, begin, advance)


def record_of(run: DrivingRun, plan: Plan, goal: Goal, observation: dict) -> DecisionRecord:
    """What is kept of a plan; trajectories in the world, the view as a JPEG."""
    pose = run.robot.pose
    trajectories = plan.path[None] if plan.trajectories is None else plan.trajectories
    pixel = goal.pixel if isinstance(goal, PixelGoal) and goal.view is None else None
    return DecisionRecord(
        step=len(run.collisions),
        kind=PLAN,
        text=words(goal),
        position=(float(pose[0]), float(pose[1])),
        yaw=float(pose[2]),
        goal_pixel=pixel,
        goal_position=None if run.episode.goal is None else run.episode.goal[:2],
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
