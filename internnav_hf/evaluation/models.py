"""Policies in an evaluation: how they are loaded, what they are called, how they see."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers.utils import CONFIG_NAME

from internnav_hf.camera import CameraSpec
from internnav_hf.catalog import families_of
from internnav_hf.policies import (
    DualSystemPolicy,
    NavDPPolicy,
    RDPPolicy,
    System2Policy,
    VLNPolicy,
    is_dual_system,
    vln_kind,
)
from internnav_hf.policies.policy import Policy
from internnav_hf.sim.scene_sets import camera_of
from internnav_hf.weights.checkpoints import stored_config
from internnav_hf.weights.loading import check_is_checkpoint


def policy_class(option: str, path: str) -> type[Policy]:
    """Which policy runs what is in `path`, the value of `option`: a folder, Hub name or file."""
    if not Path(path).is_file():
        check_is_checkpoint(option, path)
    kind = vln_kind(path)
    if kind is not None:
        return RDPPolicy if kind == "rdp" else VLNPolicy
    is_released = Path(path).exists() and not Path(path, CONFIG_NAME).is_file()
    if is_released or stored_config(path).get("model_type") == "internnav_navdp":
        return NavDPPolicy
    return DualSystemPolicy if is_dual_system(path) else System2Policy


def drives_to_goals(policy: type[Policy]) -> bool:
    """Whether it is a `GoalPolicy`; else it follows instructions."""
    return any(family.benchmark == "visual_navigation" for family in families_of(policy))


def load_policy(option: str, path: str, settings: Mapping[str, Any]) -> Any:
    """The policy of `path`, the value of `option`, with those of `settings` that it has; on the
    accelerator, if there is one.
    """
    found = policy_class(option, path)
    policy = found.from_pretrained(path, **own_settings(found, settings))
    policy.model.to(device())
    return policy


def own_settings(policy: type[Policy], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The `settings` that a policy has."""
    known = inspect.signature(policy).parameters
    return {name: value for name, value in settings.items() if name in known}


def choose_camera(
    path: str | None, policy: Policy | None, changes: dict, otherwise: CameraSpec
) -> CameraSpec:
    """The camera that the policy of `path` was trained with, with `changes` and a warning; without
    a policy, `otherwise`.
    """
    return camera_of(path, () if policy is None else policy.cameras, changes, otherwise)


def device() -> torch.device:
    """Where models run."""
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return found or torch.device("cpu")
