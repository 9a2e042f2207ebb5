import numpy as np
import pytest
from PIL import Image

from internnav_hf.camera import (
    MAX_STORED_CAMERAS,
    CameraSpec,
    cameras_of,
    difference_from_all,
    resize_view,
    stored_cameras,
)


def test_the_defaults_are_the_published_setting():
    camera = CameraSpec()
    assert camera.setting == "125cm_0_30"
    assert camera.pitch_setting(look_down=False) == "125cm_0deg"
    assert camera.pitch_setting(look_down=True) == "125cm_30deg"


def test_the_edges_of_the_image_are_half_the_field_of_view_away():
    camera = CameraSpec(width=200, height=100, hfov_deg=90)
    directions = np.linalg.inv(camera.intrinsics) @ np.array([[0, 50, 1], [200, 50, 1]]).T
    assert np.allclose(directions[0], [-1, 1])
    assert np.allclose(directions[1], 0)


def test_camera_survives_a_round_trip_through_a_dict():
    camera = CameraSpec(width=128, height=96, height_m=0.45, pitch_deg=15, look_down_pitch_deg=30)
    assert CameraSpec.from_dict(camera.to_dict()) == camera


def test_an_unknown_field_gets_a_hint():
    with pytest.raises(ValueError, match=r"no field 'hfov'; did you mean 'hfov_deg'"):
        CameraSpec.from_dict({"hfov": 90})
    with pytest.raises(ValueError, match="known fields: width"):
        CameraSpec.from_dict({"colour": "red"})


@pytest.mark.parametrize(
    ("field", "value"),
    [("width", 0), ("hfov_deg", 180), ("height_m", 0), ("depth_scale", -1), ("pitch_deg", 91)],
)
def test_an_impossible_camera_is_refused(field, value):
    with pytest.raises(ValueError, match="pixel" if field == "width" else field):
        CameraSpec(**{field: value})


def test_a_difference_is_told_in_one_sentence():
    trained = CameraSpec()
    assert trained.difference(CameraSpec()) is None
    told = trained.difference(CameraSpec(height_m=0.45, pitch_deg=15))
    assert told == "trained at 125 cm, 0°/30°; this camera is 45 cm, 15°/30°"


def test_what_rounds_to_the_same_is_no_difference():
    assert CameraSpec().difference(CameraSpec(hfov_deg=79 + 1e-9)) is None


def test_resize_keeps_an_image_that_fits():
    image = Image.new("RGB", (64, 48))
    assert resize_view(image, (64, 48)) is image
    assert resize_view(image, (32, 32)).size == (32, 32)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "1.25", None, True])
def test_what_is_no_number_is_no_field_of_a_camera(value):
    with pytest.raises(ValueError, match="Camera field height_m must be a number; found"):
        CameraSpec(height_m=value)


def test_one_camera_is_stored_as_it_is_and_different_ones_as_a_set():
    one, other = CameraSpec(), CameraSpec(height_m=0.6)
    assert stored_cameras([]) is None
    assert stored_cameras([one, one]) == one.to_dict()
    assert stored_cameras([one, other, one]) == [one.to_dict(), other.to_dict()]
    for cameras in ((), (one,), (one, other)):
        assert cameras_of(stored_cameras(cameras)) == cameras


def test_of_very_many_cameras_those_are_stored_that_reach_as_far():
    heights, pitches = np.linspace(0.2, 1.5, 300), np.linspace(30, 0, 300)
    many = [CameraSpec(height_m=h, pitch_deg=p) for h, p in zip(heights, pitches, strict=True)]
    kept = cameras_of(stored_cameras(reversed(many)))
    assert len(kept) <= MAX_STORED_CAMERAS
    assert {many[0], many[-1]} <= set(kept)
    assert np.diff(sorted(camera.height_m for camera in kept)).max() < 0.03
    between = CameraSpec(height_m=0.777, pitch_deg=11.1)
    assert difference_from_all(kept, between) is None
    told = difference_from_all(kept, CameraSpec(height_m=1.6, pitch_deg=11.1))
    assert told == "trained at 150 cm (the nearest of 62 cameras); this camera is 160 cm"


def test_a_set_is_compared_by_its_nearest_camera():
    trained = [CameraSpec(), CameraSpec(height_m=0.6, pitch_deg=15, look_down_pitch_deg=15)]
    assert difference_from_all([], CameraSpec()) is None
    assert difference_from_all(trained, CameraSpec(height_m=0.59, pitch_deg=15.5), ()) is not None
    measured = CameraSpec(height_m=0.59, pitch_deg=15.5, look_down_pitch_deg=14.5)
    assert difference_from_all(trained, measured) is None
    told = difference_from_all(trained, CameraSpec(height_m=0.9))
    expected = "trained at 125 cm (the nearest of 2 cameras); this camera is 90 cm"
    assert told == expected
    assert difference_from_all(trained, CameraSpec(depth_scale=1), {"depth_scale"}) is None
    one_view = difference_from_all(trained, CameraSpec(pitch_deg=5), {"look_down_pitch_deg"})
    assert one_view == "trained at 0°/30° (the nearest of 2 cameras); this camera is 5°/30°"
