import numpy as np
import pytest

from internnav_hf.data.checks.depth import (
    FloorView,
    Probe,
    check_depth,
    check_farthest,
    depth_problems,
    floor_multiple,
    probed_frames,
    shows_its_floor,
)

VIEW = FloorView(1.25, float(np.radians(30)), 0.8, 0.5)
LEVEL = FloorView(1.25, 0.0, 0.8, 0.5)


def room(view=VIEW, wall_m=3.0, seed=0, size=(48, 64)):
    """(rows, columns) metres: floor up to a wall, a box in front, noise and holes."""
    rng = np.random.default_rng(seed)
    depth = np.minimum(view.floor_m(size[0])[:, None], wall_m) * np.ones(size)
    depth[:, 40:50] = np.minimum(depth[:, 40:50], 0.9)
    depth *= 1 + 0.02 * rng.normal(size=size)
    depth[rng.random(size) < 0.05] = 0
    depth[rng.random(size) < 0.05] = np.nan
    depth[rng.random(size) < 0.02] = np.inf
    return depth


def rooms(view=VIEW, walls=(3.0, 1.5, 6.0, 2.0, 4.0)):
    return [room(view, wall, seed) for seed, wall in enumerate(walls)]


def check(images, views=None, units_per_m=1000.0):
    check_depth(images, views, "scene", units_per_m)


@pytest.mark.parametrize("view", [VIEW, LEVEL, FloorView(0.3, 0.3, 0.8, 0.5)])
def test_rooms_pass_with_holes_and_infinities(view):
    check(rooms(view), [view] * 5)
    check(rooms(view))


def test_streets_and_near_walls_pass():
    check(rooms(VIEW, [40.0] * 5), [VIEW] * 5)
    check(rooms(LEVEL, [30.0] * 5))
    check(rooms(VIEW, [0.6] * 5), [VIEW] * 5)


@pytest.mark.parametrize("view", [VIEW, LEVEL])
@pytest.mark.parametrize(
    ("times", "unit"),
    [(10, 10_000), (0.1, 100), (4, 4000), (5, 5000), (0.001, 1)],
)
def test_the_floor_tells_the_unit(view, times, unit):
    with pytest.raises(ValueError, match=rf"scene: depth: found the floor .* {unit} units a metre"):
        check([image * times for image in rooms(view)], [view] * 5)


def test_without_a_camera_rooms_tell_the_unit():
    with pytest.raises(ValueError, match="found a median of .* at the lower edge|found a median"):
        check([image * 10 for image in rooms(LEVEL)])
    with pytest.raises(ValueError, match=r"found a median of 0.0\d+ m in 5 images"):
        check([image / 100 for image in rooms(LEVEL)])


def test_a_floor_that_is_not_seen_tells_nothing():
    rng = np.random.default_rng(0)
    assert floor_multiple([rng.uniform(0.1, 8, (48, 64)) for _ in range(5)], [VIEW] * 5) is None


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((48, 64)), "nothing but 0 or no number in 5 images"),
        (np.full((48, 64), np.nan), "nothing but 0 or no number in 5 images"),
        (np.full((48, 64), 3.0), "3 m everywhere in 5 images"),
    ],
)
def test_depth_that_shows_nothing_is_named(image, message):
    with pytest.raises(ValueError, match=message):
        check([image] * 5, [VIEW] * 5)


def test_a_way_is_longer_than_an_arm():
    check_farthest(np.linspace(0, 5, 1000), "scene", 1.0)
    with pytest.raises(ValueError, match=r"nothing farther than 0.99\d m, read with 1 m for 1"):
        check_farthest(np.linspace(0, 1, 1000), "scene", 1.0)


@pytest.mark.parametrize("number", [1, 3, 50, 199, 200, 201, 1000])
def test_some_pixels_may_be_far_by_mistake(number):
    """It is the quantile that counts, whatever is asked first."""
    for far in range(min(number, 15) + 1):
        metres = np.array([0.5] * (number - far) + [3.0] * far)
        if np.quantile(metres, 0.995) >= 1.2:
            check_farthest(metres, "scene", 1.0)
        else:
            with pytest.raises(ValueError, match="nothing farther"):
                check_farthest(metres, "scene", 1.0)


@pytest.mark.parametrize("lengths", [[1], [12], [3, 40], [12, 12, 12], [2, 1, 1, 1, 1], [9] * 40])
def test_few_walks_are_all_probed(lengths):
    probed = probed_frames(lengths)
    assert 1 <= len(probed) <= 5
    assert all(0 <= frame < lengths[walk] for walk, frame in probed)
    assert len(lengths) > 5 or {walk for walk, _ in probed} == set(range(len(lengths)))
    assert not probed_frames([])


def problems_of(times, view=VIEW, wall_m=4.0):
    """Of walks whose depth is so many times as large; None cannot be read."""

    def read(walk, frame):
        if times[walk] is None:
            raise ValueError(f"{walk}_{frame}.png: cut")
        return f"{walk}_{frame}.png", times[walk] * room(view, wall_m, frame)

    numbers = list(range(len(times)))
    views = [view] * len(times)
    return depth_problems(numbers, [12] * len(times), views, read, "scene", 1000.0)


@pytest.mark.parametrize("view", [VIEW, LEVEL])
@pytest.mark.parametrize("times", [10, 0.1, 0.001, 1000, None])
def test_a_walk_of_another_unit_is_named_alone(view, times):
    problems = problems_of([1, times, 1], view)
    assert list(problems) == [1]
    assert problems[1].startswith("1_")
    assert not problems_of([1, 1, 1], view)


def test_all_walks_of_another_unit_are_named_together():
    problems = problems_of([10, 10, 10])
    assert list(problems) == [0, 1, 2]
    assert "scene: depth: found the floor" in problems[0]


@pytest.mark.parametrize("lower_m", [0.75, -3.0, -6.0])
def test_a_walk_past_a_table_or_down_a_stair_passes(lower_m):
    """What the camera sees lies so far above or below the floor it stands on."""
    times = (VIEW.height_m - lower_m) / VIEW.height_m
    assert not problems_of([1, times, 1], wall_m=20.0)


@pytest.mark.parametrize(("num_walks", "number"), [(1, 1), (3, 3), (4, 3), (20, 3), (177, 5)])
def test_where_floor_is_clear_few_images_are_read(num_walks, number):
    read = []

    def reader(walk, frame):
        read.append(walk)
        return "file", room(VIEW, 4.0, frame)

    walks, lengths, views = range(num_walks), [12] * num_walks, [VIEW] * num_walks
    assert not depth_problems(walks, lengths, views, reader, "scene", 1000.0)
    assert len(read) == len(set(read)) == number


def test_where_the_first_image_is_doubtful_others_are_read():
    """The first looks at a wall, and the rest of the scene is of another unit."""

    def reader(walk, frame):
        read.append((walk, frame))
        near = np.random.default_rng(frame).uniform(0.3, 0.4, (48, 64))
        return "file", near if len(read) == 1 else 10 * room(VIEW, 4.0, frame)

    read = []
    problems = depth_problems(range(4), [12] * 4, [VIEW] * 4, reader, "scene", 1000.0)
    assert len(set(read)) == len(read) == 5
    assert problems


@pytest.mark.parametrize("image", [np.full((48, 64), 2.0), room() * 3, np.zeros((48, 64))])
def test_an_image_that_leaves_a_doubt_is_not_enough(image):
    assert shows_its_floor(Probe(0, "file", room(), VIEW), (0.2, 20.0))
    assert not shows_its_floor(Probe(0, "file", image, VIEW), (0.2, 20.0))
    assert not shows_its_floor(Probe(0, "file", room(), None), (0.2, 20.0))


def test_whole_numbers_are_units_of_the_file():
    image = np.nan_to_num(room(size=(480, 640)), posinf=0)
    in_mm = Probe(0, "file", np.round(1000 * image).astype(np.uint16), VIEW, 1000.0)
    np.testing.assert_array_equal(in_mm.image, np.float32(in_mm.pixels) / np.float32(1000))
    np.testing.assert_array_equal(in_mm.thinned, in_mm.image[2::4, 3::6])
    assert shows_its_floor(in_mm, (0.2, 20.0))
    assert not shows_its_floor(Probe(0, "file", in_mm.pixels, VIEW, 100.0), (0.2, 20.0))
    metres = Probe(0, "file", image, VIEW, 1000.0)
    assert metres.image is image
