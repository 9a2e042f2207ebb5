"""Open-loop metrics of image-goal models: the published cosines, metres, goals elsewhere."""

import pytest
import torch

from internnav_hf.data import ImageGoalCollator, ImageGoalDataset, ImageGoalDatasets
from internnav_hf.data.tasks.image_goal_targets import SampleRules
from internnav_hf.evaluation.open_loop.image_goal import (
    evaluate_image_goal_open_loop,
    path_metrics,
)
from tests.data.trajectories import write_root
from tests.tiny.gnm import tiny_image_goal
from tests.tiny.gnm_golden import golden


@pytest.mark.parametrize("name", ["gnm_bn_calibrated", "vint_bn_calibrated"])
def test_cosines_are_the_published_ones(name):
    given = golden(name)
    mask = given["action_mask"]
    rows = [
        path_metrics(*pair)
        for pair in zip(given["action_pred"], given["action_label"], strict=True)
    ]
    for ours, theirs in (
        ("waypoint_cosine", "action_waypts_cos_sim"),
        ("path_cosine", "multi_action_waypts_cos_sim"),
        ("heading_cosine", "action_orien_cos_sim"),
    ):
        values = torch.tensor([row[ours] for row in rows])
        found = (values * mask).mean() / (mask.mean() + 0.01)  # as published
        expected = given[f"loss.{theirs}"].item()
        assert found.item() == pytest.approx(expected, abs=1e-5), ours


def opened(root, cache, **rules):
    sizes = SampleRules(num_memory_frames=3, action_horizon=5, **rules)
    return ImageGoalDataset(root, sizes, image_size=(40, 32), training=False, cache_dir=cache)


def test_lengths_are_in_metres_of_each_data_set(tmp_path):
    parts = []
    for name, step in (("slow", 0.2), ("fast", 0.8)):
        write_root(tmp_path / name, ("one",), step=step)
        parts.append(opened(tmp_path / name, tmp_path / "cache"))
    model = tiny_image_goal("vint")
    slow, fast = (evaluate_image_goal_open_loop(model, part) for part in parts)
    assert fast["ade_m"] == pytest.approx(4 * slow["ade_m"], rel=1e-4)
    assert fast["path_cosine"] == pytest.approx(slow["path_cosine"], rel=1e-4)
    both = evaluate_image_goal_open_loop(model, ImageGoalDatasets(parts))
    assert slow["ade_m"] < both["ade_m"] < fast["ade_m"]
    assert both["num_samples"] == slow["num_samples"] + fast["num_samples"]


def test_nomad_is_also_measured_without_the_goal_and_batches_make_no_difference(tmp_path):
    write_root(tmp_path / "data", length=30)
    cache, model = tmp_path / "cache", tiny_image_goal("nomad")
    rules = SampleRules(3, 8, nearest_action=3, farthest_action=20, predicts_heading=False)
    data = ImageGoalDataset(
        tmp_path / "data", rules, (40, 32), training=False, cache_dir=cache, goal_drop_share=0.5
    )
    one, many = (evaluate_image_goal_open_loop(model, data, batch_size=size) for size in (1, 16))
    assert {"ade_m", "free_ade_m", "constant_ade_m", "distance_error"} <= one.keys()
    assert "heading_cosine" not in one
    assert one == pytest.approx(many, rel=1e-3, abs=1e-4)
    batch = ImageGoalCollator()([data[index] for index in range(len(data))])
    shown = torch.ones(len(data), dtype=torch.bool)
    assert 0 < batch["goal_mask"].sum() < len(data)
    masks = {"": shown, "free_": ~shown, "mixed_": batch["goal_mask"]}
    for prefix, goal_mask in masks.items():
        with torch.no_grad():
            loss = model(**batch | {"goal_mask": goal_mask}).diffusion_loss
        count = batch["action_mask"].sum()
        expected = (loss * (count + 0.01 * len(data)) / count).item()  # the published mean's slack
        assert one[f"{prefix}noise_error"] == pytest.approx(expected, rel=1e-4)


def test_another_size_is_one_error(tmp_path):
    write_root(tmp_path / "data")
    data = opened(tmp_path / "data", tmp_path / "cache")
    with pytest.raises(ValueError, match="found num_memory_frames=3, but the model's is 4"):
        evaluate_image_goal_open_loop(tiny_image_goal("gnm", num_memory_frames=4), data)
