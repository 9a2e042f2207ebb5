import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from internnav_hf.camera import CameraSpec
from internnav_hf.geometry import (
    camera_pose,
    lift,
    lift_pixel,
    pixel_to_floor,
    project,
    robot_pose,
    robot_to_world,
    world_to_robot,
    wrap_angle,
)

INTRINSICS = CameraSpec().intrinsics
PLACES = st.floats(-20, 20)
ANGLES = st.floats(-3.14, 3.14)
PITCHES = st.floats(-1.2, 1.2)
POSES = st.builds(camera_pose, PLACES, PLACES, ANGLES, st.floats(0.2, 2.0), PITCHES)
PIXELS = st.tuples(st.floats(0, 640), st.floats(0, 480))


def test_a_pose_of_the_published_data():
    """r2r/17DRP5sb8fy, episode 0, frame 4, 125cm_30deg: 0.25 m walked at a heading of -45°."""
    published = [
        [-0.7071, -0.3536, 0.6124, 0.1768],
        [-0.7071, 0.3536, -0.6124, -0.1768],
        [0.0, -0.8660, -0.5, 1.25],
        [0.0, 0.0, 0.0, 1.0],
    ]
    place = 0.25 * np.sqrt(0.5)
    pose = camera_pose(place, -place, -np.pi / 4, 1.25, np.radians(30))
    assert np.allclose(pose, published, atol=1e-4)


def test_what_lies_left_is_seen_left_and_what_lies_low_is_seen_low():
    pose = camera_pose(0, 0, 0, 1.25, 0)
    uv, depth = project(np.array([[3, 1, 1.25], [3, 0, 0.0], [-3, 0, 1.0]]), pose, INTRINSICS)
    assert uv[0, 0] < 320
    assert np.isclose(uv[0, 1], 240)
    assert uv[1, 1] > 240
    assert np.allclose(depth, [3, 3, -3])
    assert np.isnan(uv[2]).all()


@given(POSES)
def test_axes_are_orthonormal_and_right_handed(pose):
    rotation = pose[:3, :3]
    assert np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.isclose(np.linalg.det(rotation), 1)


@given(PLACES, PLACES, ANGLES, PITCHES)
def test_the_robot_is_found_below_its_camera_at_any_pitch(x, y, yaw, pitch):
    found = robot_pose(camera_pose(x, y, yaw, 1.25, pitch))
    assert np.allclose(found[:2], (x, y))
    assert abs(wrap_angle(found[2] - yaw)) < 1e-9


@given(POSES, PIXELS, st.floats(0.1, 10))
def test_lifted_pixels_project_to_where_they_were(pose, pixel, depth):
    points = lift(np.array([pixel]), np.array([depth]), pose, INTRINSICS)
    uv, found = project(points, pose, INTRINSICS)
    assert np.allclose(uv, [pixel], atol=1e-6)
    assert np.allclose(found, depth)


@given(POSES, PIXELS)
def test_a_pixel_meets_the_floor_on_its_ray_or_is_above_the_horizon(pose, pixel):
    points = pixel_to_floor(np.array([pixel]), pose, INTRINSICS)
    if np.isnan(points).any():
        far = lift(np.array([pixel]), np.array([1.0]), pose, INTRINSICS)
        assert far[0, 2] >= pose[2, 3] - 1e-6
        return
    assert np.allclose(points[:, 2], 0, atol=1e-6 * (1 + np.abs(points).max()))
    uv, depth = project(points, pose, INTRINSICS)
    assert depth[0] > 0
    assert np.allclose(uv, [pixel], atol=1e-3)


@given(st.floats(-50, 50))
def test_a_wrapped_angle_is_the_same_angle(angle):
    wrapped = wrap_angle(angle)
    assert -np.pi <= wrapped < np.pi
    assert np.allclose([np.cos(wrapped), np.sin(wrapped)], [np.cos(angle), np.sin(angle)])


@given(PLACES, PLACES, ANGLES)
def test_what_a_robot_calls_ahead_and_left_is_so_in_the_world(x, y, yaw):
    ahead, left = robot_to_world(np.array([[2.0, 0.0], [0.0, 1.0]]), (x, y, yaw))
    np.testing.assert_allclose(ahead, [x + 2 * np.cos(yaw), y + 2 * np.sin(yaw)], atol=1e-9)
    np.testing.assert_allclose(left, [x - np.sin(yaw), y + np.cos(yaw)], atol=1e-9)
    back = world_to_robot(np.stack([ahead, left]), (x, y, yaw))
    np.testing.assert_allclose(back, [[2, 0], [0, 1]], atol=1e-9)


def test_lifting_by_depth_and_by_the_floor_agree_on_the_floor():
    camera = CameraSpec(width=64, height=48)
    pose = camera_pose(1.0, 2.0, 0.4, camera.height_m, np.radians(30))
    floor = lift_pixel((40.0, 30.0), None, pose, camera.intrinsics)
    depth = np.full((48, 64), project(floor[None], pose, camera.intrinsics)[1][0])
    assert lift_pixel((40.0, 30.0), depth, pose, camera.intrinsics) == pytest.approx(floor)
    assert floor[2] == pytest.approx(0)
    assert lift_pixel((40.0, 30.0), np.zeros((48, 64)), pose, camera.intrinsics) == pytest.approx(
        floor
    )


def test_a_pixel_above_the_horizon_has_no_place_without_depth():
    camera = CameraSpec(width=64, height=48)
    pose = camera_pose(0.0, 0.0, 0.0, camera.height_m, 0.0)
    assert lift_pixel((32.0, 5.0), None, pose, camera.intrinsics) is None
