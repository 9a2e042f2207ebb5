"""Maps of costs are the published ones."""

from dataclasses import replace

import numpy as np
import pytest

from internnav_hf.data.cost_maps.geometric import (
    VIPLANNER,
    GeometricSettings,
    geometric_map,
    split_by_height,
)
from internnav_hf.data.cost_maps.grid import Layout
from internnav_hf.data.cost_maps.semantic import (
    SemanticSettings,
    costs_of_colours,
    semantic_map,
    smoothed_costs,
)
from tests.tiny.planners import golden, golden_text


def arrays(name: str) -> dict[str, np.ndarray]:
    found = {key: value.numpy() for key, value in golden(name).items()}
    return found | {"points": found["points"].astype(np.float64)}


@pytest.mark.parametrize(
    ("name", "settings", "origin", "costs"),
    [
        ("iplanner_map", GeometricSettings(), "coord", "tsdf"),
        ("viplanner_geom_map", VIPLANNER, "start", "cost_map"),
    ],
)
def test_geometric_maps_are_the_references(name, settings, origin, costs):
    found, settings = arrays(name), replace(settings, resolution_m=0.1)
    obstacles, free = split_by_height(found["points"], settings)
    assert [len(obstacles), len(free)] == [*found["obstacle_points"], *found["free_points"]]
    made = geometric_map(found["points"], settings)
    np.testing.assert_allclose(made.origin, golden_text(name)[origin], atol=1e-7)
    np.testing.assert_allclose(made.costs, found[costs], atol=1e-12)


def test_the_semantic_map_is_the_references():
    found, settings = arrays("viplanner_sem_map"), SemanticSettings(resolution_m=0.1)
    points, costs = found["points"], costs_of_colours(found["colours"])
    layout = Layout.around(points[:, :2], 1.0, 0.1)
    smoothed = smoothed_costs(points[:, :2], costs, layout, settings.num_neighbours)
    np.testing.assert_allclose(smoothed, found["smoothed_point_loss"], atol=1e-12)
    made = semantic_map(points, costs, settings)
    np.testing.assert_allclose(made.origin, golden_text("viplanner_sem_map")["start"], atol=1e-7)
    np.testing.assert_allclose(made.costs, found["cost_map"], atol=1e-5)  # one cell's tie: 9e-6
