"""The benchmark of instruction following, in rooms of no dataset: run, measure, report."""

import shlex
import sys
from dataclasses import asdict
from pathlib import Path

from accelerate import PartialState

from internnav_hf.camera import CameraSpec
from internnav_hf.command_line import output_folder
from internnav_hf.data.tasks.dual_system import DualSystemDataset
from internnav_hf.data.tasks.system2 import System2Dataset
from internnav_hf.evaluation.agents import Agent
from internnav_hf.evaluation.metrics import episode_metrics, summarize
from internnav_hf.evaluation.open_loop.dual_system import evaluate_dual_open_loop
from internnav_hf.evaluation.open_loop.system2 import evaluate_open_loop
from internnav_hf.evaluation.records import STEP, Rollout
from internnav_hf.evaluation.report import read_log_history
from internnav_hf.evaluation.rollout import RolloutStore, evaluate_agent
from internnav_hf.evaluation.vln.arguments import VLNArguments
from internnav_hf.evaluation.vln.models import (
    Row,
    load_models,
    main_camera,
    make_rows,
    rollout_settings,
    system2_of,
)
from internnav_hf.evaluation.vln.report import write_metrics, write_report
from internnav_hf.policies import DualSystemPolicy, System2Policy
from internnav_hf.sim.env import NavigationEnv
from internnav_hf.sim.scene_sets import SceneSet, unseen_scenes
from internnav_hf.sim.scenes import SceneConfig, load_scene


def evaluate_vln(args: VLNArguments) -> Path:
    """Run, measure, report; returns the report."""
    out = output_folder("--out", args.out)
    log_history = read_log_history(args.trainer_state)
    models = load_models(args)
    scene_set = make_scenes(args)
    rows, measure = make_rows(args, models, scene_set), open_loops(args, models.policy)
    agents = [(row, row.make()) for row in rows]
    camera = main_camera(args, models)
    out.mkdir(parents=True, exist_ok=True)
    rollouts = {
        agent.name: rollouts_of(args, row, agent, scene_set, camera, out) for row, agent in agents
    }
    results = {
        "agents": {name: metrics_of(found, args) for name, found in rollouts.items()},
        "model": args.model or ", ".join(one.path for one in models.followers) or None,
        "command": shlex.join(["python", *sys.argv]),
        "settings": {
            **asdict(args),
            "camera": camera.to_dict(),
            "num_scenes": len(scene_set.scenes),
            "scene_names": list(scene_set.scenes),
        },
    }
    drawing = {name: getattr(args, name) for name in ("num_samples", "batch_size", "seed")}
    for name, (evaluate, *inputs) in measure.items():
        results[name] = evaluate(*inputs, **drawing)
    if not PartialState().is_main_process:
        return out / "report.html"
    write_metrics(out, results)
    shown = dict(sorted(rollouts.items(), key=lambda item: item[0] != models.main))
    return write_report(
        out, results, shown, scene_set.scene, args.success_distance, log_history, camera
    )


def open_loops(
    args: VLNArguments, policy: System2Policy | DualSystemPolicy | None
) -> dict[str, tuple]:
    """Name in the results -> what measures there, its policy and data.

    The data are opened before any agent runs: a wrong path fails at once.
    """
    if policy is None or args.data_root is None:
        return {}
    source = (args.data_root, args.datasets, policy.processor)
    options = {"sample_step": args.sample_step, "cache_dir": args.cache_dir}
    held_out = System2Dataset(*source, stop_repeat=1, **options)
    found: dict[str, tuple] = {"open_loop": (evaluate_open_loop, system2_of(policy), held_out)}
    if isinstance(policy, DualSystemPolicy):
        config = policy.expert.config
        options |= {"image_size": config.image_size, "action_horizon": config.action_horizon}
        paths = DualSystemDataset(*source, depth=policy.needs_depth, **options)
        found["dual_open_loop"] = (evaluate_dual_open_loop, policy, paths)
    return found


def make_scenes(args: VLNArguments) -> SceneSet:
    """Generated scenes with seeds of their own, or the mesh file."""
    if args.scene is not None:
        return SceneSet([load_scene(args.scene)], args.episodes, args.seed, args.min_distance)
    config = SceneConfig(num_rooms=tuple(args.num_rooms), num_objects=tuple(args.num_objects))
    scenes = unseen_scenes(args.scenes, args.seed, config)
    return SceneSet(scenes, args.episodes, args.seed, args.min_distance)


def rollouts_of(
    args: VLNArguments, row: Row, agent: Agent, scene_set: SceneSet, camera: CameraSpec, out: Path
) -> list[Rollout]:
    """Rollouts of one agent; finished ones are read from the output folder."""

    def make_env(name: str) -> NavigationEnv:
        rules = (args.success_distance, args.max_steps, agent.needs_images, args.allow_sliding)
        return scene_set.make_env(name, camera, *rules)

    store = RolloutStore(out, args.success_distance)
    settings = rollout_settings(args, row, agent, camera) | {"course": scene_set.digest()}
    return evaluate_agent(agent, scene_set.tasks, make_env, store, settings, args.num_parallel)


def metrics_of(rollouts: list[Rollout], args: VLNArguments) -> dict:
    """The summary of one agent, with how much System2 said that could not be parsed."""
    summary = summarize([episode_metrics(r, args.success_distance) for r in rollouts], args.seed)
    num_decisions = sum(d.kind != STEP for rollout in rollouts for d in rollout.decisions)
    if num_decisions:
        summary["decisions"] = num_decisions
        summary["unparsable_share"] = sum(r.num_unparsable for r in rollouts) / num_decisions
    return summary
