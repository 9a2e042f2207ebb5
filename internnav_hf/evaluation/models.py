"""Policies in an evaluation: how they are loaded, what they are called, how they see."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from internnav_hf import policies
from internnav_hf.camera import CameraSpec
from internnav_hf.catalog import Family
from internnav_hf.policies.loading import split_settings
from internnav_hf.policies.policy import Policy
from internnav_hf.sim.scene_sets import camera_of
from internnav_hf.weights.loading import check_is_checkpoint


def family_at(option: str, path: str) -> Family:
    """The family of `path`, the value of `option`: a folder, Hub name or file. ValueError for a
    checkpoint of none, and for a part of another model.
    """
    if not Path(path).is_file():
        check_is_checkpoint(option, path)
    family = policies.family_of_checkpoint(path)
    if family is None or family.benchmark is None:
        found = "an unknown model" if family is None else f"a {family.name}"
        raise ValueError(f"{option} {path}: found {found}, expected one that drives a robot.")
    return family


def load_policy(family: Family, path: str, settings: Mapping[str, Any]) -> Any:
    """The policy of `path`, with those of `settings` that it has; on the accelerator, if there is
    one.
    """
    own, _ = split_settings(family.load("policy"), dict(settings))
    policy = policies.load_policy(path, **own)
    policy.model.to(device())
    return policy


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
