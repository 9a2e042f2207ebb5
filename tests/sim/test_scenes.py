import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from internnav_hf.sim.meshes.furniture import COLORS, KINDS, make_furniture
from internnav_hf.sim.meshes.layout import WALL_THICKNESS_M, plan_rooms
from internnav_hf.sim.navigation import NavigableSpace
from internnav_hf.sim.scenes import DENSITIES, SceneConfig, generate_scene, scene_config


def test_the_same_seed_gives_the_same_scene_and_another_seed_another():
    first, again, other = generate_scene(3), generate_scene(3), generate_scene(4)
    assert np.array_equal(first.vertices, again.vertices)
    assert np.array_equal(first.face_colors, again.face_colors)
    assert first.objects == again.objects
    assert first.objects != other.objects


@settings(max_examples=20)
@given(st.integers(0, 10**9))
def test_furniture_has_names_of_its_own_and_stands_inside_its_room(seed):
    scene = generate_scene(seed)
    names = [thing.name for thing in scene.objects]
    assert len(set(names)) == len(names)
    assert len({thing.color for thing in scene.objects}) == len(names)  # 8 pieces, 8 colours
    for thing in scene.objects:
        corners = scene.vertices[scene.faces[scene.face_instance == thing.instance_id]]
        places = corners.reshape(-1, 3)
        assert scene.rooms[thing.room].contains(places[:, :2]).all()
        assert np.isclose(places[:, 2].min(), 0)
        assert np.isclose(places[:, 2].max(), thing.size[2], atol=1e-4)
        assert thing.distance(places[:, :2]).max() < 1e-4  # the footprint holds all of it


@settings(max_examples=30)
@given(st.integers(0, 10**9))
def test_rooms_do_not_overlap_and_doors_join_two_that_share_a_wall(seed):
    rooms, doors = plan_rooms(np.random.default_rng(seed), 4, (4.0, 6.5), 1.1)
    assert len(doors) == len(rooms) - 1
    for a in rooms:
        for b in rooms[: a.index]:
            apart = [a.low[i] >= b.high[i] or b.low[i] >= a.high[i] for i in (0, 1)]
            assert any(apart)
    for door in doors:
        step = np.zeros(2)
        step[door.axis] = WALL_THICKNESS_M
        sides = [np.array(door.center) - step, np.array(door.center) + step]
        inside = {room.index for room in rooms for side in sides if room.contains(side)}
        assert inside == set(door.rooms)


def test_more_furniture_than_colours_still_has_names_of_its_own():
    config = SceneConfig(num_rooms=(4, 4), num_objects=(16, 16), object_spacing_m=0.3)
    names = [thing.name for thing in generate_scene(0, config).objects]
    assert len(names) > len(COLORS)
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("kind", KINDS)
def test_a_piece_of_furniture_fills_its_size(kind):
    piece = make_furniture(kind, np.random.default_rng(0))
    extent = piece.vertices.max(axis=0) - piece.vertices.min(axis=0)
    assert np.allclose(extent[2], piece.size[2])
    assert np.allclose(extent[:2], piece.size[:2], rtol=0.04)  # a barrel has twelve sides
    assert piece.faces.max() < len(piece.vertices)


def test_the_nearest_point_of_a_turned_footprint():
    thing = generate_scene(0).objects[0]
    corner = np.array(thing.size[:2]) / 2
    turn = np.array(
        [[np.cos(thing.yaw), -np.sin(thing.yaw)], [np.sin(thing.yaw), np.cos(thing.yaw)]]
    )
    outside = np.array(thing.position) + turn @ (corner + np.array([0.3, 0.4]))
    assert np.isclose(thing.distance(outside), 0.5)
    assert thing.distance(np.array(thing.position)) == 0


def test_clutter_grows_denser_and_stays_passable():
    def measure(density):
        scenes = [generate_scene(seed, scene_config(density)) for seed in range(5)]
        floor = sum(room.area_m2 for scene in scenes for room in scene.rooms)
        spaces = [NavigableSpace(scene, resolution_m=0.1) for scene in scenes]
        free = sum(space.navigable.sum() * 0.01 for space in spaces)
        return sum(len(scene.objects) for scene in scenes) / floor, free / floor

    pieces, free = zip(*map(measure, DENSITIES), strict=True)
    assert pieces[1] > 1.5 * pieces[0]
    assert pieces[2] > 1.5 * pieces[1]
    assert free[0] > free[1] > free[2] > 0.3


def test_an_unknown_density_is_refused():
    with pytest.raises(ValueError, match="'dense'; known: easy, medium, hard"):
        scene_config("dense")


def test_crowded_pieces_stand_close_but_not_inside_each_other():
    scene = generate_scene(0, scene_config("hard"))
    gaps = []
    for thing in scene.objects:
        others = [other for other in scene.objects if other is not thing]
        gaps.append(min(float(other.distance(np.array(thing.position))) for other in others))
    assert min(gaps) > 0.05


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_rooms", (3, 2)),
        ("num_objects", (0, 2)),
        ("num_objects", (1, 99)),
        ("room_size_m", (2.0, 3.0)),
        ("crowding", 1.5),
        ("objects_per_m2", 0.1),  # with names of their own
    ],
)
def test_an_impossible_config_is_refused(field, value):
    with pytest.raises(ValueError, match=field):
        SceneConfig(**{field: value})
