"""Who follows instructions in an evaluation: what is loaded, and the agents made of it."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from internnav_hf.camera import CameraSpec, difference_from_all
from internnav_hf.evaluation.agents import Agent, ForwardWalker, OracleAgent, RandomWalker
from internnav_hf.evaluation.rollout import file_stamps
from internnav_hf.evaluation.vln.arguments import AGENTS, VLNArguments
from internnav_hf.evaluation.vln.decoupled_agent import DecoupledAgent
from internnav_hf.evaluation.vln.dual_system_agent import DualSystemAgent
from internnav_hf.evaluation.vln.policy_agent import VLNAgent
from internnav_hf.evaluation.vln.system2_agent import System2Agent
from internnav_hf.geometry import FORWARD_STEP_M
from internnav_hf.policies import (
    DualSystemPolicy,
    NavDPPolicy,
    System2Policy,
    VLNPolicy,
    is_dual_system,
    load_vln_policy,
    vln_kind,
)
from internnav_hf.policies.camera_contract import ONE_VIEW
from internnav_hf.sim.scene_sets import SceneSet, camera_of
from internnav_hf.weights.loading import check_is_checkpoint

logger = logging.getLogger(__name__)
Policy = System2Policy | DualSystemPolicy
MODEL_FILES = {
    "model": ("config.json",),
    "processor": ("processor_config.json", "preprocessor_config.json"),
    "tokenizer": ("tokenizer_config.json",),
}


@dataclass
class Models:
    """Those of a run: `policy` of --model if that is a System2 or dual system, `system1`, and of
    each row of Seq2Seq, CMA or RDP its name -> (path, policy).
    """

    policy: Policy | None = None
    system1: NavDPPolicy | None = None
    vln: dict[str, tuple[str, VLNPolicy]] = field(default_factory=dict)


def load_models(args: VLNArguments) -> Models:
    """All that the options name; the first thing that is wrong is one clear ValueError."""
    models = Models()
    paths = [("--vln_models", path) for path in args.vln_models]
    if args.model is not None:
        check_has_files("--model", args.model)
        if vln_kind(args.model) is None:
            models.policy = load_policy(args)
        elif args.system1 is not None or args.data_root is not None:
            option = "--system1" if args.system1 is not None else "--data_root"
            raise ValueError(f"{option}: --model {args.model} is no System2, which it needs.")
        else:
            paths.insert(0, ("--model", args.model))
    for option, path in paths:
        check_has_files(option, path)
        kind = vln_kind(path)
        if kind is None:
            raise ValueError(f"{option} {path}: found no Seq2Seq, CMA or RDP.")
        if not args.use_depth:
            raise ValueError(f"--use_depth: found False, but {path} sees depth.")
        policy = load_vln_policy(path, seed=args.seed)
        policy.model.to(device())
        same = [name for name in models.vln if name.split("_")[0] == kind]
        models.vln[f"{kind}_{len(same) + 1}" if same else kind] = path, policy
    if args.system1:
        models.system1 = load_system1(args)
    return models


def load_policy(args: VLNArguments) -> Policy:
    """Of --model, a System2 or a dual system; a folder that is neither is one clear ValueError."""
    path = args.model
    assert path is not None
    check_has_files("--model", path)
    policy: Policy
    if is_dual_system(path):
        names = ("guidance_scale", "num_inference_steps", "max_steps_per_plan", "seed")
        settings = {name: getattr(args, name) for name in (*names, "answer_with")}
        settings["num_samples"] = args.num_trajectories
        policy = DualSystemPolicy.from_pretrained(path, **settings)
    else:
        policy = System2Policy.from_pretrained(path, args.answer_with)
    policy.model.to(device())
    return policy


def check_has_files(option: str, path: str) -> None:
    """Raise ValueError for a folder without model, processor or tokenizer."""
    if check_is_checkpoint(option, path):
        for what, names in MODEL_FILES.items():
            if not any(Path(path, name).is_file() for name in names):
                raise ValueError(f"{option} {path}: no {what} in it ({' or '.join(names)}).")


def load_system1(args: VLNArguments) -> NavDPPolicy:
    """Of --system1; what is no NavDP is one clear ValueError."""
    path = args.system1
    assert path is not None
    if not Path(path).is_file():
        check_is_checkpoint("--system1", path)
    policy = NavDPPolicy.from_pretrained(path, seed=args.seed)
    policy.model.to(device())
    return policy


def device() -> torch.device:
    """Where models run."""
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return found or torch.device("cpu")


def choose_camera(args: VLNArguments, models: Models) -> CameraSpec:
    """The camera that the main model was trained with, changed by --camera_* with a warning.

    The main model is --model, or the first of --vln_models. What others were trained with is
    compared, with a warning.
    """
    given = {
        "height_m": args.camera_height_m,
        "pitch_deg": args.camera_pitch_deg,
        "look_down_pitch_deg": args.camera_look_down_pitch_deg,
        "hfov_deg": args.camera_hfov_deg,
    }
    if models.policy is not None:
        camera = camera_of(args.model, models.policy.processor.camera, given, CameraSpec())
    elif models.vln:
        path, policy = next(iter(models.vln.values()))
        camera = camera_of(path, policy.processor.camera, given, CameraSpec())
    else:
        camera = camera_of(None, None, given, CameraSpec())
    compare_cameras(models, camera)
    return camera


def compare_cameras(models: Models, camera: CameraSpec) -> None:
    """Warn where a model was trained with another camera than its view in the evaluation.

    NavDP sees the look-down view, Seq2Seq, CMA and RDP only the ordinary one.
    """
    seen = {}
    if models.system1 is not None:
        looking = replace(camera, pitch_deg=camera.look_down_pitch_deg)
        seen["--system1"] = (models.system1.cameras, looking)
    main = None if models.policy is not None else next(iter(models.vln), None)
    for name, (path, policy) in models.vln.items():
        if name != main:
            seen[path] = (policy.cameras, camera)
    for what, (trained, view) in seen.items():
        difference = difference_from_all(trained, view, ONE_VIEW)
        if difference is not None:
            logger.warning("%s sees another camera than its own: %s.", what, difference)


def system2_of(policy: Policy) -> System2Policy:
    """Itself, or the dual system's System2 without plans."""
    if isinstance(policy, System2Policy):
        return policy
    return System2Policy(policy.system2.model, policy.processor, policy.system2.answer_with)


def make_agents(args: VLNArguments, models: Models, course: SceneSet) -> list[Agent]:
    """In the order of AGENTS: those of --agents, or all that there are."""
    can_walk: dict[str, Callable[[], Agent]] = {
        "random": lambda: RandomWalker(args.seed),
        "forward": lambda: ForwardWalker(args.seed, args.forward_steps or mean_steps(course)),
        "oracle": OracleAgent,
    }
    for name, (_, vln_policy) in models.vln.items():
        can_walk[name] = lambda name=name, policy=vln_policy: VLNAgent(policy, name)
    policy, system1 = models.policy, models.system1
    if policy is not None:
        follower = (args.max_steps_per_goal, args.use_depth)
        can_walk["system2"] = lambda: System2Agent(system2_of(policy), *follower)
    if isinstance(policy, DualSystemPolicy):
        can_walk["dual"] = lambda: DualSystemAgent(policy, args.use_depth)
    if policy is not None and system1 is not None:
        goals = (args.system1_goal, args.max_steps_per_goal)
        can_walk["system2_navdp"] = lambda: DecoupledAgent(
            system2_of(policy), system1, *goals, use_depth=args.use_depth
        )
    kinds = {kind_of(name) for name in can_walk}
    for name in args.agents:
        if name not in kinds:
            raise ValueError(f"--agents {name}{_what_is_missing(name, args, models)}")
    chosen = [name for name in can_walk if kind_of(name) in (args.agents or kinds)]
    return [can_walk[name]() for name in sorted(chosen, key=lambda n: AGENTS.index(kind_of(n)))]


def kind_of(name: str) -> str:
    """One of AGENTS: `cma` of `cma_2`."""
    return name if name in AGENTS else name.rpartition("_")[0]


def main_agent(models: Models) -> str | None:
    """Whose episodes the report shows."""
    if models.policy is None:
        return next(iter(models.vln), None)
    return "dual" if isinstance(models.policy, DualSystemPolicy) else "system2"


def mean_steps(course: SceneSet) -> int:
    """Of the shortest ways of all episodes, walked forward."""
    ways = [episode.geodesic_distance for _, episode in course.tasks]
    return round(float(np.mean(ways)) / FORWARD_STEP_M)


def rollout_settings(
    args: VLNArguments, agent: Agent, camera: CameraSpec, models: Models | None = None
) -> dict:
    """All that an agent's rollouts depend on: a rerun with the same finds them."""
    names = ["seed", "scenes", "episodes", "min_distance", "scene", "num_rooms", "num_objects"]
    names += ["max_steps", "allow_sliding"]
    settings = {name: getattr(args, name) for name in names}
    if isinstance(agent, ForwardWalker):
        settings["forward_steps"] = agent.num_steps
    if not agent.needs_images:
        return settings
    settings["camera"] = camera.to_dict()
    if models is not None and agent.name in models.vln:
        path, _ = models.vln[agent.name]
        return settings | {"model": path, "files": file_stamps(Path(path))}
    sampling = ["num_trajectories", "guidance_scale", "num_inference_steps"]
    own = {
        "system2": ["max_steps_per_goal", "use_depth"],
        "dual": [*sampling, "max_steps_per_plan"],
        "system2_navdp": ["max_steps_per_goal", "system1", "system1_goal"],
    }
    names = ["model", "answer_with", *own[agent.name]]
    settings |= {name: getattr(args, name) for name in names}
    settings["files"] = file_stamps(Path(args.model or ""))
    if "system1" in names:
        settings["system1_files"] = file_stamps(Path(args.system1 or ""))
    return settings


def _what_is_missing(name: str, args: VLNArguments, models: Models) -> str:
    if name in ("seq2seq", "cma", "rdp"):
        return " needs one among --vln_models."
    if models.policy is None:
        return " needs --model, a System2 or dual system."
    if name == "system2_navdp":
        return " needs --system1."
    return (
        f": --model {args.model} is a System2 alone, which leaves no plans; "
        "recipes/train_dual_system.py makes a dual system of it."
    )
