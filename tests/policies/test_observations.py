"""What is read of numbers and keys; what policies make of it is in test_contract.py."""

import time

import numpy as np
import pytest
from PIL import Image

from internnav_hf.policies.observations import (
    checked_depth,
    checked_keys,
    checked_picture,
    described,
)

VIEW = np.zeros((6, 8, 3), np.uint8)


def test_depth_is_metres_of_the_view():
    depth = np.full((6, 8), 2.5)
    assert checked_depth(depth, "depth", VIEW) is depth
    unknown = np.full((3, 4), np.nan)  # half as large
    assert checked_depth(unknown, "depth", VIEW) is unknown
    overshoot = np.where(np.arange(48).reshape(6, 8) == 5, -0.01, 2.0)
    with pytest.raises(ValueError, match="found 2% negative numbers, down to -0.01"):
        checked_depth(overshoot, "depth", VIEW)
    large = np.full((480, 640), 2.0)
    large[0, 0] = -1  # a sensor's mark
    assert checked_depth(large, "depth") is large
    with pytest.raises(ValueError, match="found a median of 2500, expected metres"):
        checked_depth(1000 * depth, "depth", VIEW)
    with pytest.raises(ValueError, match=r"found \(8, 6\), expected the shape of 'rgb', \(6, 8\)"):
        checked_depth(depth.T, "depth", VIEW)


def test_what_a_simulator_adds_is_left_alone():
    seen = {"rgb": VIEW, "timestamp": 1.0, "depth_look_down": None, "imu": {}, 5: 6}
    assert checked_keys(seen, "observation", ("rgb",), ("rgb", "rgb_look_down")) is seen
    for key, meant in (("rgb_lookdown", "rgb_look_down"), ("RGB_look_down", "rgb_look_down")):
        with pytest.raises(ValueError, match=f"{key!r}: did you mean {meant!r}"):
            checked_keys({**seen, key: VIEW}, "observation", ("rgb",), ("rgb", "rgb_look_down"))
    with pytest.raises(ValueError, match=r"found no 'depth'; it has 'rgb', 'timestamp', .*5\."):
        checked_keys(seen, "observation", ("rgb", "depth"), ("rgb", "depth"))


def test_a_picture_file_that_was_cut_is_an_error_when_it_is_shown(tmp_path):
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8))
    picture.save(tmp_path / "whole.jpg")
    cut = (tmp_path / "whole.jpg").read_bytes()[:900]
    (tmp_path / "cut.jpg").write_bytes(cut)
    assert checked_picture(Image.open(tmp_path / "whole.jpg"), "rgb").size == (64, 64)
    with pytest.raises(ValueError, match=r"rgb: found a PIL image of mode RGB, 64x64 \(.*trunc"):
        checked_picture(Image.open(tmp_path / "cut.jpg"), "rgb")


def test_things_are_described_in_a_few_words():
    assert described(np.linspace(0, 1, 300).reshape(1, 3, 100)) == (
        "float64 of shape (1, 3, 100), 0 to 1"
    )
    assert described(np.full((2, 2), np.nan)) == "float64 of shape (2, 2), no finite number"
    assert described(np.float32(3)) == "float32 np.float32(3.0)"
    assert described("x" * 10**6)[:10] == "str 'xxxxx"
    assert len(described("x" * 10**6)) < 50
    assert described(None) == "None"


def test_a_check_costs_microseconds():
    view, depth = np.zeros((480, 640, 3), np.uint8), np.full((480, 640), 2.0, np.float32)
    best = []
    for _ in range(20):
        start = time.process_time()
        checked_picture(view, "rgb")
        checked_depth(depth, "depth", view)
        best.append(time.process_time() - start)
    assert min(best) < 1e-3
