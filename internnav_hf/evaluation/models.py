"""Policies in an evaluation: how they are loaded, what they are called, how they see."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from internnav_hf import policies
from internnav_hf.camera import CameraSpec, difference_from_all
from internnav_hf.catalog import Family
from internnav_hf.policies.camera_contract import ONE_VIEW
from internnav_hf.policies.loading import split_settings
from internnav_hf.policies.policy import Policy
from internnav_hf.weights.loading import check_is_checkpoint

logger = logging.getLogger(__name__)


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
    """The policy of `path`, with its own of `settings`, on the accelerator if there is one."""
    own, _ = split_settings(family.load("policy"), dict(settings))
    policy = policies.load_policy(path, **own)
    policy.model.to(device())
    return policy


def choose_camera(
    path: str | None, policy: Policy | None, changes: dict, otherwise: CameraSpec
) -> CameraSpec:
    """The camera that the policy of `path` was trained with (the first of several), or `otherwise`
    if none is known, with those of `changes` that are not None; any difference is a warning.
    """
    trained = () if policy is None else policy.cameras
    camera = trained[0] if trained else otherwise
    if path is not None and not trained:
        logger.warning("%s stores no training camera; using %s.", path, camera)
    if len(trained) > 1:
        logger.warning("%s was trained with %d cameras; using %s.", path, len(trained), camera)
    given = {name: value for name, value in changes.items() if value is not None}
    chosen = replace(camera, **given)
    difference = difference_from_all(trained or [camera], chosen)
    if path is not None and difference is not None:
        logger.warning("The camera differs from the model's: %s.", difference)
    return chosen


def warn_of_other_cameras(views: Mapping[str, tuple[Policy, CameraSpec]]) -> None:
    """Warn of policies, by what they are called, that were trained with another camera than the one
    they are shown views of.
    """
    for what, (policy, camera) in views.items():
        difference = difference_from_all(policy.cameras, camera, ONE_VIEW)
        if difference is not None:
            logger.warning("%s sees another camera than its own: %s.", what, difference)


def device() -> torch.device:
    """Where models run."""
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return found or torch.device("cpu")
