"""Evaluate models that drive to goals in unseen rooms, next to simple baselines and an oracle.

    python scripts/evaluate.py --task point-goal image-goal --model outputs/demo-navdp/model
    python scripts/evaluate.py --task point-goal image-goal no-goal --models NAVDP NOMAD IPLANNER
    python scripts/evaluate.py --task point-goal --model straight-line --density hard

The tasks and rules are those of NavDP's visual-navigation benchmark; what is published is said with
each option, and what differs, with the scenes and episodes. Our rooms are smaller than the
published clutter: nearer goals are drawn by default. Each of --models drives the tasks that it can,
all in the same rooms and with one camera, that of the first model. Writes metrics.json, metrics.md
and report.html to --out. An interrupted run goes on where it was when it is started again with the
same arguments. Under `accelerate launch` the processes share the episodes.
"""

import shlex
import sys
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path

from accelerate import PartialState

from internnav_hf.camera import CameraSpec
from internnav_hf.command_line import output_folder
from internnav_hf.evaluation.report import read_log_history, spread_over_scenes
from internnav_hf.evaluation.rollout import RolloutStore, finish_tasks
from internnav_hf.evaluation.visual_navigation.agents import DrivingAgent
from internnav_hf.evaluation.visual_navigation.arguments import VisualNavigationArguments
from internnav_hf.evaluation.visual_navigation.drive import DrivingRules, DrivingRun
from internnav_hf.evaluation.visual_navigation.episodes import (
    DrivingEpisode,
    DrivingScenes,
    EpisodeRules,
)
from internnav_hf.evaluation.visual_navigation.metrics import summarize
from internnav_hf.evaluation.visual_navigation.models import (
    Entrant,
    load_models,
    main_camera,
    make_entrants,
)
from internnav_hf.evaluation.visual_navigation.report import (
    NUM_COMPARED,
    NUM_EPISODES,
    Rollouts,
    write_metrics,
    write_report,
)
from internnav_hf.evaluation.visual_navigation.rollout import DrivingRollout, Task, run_agent
from internnav_hf.sim.scene_sets import unseen_scenes
from internnav_hf.sim.scenes import load_scene, scene_config


def evaluate_visual_navigation(
    args: VisualNavigationArguments, episode_rules: EpisodeRules, driving: DrivingRules
) -> Path:
    """Drive, measure, report; returns the report."""
    out = output_folder("--out", args.out)
    log_history = read_log_history(args.trainer_state)
    models = load_models(args)
    entrants, camera = make_entrants(args, models), main_camera(args, models)
    scenes = make_scenes(args, camera)
    # All before any agent drives: rules that no place fits fail at once.
    tasks_of = {t: scenes.tasks(t, episode_rules, args.episodes, args.seed) for t in args.task}
    out.mkdir(parents=True, exist_ok=True)
    rules = {**asdict(episode_rules), **asdict(driving)}
    rollouts: Rollouts = {}
    for task, tasks in tasks_of.items():
        course = rules | {"course": scenes.digest(tasks)}
        rollouts[task] = {
            entrant.agent.name: rollouts_of(args, entrant, task, tasks, scenes, driving, course)
            for entrant in entrants
            if entrant.can_drive(task)
        }
    results = {
        "tasks": {
            task: {
                name: summarize(found, driving.success_radius, args.seed)
                for name, found in by_agent.items()
            }
            for task, by_agent in rollouts.items()
        },
        "left_out": left_out(args.task, entrants),
        "model": ", ".join(model.path for model in models) or args.model,
        "models": {model.name: model.path for model in models},
        "command": shlex.join(["python", *sys.argv]),
        "settings": {
            **asdict(args),
            **rules,
            "camera": camera.to_dict(),
            "num_scenes": len(scenes.places),
        },
    }
    if not PartialState().is_main_process:
        return out / "report.html"
    write_metrics(out, results)
    return write_report(out, results, rollouts, scenes, driving.success_radius, log_history)


def left_out(tasks: list[str], entrants: list[Entrant]) -> dict[str, dict[str, str]]:
    """Task -> agent -> the tasks that it can do, of those that cannot do this one."""
    return {
        task: {
            entrant.agent.name: ", ".join(entrant.agent.tasks)
            for entrant in entrants
            if not entrant.can_drive(task)
        }
        for task in tasks
    }


def make_scenes(args: VisualNavigationArguments, camera: CameraSpec) -> DrivingScenes:
    """Generated scenes with seeds of their own, or the mesh file."""
    if args.scene is not None:
        return DrivingScenes([load_scene(args.scene)], camera)
    return DrivingScenes(unseen_scenes(args.scenes, args.seed, scene_config(args.density)), camera)


def rollouts_of(
    args: VisualNavigationArguments,
    entrant: Entrant,
    task: str,
    tasks: list[Task],
    scenes: DrivingScenes,
    driving: DrivingRules,
    course: dict,
) -> list[DrivingRollout]:
    """Rollouts of one agent; finished ones are read from the output folder."""
    agent: DrivingAgent = entrant.agent

    def start(name: str, episode: DrivingEpisode) -> DrivingRun:
        return DrivingRun(scenes.places[name], scenes.camera, driving, task, episode)

    def run(remaining: list[Task], on_finished: Callable[[DrivingRollout], None]) -> None:
        run_agent(agent, remaining, start, args.num_parallel, on_finished)

    names = [(scene, episode.episode_id) for scene, episode in tasks]
    drawn = frozenset(spread_over_scenes(names, NUM_COMPARED))
    store = RolloutStore(
        Path(args.out), driving.success_radius, NUM_EPISODES, DrivingRollout, drawn
    )
    kept = {"fields": [item.name for item in fields(DrivingRollout)]}
    return finish_tasks(
        run,
        tasks,
        store,
        {"agent": agent.name, "task": task} | entrant.depends_on | course | kept,
    )
