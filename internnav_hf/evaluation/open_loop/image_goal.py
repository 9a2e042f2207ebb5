"""Open loop: waypoints and distances of GNM, ViNT and NoMaD on held-out samples of a dataset.

Waypoints are compared with the recorded path where they count (`action_mask`), the predicted
distance with the goal's where the goal is ahead on the same path. Beside them are a mean path of
the set (`constant`), and for NoMaD its trajectory without the goal (`free`) and the error of the
noise with it, without it, and with some goals hidden as in training, as published.

Legend: B samples of a batch, H horizon, A channels of a waypoint.
"""

from functools import partial
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from torch import Tensor
from torch.nn.functional import cosine_similarity

from internnav_hf.data import ImageGoalCollator, ImageGoalDataset, ImageGoalDatasets
from internnav_hf.evaluation.open_loop.common import (
    answer_samples,
    check_cameras,
    sample_generator,
    summarize_rows,
)
from internnav_hf.models.gnm.base import ImageGoalModel, WaypointModel
from internnav_hf.models.gnm.losses import mean_square
from internnav_hf.models.gnm.nomad import NoMaDModel
from internnav_hf.training.evaluation import evaluating


def evaluate_image_goal_open_loop(
    model: ImageGoalModel,
    dataset: ImageGoalDataset | ImageGoalDatasets,
    num_samples: int | None = None,
    batch_size: int = 16,
    seed: int = 0,
) -> dict[str, float]:
    """Means over `num_samples` samples drawn with `seed` (None: all):

    * `ade_m`, `fde_m`: distance to the recorded path, over all waypoints and at the last;
      `waypoint_cosine` of each waypoint, `path_cosine` of all of them in one vector,
      `heading_cosine` of the headings, if there are any
    * `constant_ade_m` of the mean path of the set; `free_...` of NoMaD without the goal, and its
      `noise_error`, the squared error of the noise in its steps; `mixed_noise_error`: of the
      samples whose goal the dataset hides without it, of the others with it
    * `distance_error`: in frames, of goals on the same path; `far_distance`: the mean prediction
      for goals that are not
    """
    check_comparable(model, dataset)
    answer = partial(_answer_batch, model, dataset, seed)
    with evaluating(model):
        samples = answer_samples(answer, dataset, num_samples, batch_size, seed)
    paths = [sample["label"] for sample in gather_object(samples) if sample["counts"]]
    mean_path = np.mean(paths, axis=0) if paths else None
    return summarize_rows([_row(sample, mean_path) for sample in samples])


def check_comparable(model: ImageGoalModel, dataset: ImageGoalDataset | ImageGoalDatasets) -> None:
    """Raise ValueError where `dataset` shows another size or camera than the model's training."""
    config, rules = model.config, dataset.rules
    found = {"num_memory_frames": rules.num_memory_frames, "action_horizon": rules.action_horizon}
    found |= dict(zip(("image_width", "image_height"), dataset.image_size, strict=True))
    for name, value in found.items():
        if value != getattr(config, name):
            expected = getattr(config, name)
            raise ValueError(f"dataset: found {name}={value}, but the model's is {expected}.")
    check_cameras(config.camera, dataset.cameras)


@torch.no_grad()
def _answer_batch(
    model: ImageGoalModel,
    dataset: ImageGoalDataset | ImageGoalDatasets,
    seed: int,
    indices: list[int],
) -> list[dict[str, Any]]:
    given = ImageGoalCollator()([dataset[index] for index in indices])
    batch = {key: value.to(model.device) for key, value in given.items()}
    generators = [sample_generator(seed, i) for i in indices]
    paths, errors, distance = _answers(model, batch, generators)
    label = batch["actions"].float()
    return [
        {
            "label": label[row, :, :2].cpu().numpy(),
            "counts": bool(batch["action_mask"][row]),
            "is_ahead": not dataset.draw(index).is_negative,
            "spacing_m": dataset.spacing_of(index),
            "distance": float(distance[row]),
            "true_distance": float(batch["distance"][row]),
            "answers": {name: path_metrics(path[row], label[row]) for name, path in paths.items()},
            "errors": {name: float(error[row]) for name, error in errors.items()},
        }
        for row, index in enumerate(indices)
    ]


def _answers(
    model: ImageGoalModel, batch: dict[str, Tensor], generators: list[torch.Generator]
) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
    """Waypoints (B, H, A) by prefix of their metrics, NoMaD's errors of the noise (B,) by name, and
    distances (B,).
    """
    rgb, goal = batch["rgb"], batch["goal_image"]
    if isinstance(model, WaypointModel):
        waypoints, distance = model.predict(rgb, goal)
        return {"": waypoints}, {}, distance
    assert isinstance(model, NoMaDModel)
    memory, shown = model.read(rgb), torch.ones(len(rgb), dtype=torch.bool, device=rgb.device)
    noise, timesteps = model.draw(batch["actions"])
    paths, errors, condition = {}, {}, torch.empty(0)
    for prefix, goal_mask in (("free_", ~shown), ("", shown)):
        condition = model.condition(rgb, goal, goal_mask, memory)
        paths[prefix] = model.denoise(condition, 1, generators)[:, 0]
        predicted = model.predict_noise(condition, batch["actions"], noise, timesteps)
        errors[f"{prefix}noise_error"] = mean_square(predicted - noise)
    if "goal_mask" in batch:
        pair = (errors["noise_error"], errors["free_noise_error"])
        errors["mixed_noise_error"] = torch.where(batch["goal_mask"], *pair)
    return paths, errors, model.distance(condition)


def path_metrics(waypoints: Tensor, label: Tensor) -> dict[str, float]:
    """Metrics of one path (H, A) by name, lengths in spacings."""
    xy, true_xy = waypoints[:, :2], label[:, :2]
    errors = (xy - true_xy).norm(dim=-1)
    found = {
        "ade_m": errors.mean(),
        "fde_m": errors[-1],
        "waypoint_cosine": cosine_similarity(xy, true_xy, dim=-1).mean(),
        "path_cosine": cosine_similarity(xy.flatten(), true_xy.flatten(), dim=0),
    }
    if waypoints.shape[-1] > 2:
        cosine = cosine_similarity(waypoints[:, 2:], label[:, 2:], dim=-1).mean()
        found["heading_cosine"] = cosine
    return {name: float(value) for name, value in found.items()}


def _row(sample: dict[str, Any], mean_path: np.ndarray | None) -> dict[str, float]:
    """The metrics of one sample by name, lengths in metres."""
    row = {"far_distance": sample["distance"]}
    if sample["is_ahead"]:
        row = {"distance_error": abs(sample["distance"] - sample["true_distance"])}
    if not sample["counts"] or mean_path is None:
        return row
    spacing = sample["spacing_m"]
    for prefix, metrics in sample["answers"].items():
        for name, value in metrics.items():
            row[f"{prefix}{name}"] = value * spacing if name.endswith("_m") else value
    row |= sample["errors"]
    constant = np.linalg.norm(mean_path - sample["label"], axis=-1).mean()
    return row | {"constant_ade_m": float(constant) * spacing}
