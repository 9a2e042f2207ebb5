import numpy as np
import pytest
from PIL import Image

from internnav_hf.camera import CameraSpec, resize_view


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
