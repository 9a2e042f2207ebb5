import numpy as np
import pytest
import trimesh
from numpy.testing import assert_allclose

from internnav_hf.data.obstacles import (
    field_name,
    make_field,
    open_field,
    path_value,
    read_obstacles,
)
from tests.data.vln_n1 import FLOOR, OBSTACLE, wall, write_cloud


def clouds():
    rng = np.random.default_rng(0)
    yield "walls", wall()
    yield "one point", np.array([[3.0, -2.0]])
    yield "scattered", rng.uniform(-30, 30, (500, 2))
    yield "two rooms", np.concatenate([wall(), np.add(wall(), (25.0, 13.3))])
    yield "dense", rng.normal(0, 0.3, (20_000, 2))
    yield (
        "on the cells' edges",
        np.stack(np.meshgrid(*[np.arange(-1, 2, 0.1)] * 2), -1).reshape(-1, 2),
    )


@pytest.mark.parametrize("xy", [cloud for _, cloud in clouds()], ids=[name for name, _ in clouds()])
def test_distances_are_exact_everywhere(xy):
    field = make_field(xy)
    rng = np.random.default_rng(1)
    near = xy[rng.integers(len(xy), size=50)] + rng.normal(0, 0.2, (50, 2))
    places = np.concatenate([near, rng.uniform(-40, 40, (60, 2)), [[300.0, -200.0]], xy[:3]])
    differences = places[:, None] - xy
    assert_allclose(field(places), np.abs(differences).sum(axis=2).min(axis=1), atol=2e-5)
    nearest = np.linalg.norm(differences, axis=2).min(axis=1)
    assert_allclose(field.euclidean(places), nearest, atol=2e-5)


def test_distances_keep_the_shape_of_the_question():
    field = make_field(wall())
    places = np.random.default_rng(0).uniform(-1, 1, (5, 70, 2))
    assert field(places).shape == (5, 70)
    assert_allclose(field(places)[3, 60], field(places[3, 60]))
    assert field(np.zeros((0, 2))).shape == (0,)


def test_the_value_of_a_path():
    field = make_field(wall(1.0))
    along = np.stack([np.linspace(0, 1, 5), np.zeros(5)], axis=1)
    assert_allclose(path_value(along, field), 0, atol=1e-5)
    into_the_wall = along[:, ::-1]
    # Its last point touches the wall and is left out of the collisions; it lost a metre.
    assert_allclose(path_value(into_the_wall, field), -0.5, atol=0.01)
    stays_there = np.repeat(into_the_wall[-1:], 5, axis=0)
    assert_allclose(path_value(stays_there, field), -5, atol=0.01)
    both = path_value(np.stack([along, stays_there]), field)
    assert_allclose(both, [0, -5], atol=0.01)


def test_what_counts_as_a_collision_can_be_farther():
    field = make_field(wall(1.0))
    beside = np.stack([np.linspace(0, 1, 5), np.full(5, 0.8)], axis=1)
    assert_allclose(path_value(beside, field), 0, atol=0.01)
    assert_allclose(path_value(beside, field, collision_m=0.25), -5, atol=0.01)


def test_what_stands_in_the_way_blocks_a_line():
    field = make_field(np.array([[1.0, 0.0]]))
    assert field.blocks(np.zeros(2), np.array([2.0, 0.0]), 0.1)
    assert not field.blocks(np.zeros(2), np.array([0.8, 0.0]), 0.1)
    assert not field.blocks(np.array([0.0, 0.3]), np.array([2.0, 0.3]), 0.25)
    assert not make_field(np.zeros((0, 2))).blocks(np.zeros(2), np.ones(2), 0.1)


def test_without_obstacles_every_path_is_worth_the_same():
    field = make_field(np.zeros((0, 2)))
    assert_allclose(path_value(np.zeros((3, 5, 2)), field), [2, 2, 2])
    assert np.isinf(field(np.zeros((4, 2)))).all()
    assert np.isinf(field.euclidean(np.zeros(2)))


def test_only_points_of_the_obstacles_colour_count(tmp_path):
    for color, is_obstacle in ((OBSTACLE, True), ((0, 0, 127), True), ((10, 0, 128), True)):
        write_cloud(tmp_path, wall(), color)
        assert (
            len(read_obstacles(tmp_path / "meta" / "pointcloud.ply")) == len(wall()) * is_obstacle
        )
    write_cloud(tmp_path, wall(), (20, 0, 128))
    with pytest.raises(
        ValueError, match=r"colours: found no obstacle, mostly \[\[20, 0, 128\], \["
    ):
        read_obstacles(tmp_path / "meta" / "pointcloud.ply")


def test_a_field_is_built_once_and_shared_by_equal_clouds(tmp_path, monkeypatch):
    for unit in ("a", "b"):
        write_cloud(tmp_path / unit, wall())
    first, second = (tmp_path / unit / "meta" / "pointcloud.ply" for unit in ("a", "b"))
    assert field_name(first) == field_name(second)
    folder = tmp_path / "cache" / field_name(first)
    built = open_field(first, folder)
    monkeypatch.setattr("internnav_hf.data.obstacles.read_obstacles", lambda path: 1 / 0)
    mapped = open_field(second, folder)
    places = np.random.default_rng(0).uniform(-1, 4, (20, 2))
    assert_allclose(mapped(places), built(places))
    assert isinstance(mapped.points, np.memmap)
    write_cloud(tmp_path / "b", wall(0.7))
    assert field_name(first) != field_name(second)


def no_file(path):
    path.unlink()


def no_ply(path):
    path.write_bytes(b"no cloud")


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-20])


def no_colours(path):
    trimesh.PointCloud(np.zeros((4, 3))).export(path)


def not_finite(path):
    write_cloud(path.parents[1], np.array([[np.nan, 0.0]]))


def floor_only(path):
    write_cloud(path.parents[1], wall(), FLOOR)


@pytest.mark.parametrize(
    ("breakage", "message"),
    [
        (no_file, "pointcloud.ply: file: found no file, expected a PLY file of coloured points"),
        (no_ply, "pointcloud.ply: file: found 8 bytes"),
        (cut_short, "pointcloud.ply: file: found .* bytes"),
        (no_colours, "pointcloud.ply: colours: found "),
        (not_finite, "pointcloud.ply: points: found nan or infinity"),
        (floor_only, "colours: found no obstacle, mostly .* expected some points of"),
    ],
)
def test_a_broken_cloud_is_named(tmp_path, breakage, message):
    write_cloud(tmp_path, wall())
    path = tmp_path / "meta" / "pointcloud.ply"
    breakage(path)
    with pytest.raises(ValueError, match=message):
        read_obstacles(path)


def many_points(path):
    path.write_bytes(path.read_bytes().replace(b"element vertex ", b"element vertex 9000000000"))


def far_away(path):
    write_cloud(path.parents[1], wall() + 1e12)


@pytest.mark.parametrize(
    ("breakage", "message"),
    [
        (many_points, "bytes, and 9000000000.* of an element, expected a point cloud with the"),
        (far_away, "points: found an obstacle at 1e.12 m, expected at most 1e.06 m"),
    ],
)
def test_absurd_counts_and_places_are_refused(tmp_path, breakage, message):
    write_cloud(tmp_path, wall())
    path = tmp_path / "meta" / "pointcloud.ply"
    breakage(path)
    with pytest.raises(ValueError, match=message):
        read_obstacles(path)
