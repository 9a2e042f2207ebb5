import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from internnav_hf.sim.navigation import NavigableSpace
from tests.sim.boxes import hall

WALL = ((3, 2, 0.5), (0.02, 4, 1.0))  # thinner than a cell; it leaves 2 m free at its end
SEEDS = st.integers(0, 10**6)


@pytest.fixture(scope="module")
def divided() -> NavigableSpace:
    return NavigableSpace(hall(WALL))


def test_a_robot_keeps_its_radius_from_walls_and_tables():
    table_top = ((3, 3, 0.7), (1.0, 1.0, 0.05))
    space = NavigableSpace(hall(table_top))
    near = np.array([[0.1, 3], [0.3, 3], [3, 3], [2.4, 3], [2.2, 3], [-1, 3], [100, 100]])
    assert space.is_navigable(near).tolist() == [False, True, False, False, True, False, False]


def test_a_carpet_is_floor_and_a_beam_overhead_no_obstacle():
    space = NavigableSpace(hall(((2, 3, 0.03), (1, 1, 0.06)), ((4, 3, 2.0), (1, 1, 0.2))))
    assert space.is_navigable(np.array([[2, 3], [4, 3]])).all()


def test_the_inside_of_a_cupboard_is_nowhere():
    space = NavigableSpace(hall(((3, 3, 1.0), (1.5, 1.5, 2.0))))
    assert not space.is_navigable(np.array([3, 3]))


def test_the_way_round_a_thin_wall(divided):
    here, there = np.array([2, 1]), np.array([4, 1])
    assert not divided.straight_line_is_free(here, there)
    corner = np.array([3, 4 + 0.18])  # as close to the wall's end as the radius allows
    shortest = 2 * np.linalg.norm(corner - here)
    assert shortest <= divided.geodesic_distance(here, there) <= 1.05 * shortest
    path = divided.shortest_path(here, there)
    assert np.array_equal(path[[0, -1]], [here, there])
    assert divided.straight_line_is_free(path[:-1], path[1:]).all()
    assert shortest <= divided.distance_field(there)(here) <= 1.1 * shortest


@settings(max_examples=25)
@given(SEEDS)
def test_geodesic_distance_is_a_distance(divided, seed):
    rng = np.random.default_rng(seed)
    a, b = divided.sample(rng), divided.sample(rng)
    there, back = divided.geodesic_distance(a, b), divided.geodesic_distance(b, a)
    assert np.isclose(there, back)
    assert there >= np.linalg.norm(a - b) - 1e-9
    assert divided.geodesic_distance(a, a) == 0


@settings(max_examples=25)
@given(SEEDS)
def test_a_move_ends_where_the_robot_can_be_and_on_its_line(divided, seed):
    rng = np.random.default_rng(seed)
    start, step = divided.sample(rng), rng.uniform(-1.5, 1.5, size=2)
    end, collided = divided.move(start, start + step)
    assert divided.is_navigable(end)
    assert np.isclose(np.cross([*(end - start), 0], [*step, 0])[2], 0)
    assert np.linalg.norm(end - start) <= np.linalg.norm(step) + 1e-9
    assert collided != np.allclose(end, start + step)


def test_nobody_walks_through_a_wall(divided):
    end, collided = divided.move(np.array([2.7, 2]), np.array([3.3, 2]))
    assert collided
    assert end[0] < 2.85


@pytest.mark.parametrize("side", [1, -1])
def test_sliding_goes_on_along_the_wall(divided, side):
    start = np.array([2.75, 2.0])
    end, collided = divided.slide(start, start + 0.25 * np.array([0.5, side * 3**0.5 / 2]))
    assert collided
    assert 0.1 < side * (end[1] - start[1]) < 0.25
    assert divided.is_navigable(end)
    straight_on, _ = divided.slide(start, start + np.array([0.25, 0]))
    assert abs(straight_on - start).max() < 0.1  # a wall met head-on stops


@settings(max_examples=25)
@given(SEEDS, st.floats(0, 2 * np.pi))
def test_sliding_is_walking_where_nothing_is_in_the_way(divided, seed, heading):
    start = divided.sample(np.random.default_rng(seed))
    target = start + 0.25 * np.array([np.cos(heading), np.sin(heading)])
    walked, slid = divided.move(start, target), divided.slide(start, target)
    assert walked[1] == slid[1]
    assert divided.is_navigable(slid[0])
    assert np.linalg.norm(slid[0] - start) <= 0.25 + 1e-9
    if not walked[1]:
        assert np.array_equal(walked[0], slid[0])


def test_what_cannot_be_reached_is_infinitely_far():
    space = NavigableSpace(hall(((3, 3, 0.5), (0.1, 6, 1.0))))
    halves = space.is_navigable(np.array([[1, 3], [5, 3]]))
    assert halves.sum() == 1  # only the larger part counts
    here = np.array([1, 3]) if halves[0] else np.array([5, 3])
    there = np.array([6, 6]) - here
    assert space.geodesic_distance(here, there) == np.inf
    assert space.distance_field(here)(there) == np.inf
    with pytest.raises(ValueError, match="No goal can be reached"):
        space.distance_field(here).path_from(there)


def test_nearest_place_and_samples_can_be_stood_on(divided):
    nearest = divided.nearest(np.array([3, 2]))
    assert divided.is_navigable(nearest)
    assert np.linalg.norm(nearest - [3, 2]) < 0.35
    free = np.array([1.234, 2.345])
    assert np.array_equal(divided.nearest(free), free)
    rng = np.random.default_rng(0)
    assert divided.is_navigable(np.array([divided.sample(rng) for _ in range(50)])).all()


def test_a_walk_that_keeps_clear_is_longer_and_wider(divided):
    here, there = np.array([2, 1]), np.array([4, 1])
    cells = divided.cell(there)[None]
    plain = divided.field_to(cells).path_from(here)
    wide = divided.field_to(cells, clearance_weight=3.0).path_from(here)
    clearance = [divided.lookup(divided.clearance, path, 0).min() for path in (plain, wide)]
    assert clearance[1] > clearance[0]


def test_a_wider_robot_has_less_room():
    space = NavigableSpace(hall(((3, 3, 0.5), (1, 1, 1))))
    wider = space.wider(0.3)
    assert 0.7 < wider.navigable.sum() / space.navigable.sum() < 0.9
    assert not (wider.navigable & ~space.navigable).any()
    assert space.lookup(space.clearance, wider.center(np.argwhere(wider.navigable)), 0).min() > 0.48
    assert wider.is_navigable(wider.sample(np.random.default_rng(0)))
    with pytest.raises(ValueError, match="No place is"):
        space.wider(5.0)


def test_a_wider_robot_stays_where_ways_lead():
    corridor = ((25, 10, 0), (40, 0.46, 0.05))
    end = ((45, 10, 0), (1, 1, 0.05))  # less floor than the hall has, but more is navigable here
    space = NavigableSpace(hall(corridor, end, size=2.0))
    assert not space.is_navigable(np.array([1, 1]))
    wider = space.wider(0.07)
    assert wider.is_navigable(np.array([45, 10]))
    assert not (wider.navigable & ~space.navigable).any()
