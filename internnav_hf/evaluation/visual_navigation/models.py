"""Loads the models of an evaluation of visual navigation, and makes the agents of its table."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from internnav_hf.camera import CameraSpec
from internnav_hf.evaluation import models as policies
from internnav_hf.evaluation.arguments import VLN, kind_of
from internnav_hf.evaluation.models import choose_camera, warn_of_other_cameras
from internnav_hf.evaluation.rollout import file_stamps
from internnav_hf.evaluation.visual_navigation.agents import (
    DrivingAgent,
    Oracle,
    PolicyAgent,
    RandomPath,
    StraightLine,
)
from internnav_hf.evaluation.visual_navigation.arguments import (
    BASELINES,
    VisualNavigationArguments,
)
from internnav_hf.policies.loading import split_settings
from internnav_hf.policies.policy import GoalPolicy

POLICY_SETTINGS = (
    *("num_samples", "num_inference_steps", "memory_stride", "stop_threshold", "seed"),
    *("as_benchmarked", "seen_clearance"),
)
PUBLISHED_CAMERA = CameraSpec(
    width=640, height=360, hfov_deg=67.8, height_m=0.3, depth_scale=10_000
)


@dataclass
class Model:
    """A policy with a row of its own: `name` is its kind, or `kind_2` for the second of it."""

    name: str
    path: str
    policy: GoalPolicy


@dataclass
class Entrant:
    """An agent of the table, and what its rollouts depend on besides rules, scenes and episodes."""

    agent: DrivingAgent
    depends_on: dict[str, Any]

    def can_drive(self, task: str) -> bool:
        """Whether it was made or trained for the goals of `task`."""
        return task in self.agent.tasks


def load_models(args: VisualNavigationArguments) -> list[Model]:
    """All that the options name; the first thing that is wrong is one clear ValueError."""
    models, kinds = [], []
    for option, path in args.model_paths:
        policy = load_policy(option, path, args)
        kinds.append(kind := kind_of(policy.model.config.model_type))
        number = kinds.count(kind)
        models.append(Model(kind if number == 1 else f"{kind}_{number}", path, policy))
    return models


def load_policy(option: str, path: str, args: VisualNavigationArguments) -> GoalPolicy:
    """The policy of `path`, the value of `option`; ValueError for one that drives to no goals."""
    family = policies.family_at(option, path)
    if family.benchmark != "visual_navigation":
        raise ValueError(
            f"{option} {path}: found a model of type {family.model_type!r}, which drives to no "
            f"goals; --task {VLN} is for those that follow instructions."
        )
    return policies.load_policy(family, path, policy_settings(args))


def policy_settings(args: VisualNavigationArguments) -> dict[str, Any]:
    """Settings of policies that options name."""
    return {name: getattr(args, name) for name in POLICY_SETTINGS}


def make_entrants(args: VisualNavigationArguments, models: list[Model]) -> list[Entrant]:
    """The models, then the baselines; a baseline that is --model comes first.

    Raises ValueError if --model cannot do a task, a task has no agent at all, or none of the models
    has a setting that is asked for.
    """
    _check_settings_are_used(args, models)
    known: dict[str, Callable[[], DrivingAgent]] = {
        "straight-line": StraightLine,
        "random": lambda: RandomPath(args.seed),
        "oracle": Oracle,
    }
    asked_for = (args.model, *args.models, *args.baselines)
    names = [name for name in BASELINES if name in asked_for]
    entrants = [
        *[_driven(args, model) for model in models],
        *[Entrant(known[name](), {"seed": args.seed}) for name in names],
    ]
    entrants.sort(key=lambda entrant: entrant.agent.name != args.model)
    for task in args.task:
        if not any(entrant.can_drive(task) for entrant in entrants):
            raise ValueError(
                f"--task {task}: found no model that can do it, expected one, or --baselines."
            )
    return entrants


def _check_settings_are_used(args: VisualNavigationArguments, models: list[Model]) -> None:
    for name in ("stop_threshold", "seen_clearance", "num_inference_steps"):
        given = {name: getattr(args, name)}
        if given[name] is None or any(split_settings(type(m.policy), given)[0] for m in models):
            continue
        raise ValueError(
            f"--{name}: found {given[name]}, expected none: it is a setting of none of the models."
        )


def _driven(args: VisualNavigationArguments, model: Model) -> Entrant:
    """ValueError for a model that cannot do what it is asked for."""
    agent = PolicyAgent(model.policy, model.name)
    missing = [task for task in args.task if task not in agent.tasks]
    if missing and model.path == args.model:
        raise ValueError(
            f"--task {missing[0]}: {model.path} can do {', '.join(agent.tasks)}; other goals it "
            "was not made or trained for."
        )
    stamps = {"model": model.path, "files": file_stamps(Path(model.path))}
    own, _ = split_settings(type(model.policy), policy_settings(args))
    return Entrant(agent, {"seed": args.seed} | own | stamps)


def main_camera(args: VisualNavigationArguments, models: list[Model]) -> CameraSpec:
    """The camera of the first model that stores its own, changed by --camera_*, or the published
    one; models that were trained with another one are a warning.
    """
    knowing = [model for model in models if model.policy.cameras] or models
    first = knowing[0] if knowing else None
    path, policy = (first.path, first.policy) if first else (None, None)
    camera = choose_camera(path, policy, args.camera_changes(), PUBLISHED_CAMERA)
    others = [model for model in models if model is not first]
    warn_of_other_cameras({model.path: (model.policy, camera) for model in others})
    return camera
