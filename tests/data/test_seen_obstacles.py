import numpy as np
from numpy.testing import assert_allclose

from internnav_hf.data.rows import View
from internnav_hf.data.seen_obstacles import points_in_the_way, seen_obstacles

SIZE = (160, 120)
VIEW = View((100.0, 100.0), (80.0, 60.0), 1.25, 0.3)


def depth_of_a_wall(ahead_m: float, view: View = VIEW) -> np.ndarray:
    """Of a wall across the way on a level floor."""
    down = (np.arange(SIZE[1])[:, None] + 0.5 - view.center[1]) / view.focal[1]
    sin, cos = np.sin(view.pitch), np.cos(view.pitch)
    slope = sin + down * cos
    floor = np.where(slope > 0, view.height_m / np.where(slope > 0, slope, 1), np.inf)
    return np.broadcast_to(np.minimum(floor, ahead_m / (cos - sin * down)), SIZE[::-1])


def test_a_wall_is_in_the_way_and_the_floor_is_not():
    points = points_in_the_way(depth_of_a_wall(2.0), VIEW, SIZE)
    assert_allclose(points[:, 0], 2.0, atol=1e-9)
    assert np.abs(points[:, 1]).max() > 1
    assert not len(points_in_the_way(depth_of_a_wall(np.inf), VIEW, SIZE))
    assert not len(points_in_the_way(np.zeros(SIZE[::-1]), VIEW, SIZE))


def test_smaller_depth_shows_the_same():
    whole = points_in_the_way(depth_of_a_wall(2.0), VIEW, SIZE)
    small = points_in_the_way(depth_of_a_wall(2.0)[1::2, 1::2], VIEW, SIZE)
    assert_allclose(np.abs(whole[:, 1]).max(), np.abs(small[:, 1]).max(), atol=0.1)
    assert_allclose(small[:, 0], 2.0, atol=0.05)


class Walk:
    view, size, poses = VIEW, SIZE, np.array([[1.0, 2.0, np.pi / 2]] * 5)

    def __getitem__(self, name):
        return {"length": 5}[name]

    def depth(self, frame):
        return depth_of_a_wall(2.0 if frame else np.inf)


def test_what_is_seen_lies_in_the_world():
    points = seen_obstacles([Walk()])
    assert len(points)
    assert_allclose(points[:, 1], 4.0, atol=0.05)
    assert not len(seen_obstacles([]))
