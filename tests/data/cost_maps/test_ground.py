"""Heights of the ground, and maps of classes that follow it."""

from dataclasses import replace

import numpy as np
import pytest

from internnav_hf.data.cost_maps.grid import Layout
from internnav_hf.data.cost_maps.ground import ground_heights
from internnav_hf.data.cost_maps.semantic import (
    SemanticSettings,
    costs_of_colours,
    ground_of_colours,
    semantic_map,
)
from internnav_hf.models.planners.semantics import class_named

FLOOR, WALL = (class_named(name).colour for name in ("floor", "wall"))
SETTINGS = SemanticSettings(resolution_m=0.1)


def slope(rise: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """A floor that rises along x, with a wall of 1 m across: points and whether they are floor."""
    x, y = (v.ravel() for v in np.meshgrid(np.arange(0, 6, 0.05), np.arange(0, 4, 0.05)))
    floor = np.stack([x, y, rise * x], axis=1)
    y, z = (v.ravel() for v in np.meshgrid(np.arange(0, 4, 0.05), np.arange(0.1, 1.0, 0.1)))
    wall = np.stack([np.full(len(y), 3.0), y, 3.0 * rise + z], axis=1)
    return np.concatenate([floor, wall]), np.arange(len(floor) + len(wall)) < len(floor)


def test_ground_lies_below_what_stands_on_it_and_closes_holes():
    points, is_ground = slope()
    in_hole = (np.abs(points[:, 0] - 1.5) < 0.08) & (np.abs(points[:, 1] - 2) < 0.08)
    layout = Layout.around(points[:, :2], 1.0, 0.1)
    grid = ground_heights(points[~in_hole], is_ground[~in_hole], layout)
    x, y = layout.indices(np.array([[4.5, 2.0], [3.0, 2.0], [1.5, 2.0], [-0.9, 2.0]])).T
    np.testing.assert_allclose(grid[x, y], [2.25, 1.5, 0.75, 0.0], atol=0.06)
    with pytest.raises(ValueError, match=f"none of {len(points)} points is of a class of ground"):
        ground_heights(points, np.zeros_like(is_ground), layout)


def test_a_map_that_follows_the_ground_keeps_what_a_level_one_cuts():
    points, is_ground = slope()
    colours = np.where(is_ground[:, None], FLOOR, WALL).astype(np.uint8)
    np.testing.assert_array_equal(ground_of_colours(colours), is_ground)
    costs = costs_of_colours(colours)
    level = semantic_map(points, costs, SETTINGS)
    follows = semantic_map(points, costs, replace(SETTINGS, follows_ground=True), is_ground)
    assert level.ground is None
    beyond = np.array([[5.0, 2.0]])
    assert level.at(beyond) > 1  # the floor there is 2.5 m high, above all that counts
    assert follows.at(beyond) < 0.6
    assert follows.at(np.array([[3.0, 2.0]])) > 2 * follows.at(beyond)
    assert follows.ground.shape == follows.costs.shape


def test_points_that_stray_are_left_out_and_one_too_far_away_is_an_error():
    points, is_ground = slope(0.0)
    costs = np.where(is_ground, 0.0, 2.0)
    stray = np.array([[1.0, 2.0, 2.0]])
    more, more_costs = np.concatenate([points, stray]), np.append(costs, 2.0)
    settings = replace(SETTINGS, stray_neighbours=100)
    kept, dropped = (
        semantic_map(more, more_costs, s).costs
        for s in (replace(settings, stray_neighbours=0), settings)
    )
    assert kept[20, 30] > dropped[20, 30] + 0.1
    far = np.concatenate([points, [[1e7, 0.0, 0.0]]])
    with pytest.raises(ValueError, match="points 1e\\+07 x 5.95 m apart, too far for a map"):
        semantic_map(far, np.append(costs, 0.0), SETTINGS)
