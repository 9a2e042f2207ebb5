"""How differences are worded; that every policy tells them is in test_contract.py."""

import numpy as np
import pytest

from internnav_hf.camera import CameraSpec
from internnav_hf.geometry import camera_pose
from internnav_hf.policies.camera_contract import NUM_NEAR_VIEWS, CameraContract
from internnav_hf.sim.render import Renderer
from tests.sim.boxes import hall


def view(width: int, height: int) -> np.ndarray:
    return np.full((height, width, 3), 90, np.uint8)


def test_a_size_is_compared_with_the_one_that_is_most_alike(caplog):
    trained = [CameraSpec(), CameraSpec(width=320, height=180)]
    contract = CameraContract("Policy", trained)
    contract.check_views([("rgb", view(640, 480)), ("rgb", view(320, 180))])
    assert not caplog.records
    contract.check_views([("rgb", view(1280, 720)), ("rgb_look_down", view(100, 100))])
    contract.check_views([("rgb", view(1280, 720))])
    assert [record.getMessage() for record in caplog.records] == [
        "Policy: rgb: found 1280x720 pixels, trained with 320x180 pixels, the same shape.",
        "Policy: rgb_look_down: found 100x100 pixels, trained with 640x480 pixels, another shape.",
    ]


def test_views_are_compared_with_the_camera_that_was_told(caplog):
    contract = CameraContract("Policy", [CameraSpec()], CameraSpec(width=320, height=240))
    assert "trained at 640x480 px; this camera is 320x240 px" in caplog.text
    contract.check_views([("rgb", view(640, 480))])
    assert "rgb: found 640x480 pixels, the camera that was told has 320x240" in caplog.text


def test_one_view_has_one_pitch_and_depth_comes_in_metres(caplog):
    other = CameraSpec(look_down_pitch_deg=0, depth_scale=1)
    CameraContract("Policy", [CameraSpec()], other, strict=True)
    with pytest.raises(ValueError, match=r"trained at 0°/30°; this camera is 0°/0°"):
        CameraContract("Policy", [CameraSpec()], other, strict=True, ignored=("depth_scale",))


def test_a_dark_view_is_told_once(caplog):
    contract = CameraContract("Policy", [CameraSpec()])
    for value in (2, 1, 0):
        contract.check_views([("rgb", np.full((480, 640, 3), value, np.uint8))])
    assert caplog.text.count("Policy: rgb: found nothing brighter than 1 of 255") == 1


def test_depth_that_never_exceeds_one_is_told_once_but_not_a_robot_in_front_of_a_wall(caplog):
    metres = Renderer(hall()).render(camera_pose(5.7, 3, 0, 0.5, 0), CameraSpec(64, 48)).depth
    assert metres.max() < 0.4  # the wall fills the view
    contract = CameraContract("Policy", [])
    for _ in range(NUM_NEAR_VIEWS - 1):
        contract.check_depth("depth", metres)
    contract.check_depth("depth", 4 * metres)
    for _ in range(2 * NUM_NEAR_VIEWS):
        contract.check_depth("depth", metres)
    assert "share" not in caplog.text
    contract = CameraContract("Policy", [])
    for _ in range(2 * NUM_NEAR_VIEWS):
        contract.check_depth("depth", np.linspace(0, 1, 12).reshape(3, 4))
        contract.check_depth("depth", np.full((3, 4), np.nan))
    assert caplog.text.count("expected metres: is it a share of the largest depth") == 1
