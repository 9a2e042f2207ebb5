"""The planners are the published networks, with the published splines and costs."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from internnav_hf.models.planners.config import ViPlannerConfig, iPlannerConfig
from internnav_hf.models.planners.cost import (
    CostMap,
    PathCosts,
    fear_labels,
    measured_costs,
    path_costs,
)
from internnav_hf.models.planners.model import ViPlannerModel, iPlannerModel
from internnav_hf.models.planners.spline import spline, straight_path
from tests.tiny.planners import (
    golden,
    golden_text,
    released_model,
    released_shapes,
    released_weights,
    small_decoder_shapes,
)

EXACT = {"atol": 1e-5, "rtol": 0}


def semantics_of(tensors: dict[str, Tensor]) -> Tensor:
    """(B, 3, 360, 640) bytes."""
    return tensors["sem_colours_9x16"].repeat_interleave(40, -1).repeat_interleave(40, -2)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["iplanner_forward", "iplanner_forward_bn_calibrated"])
def test_iplanner_is_the_reference(name):
    found = golden("iplanner_forward_bn_calibrated") | golden(name)  # both saw one depth
    weights = released_weights(released_shapes("iplanner"))
    measured = {key.removeprefix("state."): value for key, value in golden(name).items()}
    weights |= {key: value for key, value in measured.items() if key in weights}
    model = released_model(iPlannerModel, weights)
    with torch.no_grad():
        path = model.predict(found["depth"][:, 0], found["goal"])
    assert_close(path.keypoints, found["keypoints"], **EXACT)
    assert_close(path.fear.sigmoid()[:, None], found["fear"], **EXACT)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["", "_small_decoder", "_depth_only"])
def test_viplanner_is_the_reference(variant):
    found = golden("viplanner_forward")
    shapes = released_shapes("viplanner" + variant.replace("_small_decoder", ""))
    shapes = small_decoder_shapes() if variant == "_small_decoder" else shapes
    model = released_model(ViPlannerModel, released_weights(shapes))
    semantics = None if variant == "_depth_only" else semantics_of(found)
    with torch.no_grad():
        path = model.predict(found["depth"][:, 0], found["goal"], semantics)
    assert_close(path.keypoints, found[f"keypoints{variant}"], **EXACT)
    assert_close(path.fear.sigmoid()[:, None], found[f"fear{variant}"], **EXACT)


def test_splines_are_the_references():
    found = golden("iplanner_spline")
    assert_close(spline(found["keypoints"]), found["waypoints"], atol=1e-6, rtol=0)
    assert_close(spline(found["keypoints8"]), found["waypoints8"], atol=2e-6, rtol=0)
    assert_close(straight_path(found["goal"], 51), found["straight"], atol=1e-6, rtol=0)


def pose_matrices(poses: Tensor) -> Tensor:
    """(B, 4, 4) of x, y, z and a quaternion x, y, z, w."""
    x, y, z, w = poses[:, 3:].double().unbind(-1)
    rows = [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)]
    rows += [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)]
    rows += [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)]
    matrices = torch.eye(4).repeat(len(poses), 1, 1)
    matrices[:, :3, :3] = torch.stack(rows, -1).view(-1, 3, 3).float()
    matrices[:, :3, 3] = poses[:, :3]
    return matrices


def costs_of(name: str, config, keypoints: Tensor) -> tuple[PathCosts, Tensor]:
    """Costs of a golden's paths, and the labels of fear (B,)."""
    found, told = golden(name), golden_text(name)
    count = len(keypoints)
    start = told["coord"] if name.startswith("i") else told["start"]
    resolution = told["voxel_size"] if name.startswith("i") else told["resolution"]
    costs = found["tsdf"] if name.startswith("i") else found["cost_map"]
    costs = CostMap(
        costs.float().expand(count, -1, -1),
        torch.tensor(start).expand(count, -1),
        torch.full((count,), resolution),
        found["ground"].float().expand(count, -1, -1),
    )
    waypoints = spline(keypoints)
    given = (waypoints, found["goal"], pose_matrices(found["odom"]), costs, config)
    found_costs = path_costs(*given)
    return found_costs, fear_labels(found_costs.obstacles, waypoints, config)


@pytest.mark.parametrize(
    ("name", "config", "weights"),
    [
        ("iplanner_cost", iPlannerConfig(), (0.5, 1.0, 2.0, 5.0)),
        ("viplanner_cost", ViPlannerConfig(), (0.25, 1.0, 1.5, 4.0)),
    ],
)
def test_costs_labels_and_gradients_are_the_references(name, config, weights):
    found = golden(name)
    keypoints = found["keypoints"].clone().requires_grad_()
    costs, labels = costs_of(name, config, keypoints)
    terms = [term.mean() for term in costs[:4]]
    names = ("obstacle" if name.startswith("i") else "obs", "height", "motion", "goal")
    for term, which in zip(terms, names, strict=True):
        assert_close(term[None].double(), found[f"term.{which}"].double(), **EXACT)
    assert_close(labels[:, None], found["fear_labels"], atol=0, rtol=0)
    fear = torch.nn.functional.binary_cross_entropy(found["fear"][:, 0], labels)
    assert_close(fear[None], found["fear_bce"], **EXACT)
    total = sum(weight * term for weight, term in zip(weights, terms, strict=True))
    expected = found["total"] - (0 if name.startswith("i") else found["fear_bce"])
    assert_close(total[None].double(), expected.double(), **EXACT)
    total.backward()
    assert_close(keypoints.grad, found["grad_keypoints"], **EXACT)


def test_measured_costs_are_the_references():
    found = golden("viplanner_cost")
    config = ViPlannerConfig()
    costs, _ = costs_of("viplanner_cost", config, found["keypoints"])
    rows = found["obstacle_matrix"].unflatten(0, (3, -1)).transpose(0, 1)
    assert_close(costs.obstacles, rows, **EXACT)
    mean, largest = measured_costs(costs.obstacles, config.traversable_cost)
    assert_close(mean, found["eval_mean_cost"], **EXACT)
    assert_close(largest, found["eval_max_cost"], **EXACT)
