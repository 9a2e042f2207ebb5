"""Open loop: the dual system's trajectories on held-out samples of a dataset, without a simulator.

Each sample is answered as at run time: System2 is made to answer "↓", it points, leaves its plan,
and the action expert samples trajectories from the look-down view of the decision. They are
compared with the path that the expert took from there, beside three others in the same table:

    straight    along a line to the place that System2's pixel shows
    constant    always the mean path of the experts of this set, whatever is seen
    expert      the expert's path itself, only for what it runs into

What a path hits is measured where the simulator wrote the dataset: the scene is built again, and a
path hits something if the robot could not be everywhere on it. Elsewhere that is left out; what one
view shows is no map.

Legend: S samples of a trajectory, H horizon, P paths.
"""

from functools import partial
from typing import Any

import numpy as np
from accelerate.utils import gather_object

from internnav_hf.data.tasks.dual_system import DualSystemDataset
from internnav_hf.evaluation.open_loop.common import (
    answer_samples,
    check_cameras,
    hit_share,
    path_errors,
    summarize_rows,
)
from internnav_hf.geometry import camera_pose, lift_pixel, robot_to_world
from internnav_hf.policies import DualSystemPolicy, DualSystemStep
from internnav_hf.sim.recorded_scenes import recorded_space
from internnav_hf.trajectory import SPACING_M, resample

SHORTEST_PATH_M = 0.25  # a shorter one has no direction
POINTS_PER_STEP = 3  # of a path, at which is tested whether the robot could be there


def evaluate_dual_open_loop(
    policy: DualSystemPolicy, dataset: DualSystemDataset, **drawing: int | None
) -> dict[str, float]:
    """Means over samples of `dataset`; `drawing` are the `num_samples`, `batch_size` and `seed` of
    `answer_samples`.

    * `ade_m`, `fde_m`: distance of the mean path to the expert's, over all points and at the end;
      `best_ade_m`, `best_fde_m`: of the nearest of its samples
    * `heading_error_deg`: angle between the directions to both ends, where both are 0.25 m away
    * `collision_share`: of the sampled paths, those that hit something
    * the same of the mean path, of the straight line, the constant and the expert, as far as they
      have it: `mean_path_collision_share`, `straight_ade_m`, ...
    * `num_plans_missing`: samples without a goal, and so without a path; they stand still
    """
    _check(policy, dataset)
    answer = partial(_answer_batch, policy, dataset)
    samples = answer_samples(answer, dataset, **drawing)  # type: ignore[arg-type]
    constant = np.mean(gather_object([sample["paths"]["expert"][0] for sample in samples]), axis=0)
    for sample in samples:
        sample["paths"]["constant"] = constant[None]
    return summarize_rows([_row(sample) for sample in samples], ["num_plans_missing"])


def _check(policy: DualSystemPolicy, dataset: DualSystemDataset) -> None:
    """Raise ValueError if `dataset` was opened in another mode than the model's training."""
    check_cameras(policy.processor.camera, dataset.cameras)
    if policy.needs_depth and not dataset.depth:
        raise ValueError(
            "dataset: found depth=False, but this model's action expert was trained with depth: "
            "open the dataset with depth=True."
        )
    horizon = policy.expert.config.action_horizon
    if dataset.action_horizon != horizon:
        raise ValueError(
            f"dataset: found action_horizon={dataset.action_horizon}, but the model's is {horizon}."
        )


def _answer_batch(
    policy: DualSystemPolicy, dataset: DualSystemDataset, indices: list[int]
) -> list[dict]:
    """Each sample's expert path and what is compared with it, as `paths` (P, H + 1, 2) by name."""
    samples = [dataset.decision(index) for index in indices]
    episodes = []
    for index, sample in zip(indices, samples, strict=True):
        episodes.append(policy.start(sample["instruction"], name=str(index)))
        for frame in sample["history"]:
            policy.note(episodes[-1], frame)
    shown = [
        {"rgb": sample["image"], "rgb_look_down": sample["look_down"]}
        | {"depth_look_down": sample.get("look_down_depth")}
        for sample in samples
    ]
    steps = policy.steps(episodes, shown, force_look_down=True)
    return [_compared(*pair, policy.num_samples) for pair in zip(samples, steps, strict=True)]


def _compared(sample: dict[str, Any], step: DualSystemStep, num_samples: int) -> dict[str, Any]:
    expert = sample["path"]
    paths = {"expert": expert[None], "samples": np.zeros((num_samples, *expert.shape))}
    if step.trajectories is not None:
        paths["samples"] = step.trajectories
    paths["mean_path"] = paths["samples"].mean(axis=0, keepdims=True)
    if step.decision.goal_pixel is not None:
        paths["straight"] = straight_path(sample, step.decision.goal_pixel)[None]
    return {
        "paths": paths,
        "is_missing": step.trajectories is None,
        "scene_folder": sample["scene_folder"],
        "robot_pose": sample["robot_pose"],
    }


def straight_path(sample: dict[str, Any], goal_pixel: tuple[float, float]) -> np.ndarray:
    """(H + 1, 2) metres in the robot's frame, to what a pixel of the look-down view shows.

    By its depth if the sample has it, else by the floor; above the horizon it goes nowhere.
    """
    camera = sample["camera"]
    pitch = np.radians(camera.look_down_pitch_deg)
    T_robot_camera = camera_pose(0.0, 0.0, 0.0, camera.height_m, pitch)
    place = lift_pixel(goal_pixel, sample.get("look_down_depth"), T_robot_camera, camera.intrinsics)
    line = np.zeros((2, 2))
    if place is not None:
        line[1] = place[:2]
    return resample(line, SPACING_M, len(sample["path"]))


def _row(sample: dict[str, Any]) -> dict[str, float]:
    paths, expert = sample["paths"], sample["paths"]["expert"][0]
    ade_m, fde_m = path_errors(paths["samples"], expert)
    row = {"num_plans_missing": float(sample["is_missing"])}
    row |= {"best_ade_m": float(ade_m.min()), "best_fde_m": float(fde_m.min())}
    for name, prefix in (("mean_path", ""), ("straight", "straight_"), ("constant", "constant_")):
        if name in paths:
            (ade_m,), (fde_m,) = path_errors(paths[name], expert)
            row |= {f"{prefix}ade_m": float(ade_m), f"{prefix}fde_m": float(fde_m)}
            heading_deg = heading_error_deg(paths[name][0], expert)
            if heading_deg is not None:
                row[f"{prefix}heading_error_deg"] = heading_deg
    space, pose = recorded_space(sample["scene_folder"]), sample["robot_pose"]
    if space is not None:
        for name, all_paths in paths.items():
            prefix = "" if name == "samples" else f"{name}_"
            row[f"{prefix}collision_share"] = hit_share(
                all_paths,
                lambda points: space.is_navigable(robot_to_world(points, pose)),
                POINTS_PER_STEP,
            )
    return row


def heading_error_deg(path: np.ndarray, expert: np.ndarray) -> float | None:
    """Angle between directions to the ends of paths (H + 1, 2) from (0, 0); None if too short."""
    if min(np.linalg.norm(path[-1]), np.linalg.norm(expert[-1])) < SHORTEST_PATH_M:
        return None
    (x, y), (expert_x, expert_y) = path[-1], expert[-1]
    angle = np.arctan2(x * expert_y - y * expert_x, x * expert_x + y * expert_y)
    return float(np.degrees(abs(angle)))
