"""Open loop: the dual system's trajectories on held-out samples of a dataset, without a simulator.

Each sample is answered as at run time: "↓" is put in System2's mouth, it points, leaves its plan,
and the action expert samples trajectories from the look-down view of the decision. They are
compared with the way that the expert took from there, beside three others in the same table:

    straight    along a line to the place that System2's pixel shows
    constant    always the mean of the true ways of this set, whatever is seen
    expert      the true way itself, only for what it runs into

What a path hits is measured where the simulator wrote the dataset: the scene is built again, and a
path hits something if the robot could not be everywhere on it. Elsewhere that is left out; what one
view shows is no map. Under several processes each answers its share, and all return the result of
all.

Legend: S samples of a trajectory, H horizon, P paths.
"""

from typing import Any

import numpy as np
from accelerate.utils import gather_object

from internnav_hf.data.tasks.dual_system import DualSystemDataset
from internnav_hf.evaluation.open_loop.common import check_cameras, choose_samples, own_batches
from internnav_hf.evaluation.vln.system2_agent import lift_pixel
from internnav_hf.geometry import camera_pose, robot_to_world
from internnav_hf.policies import DualSystemPolicy, DualSystemStep
from internnav_hf.sim.recorded_scenes import recorded_space
from internnav_hf.trajectory import SPACING_M, resample

SHORTEST_WAY_M = 0.25  # a shorter one has no direction
POINTS_PER_STEP = 3  # of a path, at which is tested whether the robot could be there


def evaluate_dual_open_loop(
    policy: DualSystemPolicy,
    dataset: DualSystemDataset,
    num_samples: int | None = None,
    batch_size: int = 16,
    seed: int = 0,
) -> dict[str, float]:
    """Means over `num_samples` samples drawn with `seed` (None: all).

    * `ade_m`, `fde_m`: distance of the mean path to the true one, over all points and at the end;
      `best_ade_m`, `best_fde_m`: of the nearest of its samples
    * `heading_error_deg`: angle between the directions to both ends, where both are 0.25 m away
    * `collision_share`: of the sampled paths, those that hit something
    * the same of the mean path, of the straight line, the constant and the expert, as far as they
      have it: `mean_path_collision_share`, `straight_ade_m`, ...
    * `num_plans_missing`: samples without a goal, and so without a path; they stand still
    """
    _check(policy, dataset)
    chosen = choose_samples(len(dataset), num_samples, seed)
    samples: list[dict] = []
    for batch in own_batches(chosen, batch_size):
        samples += _answer_batch(policy, dataset, batch)
    constant = np.mean(gather_object([sample["paths"]["expert"][0] for sample in samples]), axis=0)
    for sample in samples:
        sample["paths"]["constant"] = constant[None]
    rows = gather_object([_row(sample) for sample in samples])
    names = sorted({name for row in rows for name in row})
    means = {name: float(np.mean([row[name] for row in rows if name in row])) for name in names}
    num_missing = sum(row["num_plans_missing"] for row in rows)
    return {**means, "num_samples": float(len(rows)), "num_plans_missing": num_missing}


def _check(policy: DualSystemPolicy, dataset: DualSystemDataset) -> None:
    """In another mode than training nothing can be compared."""
    if not len(dataset):
        raise ValueError("There is no sample to evaluate; the dataset is empty.")
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
    """Each sample's true way and what is compared with it, as `paths` (P, H + 1, 2) by name."""
    samples = [dataset.decision(index) for index in indices]
    episodes = []
    for index, sample in zip(indices, samples, strict=True):
        episode = policy.start(sample["instruction"], name=str(index))
        for frame in sample["history"]:
            policy.note(episode, frame)
        episodes.append(episode)
    shown = [
        {"rgb": sample["image"], "rgb_look_down": sample["look_down"]}
        | {"depth_look_down": sample.get("look_down_depth")}
        for sample in samples
    ]
    steps = policy.steps(episodes, shown, force_look_down=True)
    return [_compared(*pair, policy.num_samples) for pair in zip(samples, steps, strict=True)]


def _compared(sample: dict[str, Any], step: DualSystemStep, num_samples: int) -> dict[str, Any]:
    truth = sample["path"]
    paths = {"expert": truth[None], "samples": np.zeros((num_samples, *truth.shape))}
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

    By its depth where the sample has it, else by the floor; above the horizon it goes nowhere.
    """
    camera = sample["camera"]
    pitch = np.radians(camera.look_down_pitch_deg)
    T_robot_camera = camera_pose(0.0, 0.0, 0.0, camera.height_m, pitch)
    place = lift_pixel(goal_pixel, sample.get("look_down_depth"), T_robot_camera, camera)
    line = np.zeros((2, 2))
    if place is not None:
        line[1] = place[:2]
    return resample(line, SPACING_M, len(sample["path"]))


def _row(sample: dict[str, Any]) -> dict[str, float]:
    """The metrics of one sample by name."""
    paths, truth = sample["paths"], sample["paths"]["expert"][0]
    row = {"num_plans_missing": float(sample["is_missing"])}
    distances = np.linalg.norm(paths["samples"] - truth, axis=-1)
    row["best_ade_m"] = float(distances[:, 1:].mean(axis=1).min())
    row["best_fde_m"] = float(distances[:, -1].min())
    for name, prefix in (("mean_path", ""), ("straight", "straight_"), ("constant", "constant_")):
        if name in paths:
            errors = path_errors(paths[name][0], truth)
            row |= {f"{prefix}{key}": value for key, value in errors.items()}
    space = recorded_space(sample["scene_folder"])
    if space is not None:
        for name, all_paths in paths.items():
            prefix = "" if name == "samples" else f"{name}_"
            row[f"{prefix}collision_share"] = hit_share(all_paths, sample["robot_pose"], space)
    return row


def path_errors(path: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """`ade_m`, `fde_m` and, if both paths (H + 1, 2) have a direction, `heading_error_deg`."""
    distances = np.linalg.norm(path - truth, axis=-1)
    errors = {"ade_m": float(distances[1:].mean()), "fde_m": float(distances[-1])}
    if min(np.linalg.norm(path[-1]), np.linalg.norm(truth[-1])) >= SHORTEST_WAY_M:
        (x, y), (true_x, true_y) = path[-1], truth[-1]
        angle = np.arctan2(x * true_y - y * true_x, x * true_x + y * true_y)
        errors["heading_error_deg"] = float(np.degrees(abs(angle)))
    return errors


def hit_share(paths: np.ndarray, robot_pose: tuple[float, float, float], space: Any) -> float:
    """Of paths (P, H + 1, 2) in the frame of a robot at `robot_pose` (x, y, yaw) in the world,
    those on which it would meet an obstacle. It may leave a place where it should not be.
    """
    fractions = np.arange(1, POINTS_PER_STEP + 1)[:, None] / POINTS_PER_STEP
    steps = np.diff(paths, axis=1)[:, :, None]
    points = (paths[:, :-1, None] + steps * fractions).reshape(len(paths), -1, 2)
    points = np.concatenate([paths[:, :1], points], axis=1)  # the start, then thirds of steps
    free = space.is_navigable(robot_to_world(points, robot_pose))
    free |= np.cumsum(free, axis=1) == 0
    moved = np.linalg.norm(paths, axis=-1).max(axis=1) > 0
    return float(((~free).any(axis=1) & moved).mean())
