"""Open loop: a planner's paths on held-out samples, measured on the map, without a simulator."""

from typing import Any

import torch

from internnav_hf.data import PlannerCollator, PlannerDataset
from internnav_hf.evaluation.open_loop.common import (
    answer_samples,
    check_cameras,
    summarize_rows,
)
from internnav_hf.models.planners.model import PlannerModel
from internnav_hf.training.evaluation import evaluating


def evaluate_planner_open_loop(
    model: PlannerModel,
    dataset: PlannerDataset,
    num_samples: int | None = None,
    batch_size: int = 16,
    seed: int = 0,
) -> dict[str, float]:
    """Means over `num_samples` samples drawn with `seed` (None: all):

    * `map_cost`, `largest_map_cost`: along the path, above the cost of ground to be used
    * `goal_error_m`: from the path's end to the goal
    * `collision_share`: of paths that run into what is feared, near the robot
    * `fear_accuracy`: of whether the network says so
    * `straight_map_cost`, `straight_collision_share`: the same of the straight line to the goal
    """
    check_cameras(model.config.camera, dataset.cameras)
    collator = PlannerCollator()

    @torch.no_grad()
    def answer(indices: list[int]) -> list[dict[str, Any]]:
        batch = {k: v.to(model.device) for k, v in collator([dataset[i] for i in indices]).items()}
        output, straight = model(**batch), model.judge_straight(batch)
        last = output.waypoints[:, -1, :2]
        rows = {
            "map_cost": output.mean_cost,
            "largest_map_cost": output.largest_cost,
            "goal_error_m": (last - batch["goal_point"][:, :2]).norm(dim=-1),
            "collision_share": output.fear_label,
            "fear_accuracy": ((output.fear > 0.5) == (output.fear_label > 0.5)).float(),
            "straight_map_cost": straight.mean_cost,
            "straight_collision_share": straight.fear_label,
        }
        columns = {name: values.tolist() for name, values in rows.items()}
        return [{name: values[i] for name, values in columns.items()} for i in range(len(indices))]

    with evaluating(model):
        return summarize_rows(answer_samples(answer, dataset, num_samples, batch_size, seed))
