"""Open loop: NavDP's trajectories on held-out samples of a dataset, without a simulator.

Each sample is answered once for every kind of goal that the model was trained for, from the same
views. The trajectory that the critic likes best is compared with the path that the expert took,
beside others in the same table:

    straight    along a line to the point goal, as fast as the experts of this set on average
    constant    always the mean path of the experts of this set, whatever is seen
    label       the expert's path itself, only for what it runs into

The critic is judged by the order in which it puts trajectories: the expert's, the perturbed one
and all that were sampled, by what the obstacles around say that each is worth. What a path hits is
known from the scene's obstacle points: it hits something if the robot, a disc, could not be
everywhere on it.

Legend: B samples of a batch, N trajectories, H horizon, K points of a path, P paths.
"""

import warnings
from functools import partial
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from scipy.stats import ConstantInputWarning, spearmanr

from internnav_hf.data import NavDPCollator, NavDPDataset
from internnav_hf.data.obstacles import ObstacleField, path_value
from internnav_hf.evaluation.open_loop.common import (
    answer_samples,
    check_cameras,
    hit_share,
    path_errors,
    sample_generator,
    summarize_rows,
)
from internnav_hf.geometry import robot_to_world
from internnav_hf.models.navdp.model import NavDPModel
from internnav_hf.training.evaluation import evaluating
from internnav_hf.trajectory import path_of, resample

ROBOT_RADIUS_M = 0.18  # the embedded simulator's
POINTS_PER_STEP = 4  # of a path, at which is tested whether the robot could be there
EXPERT_NAME = "label"  # of the expert's path in the result
GOAL_KEYS = {"point": "goal_point", "image": "goal_image", "pixel": "goal_pixel_map"}


def evaluate_navdp_open_loop(
    model: NavDPModel,
    dataset: NavDPDataset,
    num_samples: int | None = None,
    batch_size: int = 16,
    num_trajectories: int = 16,
    seed: int = 0,
    robot_radius_m: float = ROBOT_RADIUS_M,
) -> dict[str, float]:
    """Means over `num_samples` samples drawn with `seed` (None: all). For each goal kind K:

    * `K_ade_m`, `K_fde_m`: distance of the critic's favourite to the expert's path, over all
      points and at the end; `K_best_ade_m`, `K_best_fde_m`: of the nearest trajectory, each by
      itself; `K_mean_ade_m`: of all trajectories, which shows how far they go by the goal
    * `K_collision_share`: of the trajectories, those that hit something; `K_chosen_collision_share`
      of the favourites
    * the same of the others as far as they have it: `straight_ade_m`, `constant_ade_m`,
      `label_collision_share`, ...
    * `critic_rank_correlation`: Spearman's, of predicted and true values of a sample's
      trajectories, mean over the samples where the true ones differ; `critic_pooled_correlation`:
      over the trajectories of all samples together
    * `num_pixel_goals`: samples whose pixel goal is in view; only they count for that kind
    """
    check_comparable(model, dataset)
    collator = NavDPCollator(channel_order=model.config.channel_order)
    answer = partial(_answer_batch, model, dataset, collator, num_trajectories, seed)
    with evaluating(model):
        samples = answer_samples(answer, dataset, num_samples, batch_size, seed)
    experts = np.array(gather_object([sample["expert"][0] for sample in samples]))
    rows, judged = [], []
    for sample in samples:
        sample |= _baselines(sample["goal_point"], experts)
        rows.append(_row(sample, robot_radius_m))
        judged.append(_judged(sample))
    correlations = _correlations(gather_object(judged))
    return {**summarize_rows(rows, ["num_pixel_goals"]), **correlations}


def check_comparable(model: NavDPModel, dataset: NavDPDataset) -> None:
    """Raise ValueError if `dataset` shows another size or camera than the model's training."""
    for name in ("action_horizon", "image_size", "num_memory_frames", "num_pixel_goal_channels"):
        found, expected = getattr(dataset, name), getattr(model.config, name)
        if found != expected:
            raise ValueError(f"dataset: found {name}={found}, but the model's is {expected}.")
    check_cameras(model.config.camera, dataset.cameras)


@torch.no_grad()
def _answer_batch(
    model: NavDPModel,
    dataset: NavDPDataset,
    collator: NavDPCollator,
    num_trajectories: int,
    seed: int,
    indices: list[int],
) -> list[dict[str, Any]]:
    """All paths (P, H + 1, 2) of each sample by name, and the critic's values of some."""
    batch = {k: v.to(model.device) for k, v in collator([dataset[i] for i in indices]).items()}
    rgb, depth = batch["rgb"], batch["depth"]
    rgb_tokens = model.encode_rgb(rgb.flatten(0, 1)).unflatten(0, rgb.shape[:2])
    pair = torch.stack([batch["actions"], batch["perturbed_actions"]], dim=1)
    values = model.values_of(pair, rgb, depth, rgb_tokens=rgb_tokens)
    samples = []
    for row, index in enumerate(indices):
        decision = dataset.decision(index)
        (u, v), (height, width, _) = decision["goal_pixel"], decision["rgb"].shape
        paths = path_of(pair[row].cpu().numpy())
        samples.append(
            {
                "expert": decision["path"][None],
                "goal_point": batch["goal_point"][row].cpu().numpy(),
                "goal_is_in_view": bool(0 <= u < width and 0 <= v < height),
                "robot_pose": decision["robot_pose"],
                "obstacles": dataset.obstacles(index),
                "collision_distance": dataset.collision_distance,
                "answers": {},
                "judged": [(paths, values[row].float().cpu().numpy())],
            }
        )
    for kind in model.config.goal_kinds:
        key = GOAL_KEYS.get(kind)
        goals = [{kind: batch[key][row]} if key else {} for row in range(len(indices))]
        # of the sample, so that batches, processes and kinds of goals make no difference
        generators = [sample_generator(seed, index) for index in indices]
        answer = model.sample(
            goals, rgb, depth, num_trajectories, generators, rgb_tokens=rgb_tokens
        )
        for row, sample in enumerate(samples):
            xy = answer.trajectories[row, ..., :2].float().cpu().numpy().astype(np.float64)
            paths = np.concatenate([np.zeros_like(xy[:, :1]), xy], axis=1)
            sample["judged"].append((paths, answer.values[row].float().cpu().numpy()))
            if kind != "pixel" or sample["goal_is_in_view"]:
                sample["answers"][kind] = paths
    return samples


def _baselines(goal_point: np.ndarray, experts: np.ndarray) -> dict[str, np.ndarray]:
    """What needs no model; `experts` (S, H + 1, 2) are the experts' paths of the whole set."""
    steps = np.linalg.norm(np.diff(experts, axis=1), axis=-1)
    spacing = steps[steps > 0].mean() if (steps > 0).any() else 0.0
    line = np.stack([np.zeros(2), goal_point[:2]])
    return {
        "constant": experts.mean(axis=0, keepdims=True),
        "straight": resample(line, spacing, experts.shape[1])[None],
    }


def _row(sample: dict[str, Any], robot_radius_m: float) -> dict[str, float]:
    expert, pose, obstacles = sample["expert"][0], sample["robot_pose"], sample["obstacles"]

    def is_free(points: np.ndarray) -> np.ndarray:
        return ~touches(points, obstacles, robot_radius_m)

    def share(paths: np.ndarray) -> float:
        return hit_share(robot_to_world(paths, pose), is_free, POINTS_PER_STEP)

    row = {"num_pixel_goals": float(sample["goal_is_in_view"])}
    for kind, paths in sample["answers"].items():
        ade_m, fde_m = path_errors(paths, expert)
        row |= {f"{kind}_ade_m": float(ade_m[0]), f"{kind}_fde_m": float(fde_m[0])}
        row |= {f"{kind}_best_ade_m": float(ade_m.min()), f"{kind}_best_fde_m": float(fde_m.min())}
        row[f"{kind}_mean_ade_m"] = float(ade_m.mean())
        row[f"{kind}_collision_share"] = share(paths)
        row[f"{kind}_chosen_collision_share"] = share(paths[:1])
    for name in ("straight", "constant"):
        (ade_m,), (fde_m,) = path_errors(sample[name], expert)
        row |= {f"{name}_ade_m": float(ade_m), f"{name}_fde_m": float(fde_m)}
        row[f"{name}_collision_share"] = share(sample[name])
    return row | {f"{EXPERT_NAME}_collision_share": share(sample["expert"])}


def _judged(sample: dict[str, Any]) -> np.ndarray:
    """(P, 2) the critic's and the true value of each of a sample's trajectories."""
    paths, values = (np.concatenate(parts) for parts in zip(*sample["judged"], strict=True))
    paths_world = robot_to_world(paths, sample["robot_pose"])
    true = path_value(paths_world, sample["obstacles"], sample["collision_distance"])
    return np.stack([values, true], axis=1)


def touches(points: np.ndarray, obstacles: ObstacleField, radius_m: float) -> np.ndarray:
    """(...,) whether an obstacle lies within `radius_m` of `points` (..., 2)."""
    # |dx| + |dy| costs less, and is at most sqrt(2) times the distance
    found = obstacles(points) <= np.sqrt(2) * radius_m
    found[found] = obstacles.euclidean(points[found]) <= radius_m
    return found


def rank_correlation(judged: np.ndarray) -> float | None:
    """Spearman's, of columns of `judged` (P, 2), rounded; None if one does not vary."""
    judged = judged.round(4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConstantInputWarning)
        correlation = float(spearmanr(judged[:, 0], judged[:, 1]).statistic)
    return None if np.isnan(correlation) else correlation


def _correlations(judged: list[np.ndarray]) -> dict[str, float]:
    inside = [found for found in map(rank_correlation, judged) if found is not None]
    result = {"critic_rank_correlation": float(np.mean(inside))} if inside else {}
    pooled = rank_correlation(np.concatenate(judged))
    return result if pooled is None else result | {"critic_pooled_correlation": pooled}
