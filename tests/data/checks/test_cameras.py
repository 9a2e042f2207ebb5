import json
from pathlib import Path

import pytest

from internnav_hf.camera import CameraSpec
from internnav_hf.data.checks.cameras import (
    check_height,
    check_intrinsics,
    check_recorded_size,
    recorded_camera,
    recorded_values,
)

PATH = Path("episode.parquet")
SIZE = (480, 270)


def write(scene, content):
    (scene / "meta").mkdir(exist_ok=True)
    (scene / "meta" / "info.json").write_text(content)
    return scene


def test_a_camera_that_is_told_is_read(tmp_path):
    assert recorded_camera(tmp_path) is None
    camera = CameraSpec(width=320, height=240, hfov_deg=60.0, pitch_deg=10.0)
    write(tmp_path, json.dumps({"camera": camera.to_dict() | {"name": "front"}}))
    assert recorded_camera(tmp_path) == camera
    check_recorded_size(tmp_path, recorded_values(tmp_path), (320, 240))
    with pytest.raises(ValueError, match="info.json: camera.width, .*: found 320x240, .* 640x480"):
        check_recorded_size(tmp_path, recorded_values(tmp_path), (640, 480))


@pytest.mark.parametrize(
    ("camera", "message"),
    [
        ('{"hfov_deg": NaN}', "camera: found something unreadable .nan is no number"),
        ('{"hfov_deg": 1e9}', "camera: found something unreadable .*1000000000"),
        ('{"hfov_deg": "79"}', "camera: found something unreadable .79 is no number"),
        ('{"hfov_deg": 1.38}', "camera.hfov_deg: found 1.38, expected 5 to 175"),
        ('{"height_m": 125}', "camera.height_m: found 125, expected 0.02 to 5"),
        ("3", "camera: found something unreadable"),
        ("[79]", r"camera: found something unreadable .\[79\] is no object"),
        ('""', "camera: found something unreadable"),
    ],
)
def test_a_camera_that_is_none_is_named(tmp_path, camera, message):
    with pytest.raises(ValueError, match=rf"info.json: {message}"):
        recorded_values(write(tmp_path, f'{{"camera": {camera}}}'))


@pytest.mark.parametrize(
    ("focal", "center"),
    [((300, 300), (240, 135)), ((300, 310), (251, 128)), ((300, 300), (240, 180))],
)
def test_intrinsics_of_the_images_pass(focal, center):
    check_intrinsics(focal, center, SIZE, PATH, "intrinsic")


@pytest.mark.parametrize(
    ("focal", "center", "message"),
    [
        ((150, 150), (120, 67.5), r"a centre of \(120, 67.5\) px, .*these are of 240x135"),
        ((400, 400), (320, 180), "these are of 640x360"),
        ((0.6, 0.6), (0.5, 0.5), "a centre of"),
        ((30, 30), (240, 135), "a focal length of 30 px"),
        ((9000, 9000), (240, 135), "a focal length of 9000 px"),
        ((300, 900), (240, 135), "focal lengths of 300 and 900 px"),
        ((300, 300), (float("nan"), 135), "a centre of"),
    ],
)
def test_intrinsics_of_another_resolution_are_named(focal, center, message):
    with pytest.raises(ValueError, match=rf"episode.parquet: intrinsic: found .*{message}"):
        check_intrinsics(focal, center, SIZE, PATH, "intrinsic")


def test_centimetres_are_named():
    check_height(0.25, PATH, "extrinsic")
    with pytest.raises(ValueError, match="found a height of 125, .* are these centimetres"):
        check_height(125.0, PATH, "extrinsic")
