"""Evaluate a model that drives to goals in unseen rooms, next to simple baselines and an oracle.

    python scripts/evaluate.py --task point-goal image-goal --model outputs/demo-navdp/model
    python scripts/evaluate.py --task point-goal --model straight-line --density hard

The tasks and rules are those of NavDP's visual-navigation benchmark; what is published is said with
each option, and what differs, with the scenes and episodes. Our rooms are smaller than the
published clutter: nearer goals are drawn by default. Writes metrics.json, metrics.md and
report.html to --out. An interrupted run goes on where it was when it is started again with the same
arguments.
"""

import shlex
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from internnav_hf.arguments.ranges import check_counts, option
from internnav_hf.camera import CameraSpec
from internnav_hf.command_line import output_folder
from internnav_hf.evaluation import models
from internnav_hf.evaluation.arguments import TASKS, VLN, BenchmarkArguments, kind_of
from internnav_hf.evaluation.models import choose_camera
from internnav_hf.evaluation.report import read_log_history
from internnav_hf.evaluation.rollout import RolloutStore, file_stamps, finish_tasks
from internnav_hf.evaluation.visual_navigation.agents import (
    DrivingAgent,
    Oracle,
    PolicyAgent,
    RandomPath,
    StraightLine,
)
from internnav_hf.evaluation.visual_navigation.drive import DrivingRules, DrivingRun
from internnav_hf.evaluation.visual_navigation.episodes import (
    DrivingEpisode,
    DrivingScenes,
    EpisodeRules,
)
from internnav_hf.evaluation.visual_navigation.metrics import summarize
from internnav_hf.evaluation.visual_navigation.report import (
    NUM_EPISODES,
    Rollouts,
    write_metrics,
    write_report,
)
from internnav_hf.evaluation.visual_navigation.rollout import DrivingRollout, Task, run_agent
from internnav_hf.policies.policy import GoalPolicy
from internnav_hf.sim.scene_sets import unseen_scenes
from internnav_hf.sim.scenes import DENSITIES, load_scene, scene_config

BASELINES = ("straight-line", "random", "oracle")
POLICY_SETTINGS = ("num_samples", "num_inference_steps", "memory_stride", "stop_threshold", "seed")
PUBLISHED_CAMERA = CameraSpec(
    width=640, height=360, hfov_deg=67.8, height_m=0.3, depth_scale=10_000
)


@dataclass
class VisualNavigationArguments(BenchmarkArguments):
    """What to evaluate, and where."""

    task: list[str] = option([*TASKS], f"Some of {', '.join(TASKS)}; several go in one table.")
    out: str = option("outputs/eval-system1", "Folder of metrics.json, metrics.md, report.html.")
    model: str | None = option(
        None,
        f"Model that drives to goals: folder, file, Hub name; or one of {', '.join(BASELINES)}.",
    )
    scenes: int = option(10, "Number of generated scenes (published: 10 or 20 of each kind).")
    episodes: int = option(10, "Episodes in each scene (published: 100).")
    baselines: list[str] = option(
        [*BASELINES], f"Agents to compare with, of {', '.join(BASELINES)}; or none."
    )
    density: str = option("medium", f"Clutter of generated scenes: {', '.join(DENSITIES)}.")
    num_samples: int = option(16, "Trajectories to choose from. NavDP repository: 16.")
    memory_stride: int = option(1, "Plans from one frame in the memory to the next.")
    stop_threshold: float | None = option(
        None, "If no trajectory has this value the robot turns; NavDP's clients choose one."
    )
    camera_width: int | None = option(None, "Instead of its width in pixels.", low=8, high=8192)
    camera_height: int | None = option(None, "Instead of its height in pixels.", low=8, high=8192)

    def __post_init__(self) -> None:
        unknown = sorted(set(self.task) - set(TASKS))
        if VLN in unknown:
            raise ValueError(f"--task: {VLN} is measured by itself, without {', '.join(TASKS)}.")
        if unknown or not self.task:
            raise ValueError(
                f"--task: found {' '.join(unknown) or 'nothing'}, expected {VLN}, or some of "
                f"{', '.join(TASKS)}."
            )
        self.baselines = [] if self.baselines == ["none"] else self.baselines
        for name in self.baselines:
            if name not in BASELINES:
                raise ValueError(
                    f"--baselines: found {name}, expected some of {', '.join(BASELINES)}, or none."
                )
        if self.model is None and not self.baselines:
            raise ValueError("--model, --baselines: found none of either, expected an agent.")
        if self.density not in DENSITIES:
            raise ValueError(f"--density: found {self.density}, expected {', '.join(DENSITIES)}.")
        check_counts(self, "num_samples", "memory_stride")
        super().__post_init__()

    def camera_changes(self) -> dict[str, float | None]:
        """Fields of a camera, None if they stay as they are."""
        size = {"width": self.camera_width, "height": self.camera_height}
        return super().camera_changes() | size


def evaluate_visual_navigation(
    args: VisualNavigationArguments, episode_rules: EpisodeRules, driving: DrivingRules
) -> Path:
    """Drive, measure, report; returns the report."""
    out = output_folder("--out", args.out)
    log_history = read_log_history(args.trainer_state)
    policy = None if args.model in (None, *BASELINES) else load_policy(args)
    agents = make_agents(args, policy)
    model = None if policy is None else args.model
    camera = choose_camera(model, policy, args.camera_changes(), PUBLISHED_CAMERA)
    scenes = make_scenes(args, camera)
    # All before any agent drives: rules that no place fits fail at once.
    tasks_of = {t: scenes.tasks(t, episode_rules, args.episodes, args.seed) for t in args.task}
    out.mkdir(parents=True, exist_ok=True)
    rules = {**asdict(episode_rules), **asdict(driving)}
    rollouts: Rollouts = {}
    for task, tasks in tasks_of.items():
        found, digest = {}, scenes.digest(tasks)
        for agent in (agent for agent in agents if task in agent.tasks):
            settings = rollout_settings(args, agent) | rules | {"course": digest}
            found[agent.name] = rollouts_of(args, agent, task, tasks, scenes, driving, settings)
        rollouts[task] = found
    results = {
        "tasks": {
            task: {
                name: summarize(found, driving.success_radius, args.seed)
                for name, found in by_agent.items()
            }
            for task, by_agent in rollouts.items()
        },
        "model": args.model,
        "command": shlex.join(["python", *sys.argv]),
        "settings": {
            **asdict(args),
            **rules,
            "camera": camera.to_dict(),
            "num_scenes": len(scenes.places),
        },
    }
    write_metrics(out, results)
    return write_report(out, results, rollouts, scenes, driving.success_radius, log_history)


def load_policy(args: VisualNavigationArguments) -> GoalPolicy:
    """The policy of --model; ValueError for one that drives to no goals."""
    path = args.model
    assert path is not None
    family = models.family_at("--model", path)
    if family.benchmark != "visual_navigation":
        raise ValueError(
            f"--model {path}: found a model of type {family.model_type!r}, which drives to no "
            f"goals; --task {VLN} is for those that follow instructions."
        )
    return models.load_policy(family, path, policy_settings(args))


def policy_settings(args: VisualNavigationArguments) -> dict[str, Any]:
    """Settings of policies that options name."""
    return {name: getattr(args, name) for name in POLICY_SETTINGS}


def make_agents(args: VisualNavigationArguments, policy: GoalPolicy | None) -> list[DrivingAgent]:
    """The model first, then the baselines. ValueError for a task that the first cannot do."""
    known: dict[str, Callable[[], DrivingAgent]] = {
        "straight-line": StraightLine,
        "random": lambda: RandomPath(args.seed),
        "oracle": Oracle,
    }
    names = [name for name in BASELINES if name in (args.model, *args.baselines)]
    names.sort(key=lambda name: name != args.model)
    agents = [known[name]() for name in names]
    if policy is not None:
        agents.insert(0, PolicyAgent(policy, kind_of(policy.model.config.model_type)))
    for task in args.task:
        if task not in agents[0].tasks:
            raise ValueError(
                f"--task {task}: {args.model or agents[0].name} can do {', '.join(agents[0].tasks)}"
                "; other goals it was not made or trained for."
            )
    return agents


def make_scenes(args: VisualNavigationArguments, camera: CameraSpec) -> DrivingScenes:
    """Generated scenes with seeds of their own, or the mesh file."""
    if args.scene is not None:
        return DrivingScenes([load_scene(args.scene)], camera)
    return DrivingScenes(unseen_scenes(args.scenes, args.seed, scene_config(args.density)), camera)


def rollouts_of(
    args: VisualNavigationArguments,
    agent: DrivingAgent,
    task: str,
    tasks: list[Task],
    scenes: DrivingScenes,
    driving: DrivingRules,
    settings: dict,
) -> list[DrivingRollout]:
    """Rollouts of one agent; finished ones are read from the output folder."""

    def start(name: str, episode: DrivingEpisode) -> DrivingRun:
        return DrivingRun(scenes.places[name], scenes.camera, driving, task, episode)

    def run(remaining: list[Task], on_finished: Callable[[DrivingRollout], None]) -> None:
        run_agent(agent, remaining, start, args.num_parallel, on_finished)

    store = RolloutStore(Path(args.out), driving.success_radius, NUM_EPISODES, DrivingRollout)
    return finish_tasks(run, tasks, store, {"agent": agent.name, "task": task, **settings})


def rollout_settings(args: VisualNavigationArguments, agent: DrivingAgent) -> dict:
    """What an agent's rollouts depend on in addition to the rules, the scenes and the episodes."""
    settings: dict = {"seed": args.seed}
    if agent.needs_images:
        settings |= policy_settings(args)
        settings |= {"model": args.model, "files": file_stamps(Path(args.model or ""))}
    return settings
