import numpy as np
import pyarrow as pa
import pytest
from numpy.testing import assert_array_equal
from PIL import Image

from internnav_hf.data.rows import EpisodeRow, frame_file


def row_with(folder, **values):
    columns = {"unit": ["a"], **{name: [value] for name, value in values.items()}}
    return EpisodeRow(pa.table(columns), 0, folder)


def test_a_number_stands_where_the_pattern_has_its_place():
    assert frame_file("a/frame_#.jpg", 17) == "a/frame_17.jpg"
    assert frame_file("frame_####.jpg", 17) == "frame_0017.jpg"
    assert frame_file("all.npy", 17) == "all.npy"


def test_a_column_that_is_not_there_is_none(tmp_path):
    row = row_with(tmp_path, rgb_file="#.png", poses=[0.0, 1.0, 2.0])
    assert row["cloud"] is None
    assert not row.has("cloud")
    assert_array_equal(row.poses, [[0, 1, 2]])
    assert row.file("ordinary", 3) == tmp_path / "a" / "3.png"


def test_frames_have_their_numbers(tmp_path):
    row = row_with(tmp_path, rgb_file="#.png", frames=[5, 7])
    assert row.file("rgb", 1).name == "7.png"


def test_arrays_and_images_are_read_alike(tmp_path):
    (tmp_path / "a").mkdir()
    rgb = np.arange(2 * 3 * 4 * 3, dtype=np.uint8).reshape(2, 3, 4, 3)
    depth = np.array([[[0.1, np.nan]], [[0.2, 0.3]]], np.float32)
    np.save(tmp_path / "a" / "rgb.npy", rgb)
    np.save(tmp_path / "a" / "depth.npy", depth)
    Image.fromarray(rgb[1]).save(tmp_path / "a" / "1.png")
    shared = {"width": 4, "height": 3, "depth_file": "depth.npy", "depth_scale": 0.1}
    arrays, images = (row_with(tmp_path, rgb_file=name, **shared) for name in ("rgb.npy", "#.png"))
    assert_array_equal(arrays.image(1), images.image(1))
    assert_array_equal(arrays.depth(0), np.array([[1, 0]], np.float32))
    bgr = row_with(tmp_path, rgb_file="rgb.npy", is_bgr=True, **shared)
    assert_array_equal(np.asarray(bgr.image(1))[..., ::-1], rgb[1])
    (tmp_path / "a" / "rgb.npy").write_bytes(b"cut")
    with pytest.raises(ValueError, match=r"rgb.npy: file: found 3 bytes"):
        arrays.image(1)
    for array in (rgb[:1], np.array(5)):
        np.save(tmp_path / "a" / "rgb.npy", array)
        with pytest.raises(ValueError, match=r"rgb.npy: shape: found .*, expected more than 1 fr"):
            arrays.image(1)


def test_an_image_of_another_size_is_named(tmp_path):
    (tmp_path / "a").mkdir()
    Image.new("RGB", (4, 3)).save(tmp_path / "a" / "0.png")
    row = row_with(tmp_path, rgb_file="#.png", width=8, height=6)
    with pytest.raises(ValueError, match=r"0.png: size: found \(4, 3\), expected \(8, 6\)"):
        row.image(0)


def test_depth_of_another_size_than_the_first_is_named(tmp_path):
    (tmp_path / "a").mkdir()
    for frame, size in enumerate([(4, 3), (2, 3)]):
        Image.new("I;16", size, 7).save(tmp_path / "a" / f"{frame}.png")
    row = row_with(tmp_path, depth_file="#.png", depth_scale=1000.0)
    assert row.depths(1).shape == (1, 3, 4)
    with pytest.raises(ValueError, match=r"1.png: size: found \(3, 2\), expected \(3, 4\) as in"):
        row.depths(2)
