"""Loads the models of an evaluation of instruction following, and makes the agents of its table."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from internnav_hf.camera import CameraSpec
from internnav_hf.evaluation import models as policies
from internnav_hf.evaluation.agents import Agent, ForwardWalker, OracleAgent, RandomWalker
from internnav_hf.evaluation.arguments import VLN, kind_of
from internnav_hf.evaluation.models import choose_camera, warn_of_other_cameras
from internnav_hf.evaluation.rollout import file_stamps
from internnav_hf.evaluation.vln.arguments import SYSTEM2_FAMILIES, WITH_SYSTEM2, VLNArguments
from internnav_hf.evaluation.vln.decoupled_agent import DecoupledAgent
from internnav_hf.evaluation.vln.dual_system_agent import DualSystemAgent
from internnav_hf.evaluation.vln.policy_agent import PolicyAgent
from internnav_hf.evaluation.vln.system2_agent import System2Agent
from internnav_hf.geometry import FORWARD_STEP_M
from internnav_hf.policies import DualSystemPolicy, System2Policy
from internnav_hf.policies.loading import split_settings
from internnav_hf.policies.policy import GoalPolicy, InstructionPolicy, Policy
from internnav_hf.sim.scene_sets import SceneSet
from internnav_hf.weights.loading import check_is_checkpoint

MODEL_FILES = {
    "model": ("config.json",),
    "processor": ("processor_config.json", "preprocessor_config.json"),
    "tokenizer": ("tokenizer_config.json",),
}


@dataclass
class Follower:
    """An instruction policy with a row of its own: `kind`, or `kind_2` for the second of it."""

    name: str
    kind: str
    path: str
    policy: InstructionPolicy


@dataclass
class Models:
    """`policy` is a System2 or dual system of --model, `system1` drives to its goals,
    all others are followers.
    """

    policy: System2Policy | DualSystemPolicy | None = None
    system1: GoalPolicy | None = None
    followers: list[Follower] = field(default_factory=list)

    @property
    def main(self) -> str | None:
        """The agent whose episodes the report shows."""
        if self.policy is None:
            return self.followers[0].name if self.followers else None
        return "dual" if isinstance(self.policy, DualSystemPolicy) else "system2"


@dataclass
class Row:
    """A row of the table: its `kind`, how its agent is made, and what its rollouts depend on."""

    kind: str
    make: Callable[[], Agent]
    depends_on: dict[str, Any] = field(default_factory=dict)


def load_models(args: VLNArguments) -> Models:
    """All that the options name; the first thing that is wrong is one clear ValueError."""
    models = Models()
    paths = [("--vln_models", path) for path in args.vln_models]
    if args.model is not None:
        check_has_files("--model", args.model)
        family = policies.family_at("--model", args.model)
        if family.name in SYSTEM2_FAMILIES:
            models.policy = policies.load_policy(family, args.model, policy_settings(args))
        elif args.system1 is not None or args.data_root is not None:
            option = "--system1" if args.system1 is not None else "--data_root"
            raise ValueError(f"{option}: --model {args.model} is no System2, which it needs.")
        else:
            paths.insert(0, ("--model", args.model))
    for option, path in paths:
        models.followers.append(load_follower(option, path, args, models.followers))
    if args.system1:
        models.system1 = load_system1(args.system1, args.seed)
    return models


def load_system1(path: str, seed: int) -> GoalPolicy:
    """A policy that drives to goals."""
    family = policies.family_at("--system1", path)
    if family.benchmark != "visual_navigation":
        raise ValueError(
            f"--system1 {path}: found a model of type {family.model_type!r}, expected one that "
            "drives to goals."
        )
    return policies.load_policy(family, path, {"seed": seed})


def load_follower(option: str, path: str, args: VLNArguments, others: list[Follower]) -> Follower:
    """A policy that answers every view with actions."""
    check_has_files(option, path)
    family = policies.family_at(option, path)
    if family.benchmark != VLN or family.name in SYSTEM2_FAMILIES:
        raise ValueError(f"{option} {path}: found no Seq2Seq, CMA or RDP.")
    if not args.use_depth:
        raise ValueError(f"--use_depth: found False, but {path} sees depth.")
    policy = policies.load_policy(family, path, policy_settings(args))
    kind = kind_of(policy.model.config.model_type)
    number = sum(other.kind == kind for other in others) + 1
    return Follower(kind if number == 1 else f"{kind}_{number}", kind, path, policy)


def policy_settings(args: VLNArguments) -> dict[str, Any]:
    """Settings of policies that options name; `num_samples` is called num_trajectories there."""
    names = ("answer_with", "guidance_scale", "num_inference_steps", "max_steps_per_plan", "seed")
    settings = {name: getattr(args, name) for name in names}
    return settings | {"num_samples": args.num_trajectories}


def check_has_files(option: str, path: str) -> None:
    """Raise ValueError for a folder without model, processor or tokenizer."""
    if check_is_checkpoint(option, path):
        for what, names in MODEL_FILES.items():
            if not any(Path(path, name).is_file() for name in names):
                raise ValueError(f"{option} {path}: no {what} in it ({' or '.join(names)}).")


def main_camera(args: VLNArguments, models: Models) -> CameraSpec:
    """The camera that the main model was trained with, changed by --camera_* with a warning.

    The main model is --model, or the first of --vln_models. What others were trained with is
    compared, with a warning.
    """
    path, policy = args.model, models.policy
    if policy is None and models.followers:
        path, policy = models.followers[0].path, models.followers[0].policy
    camera = choose_camera(path, policy, args.camera_changes(), CameraSpec())
    compare_cameras(models, camera)
    return camera


def compare_cameras(models: Models, camera: CameraSpec) -> None:
    """Warn if a model was trained with another camera than its view in the evaluation.

    A System1 sees the look-down view, followers of instructions only the ordinary one.
    """
    seen: dict[str, tuple[Policy, CameraSpec]] = {}
    if models.system1 is not None:
        looking = replace(camera, pitch_deg=camera.look_down_pitch_deg)
        seen["--system1"] = (models.system1, looking)
    for follower in models.followers:
        if follower.name != models.main:
            seen[follower.path] = (follower.policy, camera)
    warn_of_other_cameras(seen)


def system2_of(policy: System2Policy | DualSystemPolicy) -> System2Policy:
    """Itself, or the dual system's System2 without plans."""
    if isinstance(policy, System2Policy):
        return policy
    return System2Policy(policy.system2.model, policy.processor, policy.system2.answer_with)


def make_rows(args: VLNArguments, models: Models, scene_set: SceneSet) -> list[Row]:
    """The rows of --agents, or all that there are."""
    lengths = [episode.geodesic_distance for _, episode in scene_set.tasks]
    num_steps = args.forward_steps or round(float(np.mean(lengths)) / FORWARD_STEP_M)
    rows = [
        Row("random", lambda: RandomWalker(args.seed)),
        Row("forward", lambda: ForwardWalker(args.seed, num_steps), {"forward_steps": num_steps}),
        *[_follower_row(follower, args) for follower in models.followers],
        *_system2_rows(args, models),
        Row("oracle", OracleAgent),
    ]
    kinds = [row.kind for row in rows]
    for kind in args.agents:
        if kind not in kinds:
            raise ValueError(f"--agents {kind}{_what_is_missing(kind, args, models)}")
    return [row for row in rows if row.kind in (args.agents or kinds)]


def _follower_row(follower: Follower, args: VLNArguments) -> Row:
    files = {"model": follower.path, "files": file_stamps(Path(follower.path))}
    settings = _named_as_options(type(follower.policy), args)
    return Row(follower.kind, lambda: PolicyAgent(follower.policy, follower.name), files | settings)


def _system2_rows(args: VLNArguments, models: Models) -> list[Row]:
    """Rows in which System2 decides and something else moves to its goals."""
    policy, system1, max_steps = models.policy, models.system1, args.max_steps_per_goal
    if policy is None or args.model is None:
        return []
    model = {"model": args.model, "files": file_stamps(Path(args.model))}
    model |= {"answer_with": args.answer_with}
    system2, seen = system2_of(policy), {"use_depth": args.use_depth}
    followed = {"max_steps_per_goal": max_steps} | seen
    make = partial(System2Agent, system2, max_steps, **seen)
    rows = [Row("system2", make, model | followed)]
    if system1 is not None and args.system1 is not None:
        names = ("max_steps_per_goal", "system1", "system1_goal")
        driven = {name: getattr(args, name) for name in names}
        driven["system1_files"] = file_stamps(Path(args.system1))
        kind = kind_of(system1.model.config.model_type)
        goals = {"system1_goal": args.system1_goal, "max_steps_per_goal": max_steps}
        make = partial(DecoupledAgent, system2, system1, kind=kind, **goals, **seen)
        rows.append(Row(f"system2_{kind}", make, model | driven | seen))
    if isinstance(policy, DualSystemPolicy):
        settings = _named_as_options(type(policy), args)
        rows.append(Row("dual", partial(DualSystemAgent, policy, **seen), model | settings))
    return rows


def _named_as_options(policy: type[Policy], args: VLNArguments) -> dict[str, Any]:
    """Its settings but for the seed, which everything depends on."""
    settings, _ = split_settings(policy, policy_settings(args))
    settings.pop("seed", None)
    if "num_samples" in settings:
        settings["num_trajectories"] = settings.pop("num_samples")
    return settings


def rollout_settings(args: VLNArguments, row: Row, agent: Agent, camera: CameraSpec) -> dict:
    """All that an agent's rollouts depend on: a rerun with the same finds them."""
    names = ["seed", "scenes", "episodes", "min_distance", "scene", "num_rooms", "num_objects"]
    names += ["max_steps", "allow_sliding"]
    settings = {name: getattr(args, name) for name in names} | row.depends_on
    return settings | {"camera": camera.to_dict()} if agent.needs_images else settings


def _what_is_missing(kind: str, args: VLNArguments, models: Models) -> str:
    if kind not in WITH_SYSTEM2:
        return " needs one among --vln_models."
    if models.policy is None:
        return " needs --model, a System2 or dual system."
    if kind.startswith("system2_"):
        return f" needs --system1, {kind.removeprefix('system2_')}."
    return (
        f": --model {args.model} is a System2 alone, which leaves no plans; "
        "recipes/train_dual_system.py makes a dual system of it."
    )
