"""Clouds from depth images; thinning and dropping strays as open3d does."""

import numpy as np

from internnav_hf.data.cost_maps.clouds import depth_points, is_no_stray, thinned
from internnav_hf.data.cost_maps.grid import GridMap, Layout
from internnav_hf.geometry import camera_pose


def test_a_depth_image_becomes_the_wall_that_it_shows():
    K = np.array([[40.0, 0, 32], [0, 40.0, 24], [0, 0, 1]])
    depth = np.full((48, 64), 3.0)
    depth[0], depth[1], depth[2] = np.nan, 0, 20
    points, (rows, columns) = depth_points(depth, K, camera_pose(1, 2, 0, 0.5, 0))
    assert len(points) == 45 * 64
    np.testing.assert_allclose(points[:, 0], 4.0)
    assert (rows.min(), columns.max()) == (3, 63)
    np.testing.assert_allclose(points[-1], [4.0, 2 - 3 * 31.5 / 40, 0.5 - 3 * 23.5 / 40])
    assert len(depth_points(depth, K, np.eye(4), step=4)[0]) == 11 * 16  # row 2 is too far


def test_thinning_gives_the_mean_of_each_cube():
    points = np.array([[0.0, 0, 0], [0.01, 0, 0], [0.5, 0, 0], [0.51, 0.01, 0], [0.52, 0.02, 0]])
    found = thinned(points, 0.1)
    np.testing.assert_allclose(found, [[0.005, 0, 0], [0.51, 0.01, 0]])
    assert not len(thinned(np.zeros((0, 3)), 0.1))


def test_strays_are_points_with_far_neighbours():
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.uniform(0, 1, (400, 3)), [[9.0, 9, 9]]])
    kept = is_no_stray(points, 50)
    assert not kept[-1]
    assert kept[:-1].mean() > 0.9
    assert is_no_stray(points[:1], 50).all()


def test_a_piece_of_a_map_lies_where_it_did():
    costs = np.arange(600.0).reshape(30, 20)
    grid = GridMap(costs, np.array([-1.0, 2.0]), 0.1, ground=-costs)
    places = np.array([[0.03, 3.03], [0.43, 3.23], [-0.17, 2.83]])
    piece = grid.around(places[0], 0.5)
    assert piece.costs.shape == (11, 11)
    np.testing.assert_array_equal(piece.at(places), grid.at(places))
    np.testing.assert_array_equal(piece.ground, -piece.costs)
    assert grid.contains(places).all()
    assert not grid.contains(np.array([[5.0, 3.0]])).any()
    assert grid.at(np.array([[50.0, 3.05]])) == costs[-1, 10]


def test_the_layout_is_a_multiple_of_ten_cells():
    layout = Layout.around(np.array([[0.0, 0], [3.21, 1]]), 1.0, 0.1)
    assert layout.num_cells.tolist() == [60, 30]
    np.testing.assert_allclose(layout.origin + layout.num_cells * 0.05, [1.605, 0.5])
    assert layout.inside(np.array([[100.0, 0], [0, 0]])).tolist() == [[14, 10]]
