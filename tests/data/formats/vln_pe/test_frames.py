import numpy as np
import pytest

from internnav_hf.data.formats.vln_pe.frames import FrameRules, RecordedFrames
from internnav_hf.data.formats.vln_pe.index import ReadingRules
from internnav_hf.data.formats.vln_pe.index import vln_pe as source
from internnav_hf.data.formats.vln_pe.reader import find_units
from internnav_hf.data.index import index_folders
from internnav_hf.data.rows import EpisodeRow
from tests.data import vln_pe

LENGTH = 5


@pytest.fixture(params=[False, True], ids=["arrays", "images"])
def images(request):
    return request.param


def frames_of(tmp_path, images=False, name="r2r/a_b", **rules) -> RecordedFrames:
    vln_pe.write_scene(tmp_path / name, [vln_pe.some_actions(LENGTH)], images=images)
    return RecordedFrames(tmp_path, name, 0, LENGTH, FrameRules(**rules))


def row_of(tmp_path, **rules) -> EpisodeRow:
    """The one episode, as tasks read it."""
    table = index_folders(
        source(tmp_path, ReadingRules(frames=FrameRules(**rules))), find_units(tmp_path)
    )
    assert not table.broken_episodes
    return EpisodeRow(table.episodes, 0, tmp_path)


def test_frames_are_read_from_arrays_and_from_images(tmp_path, images):
    frames = frames_of(tmp_path, images)
    frames.check()
    frames.check_depth_unit()
    expected = 10 * vln_pe.depth_of(LENGTH)
    np.testing.assert_allclose(frames.depth_image(3), expected[3], atol=1e-3)
    assert len(frames.files("rgb")) == (LENGTH if images else 1)
    row = row_of(tmp_path)
    np.testing.assert_array_equal(row.images(LENGTH), vln_pe.rgb_of(LENGTH))
    np.testing.assert_allclose(row.depths(LENGTH), expected, atol=1e-3)
    assert row.depths(LENGTH).dtype == np.float32
    assert len(row.images(2)) == len(row.depths(2)) == 2


def test_the_older_names_are_read(tmp_path):
    vln_pe.write_trajectory(tmp_path / "r2r" / "t", vln_pe.some_actions(LENGTH))
    frames = RecordedFrames(tmp_path, "r2r/t", 0, LENGTH, FrameRules())
    assert frames.files("depth")[0].name == "depth.npy"
    np.testing.assert_array_equal(row_of(tmp_path).images(LENGTH), vln_pe.rgb_of(LENGTH))


def test_a_depth_with_one_channel_is_read(tmp_path):
    frames = frames_of(tmp_path)
    path = vln_pe.array_of(tmp_path / "r2r/a_b", 0, vln_pe.DEPTH)
    np.save(path, vln_pe.depth_of(LENGTH)[..., None].astype(np.float16))
    frames.check()
    expected = 10 * vln_pe.depth_of(LENGTH)
    np.testing.assert_allclose(row_of(tmp_path).depths(LENGTH), expected, atol=0.01)


def test_scans_of_splats_are_turned_round(tmp_path):
    name = "r2r/3dgs_7"
    splats = frames_of(tmp_path, name=name)
    splats.check_depth_unit()
    row, plain = row_of(tmp_path), row_of(tmp_path, splat_marker=None)
    np.testing.assert_array_equal(row.images(LENGTH), vln_pe.rgb_of(LENGTH)[..., ::-1])
    np.testing.assert_allclose(row.depths(LENGTH), 100 * vln_pe.depth_of(LENGTH), rtol=1e-6)
    np.testing.assert_array_equal(plain.images(LENGTH), vln_pe.rgb_of(LENGTH))


def test_depth_in_metres_is_noticed(tmp_path):
    frames = frames_of(tmp_path)
    path = vln_pe.array_of(tmp_path / "r2r/a_b", 0, vln_pe.DEPTH)
    np.save(path, 10 * vln_pe.depth_of(LENGTH))
    with pytest.raises(ValueError, match=r"depth: found numbers up to .*depth_unit_m=1 if all"):
        frames.check_depth_unit()
    metres = frames_of(tmp_path, depth_unit_m=1.0)
    np.save(path, 10 * vln_pe.depth_of(LENGTH))
    metres.check_depth_unit()
    np.testing.assert_allclose(metres.depth_image(2), 10 * vln_pe.depth_of(LENGTH)[2])


@pytest.mark.parametrize(
    ("kind", "array", "message"),
    [
        ("rgb", np.zeros((4, 12, 16, 3), np.uint8), r"shape \(4, 12, 16, 3\), expected uint8 of"),
        ("rgb", np.zeros((5, 12, 16, 3), np.float32), "rgb: found float32"),
        ("rgb", np.zeros((5, 3, 12, 16), np.uint8), r"\(5, rows, columns, 3\)"),
        ("depth", np.zeros((5, 12, 16), np.uint16), "depth: found uint16"),
        ("depth", np.zeros((5, 12), np.float32), r"\(5, rows, columns\)"),
        ("depth", np.zeros((5, 0, 16), np.float32), "depth: found float32 of shape"),
        ("rgb", np.array([{}], dtype=object), "expected an array of numbers"),
    ],
)
def test_arrays_of_another_form_are_named(tmp_path, kind, array, message):
    frames = frames_of(tmp_path)
    path = vln_pe.array_of(tmp_path / "r2r/a_b", 0, f"observation.images.{kind}")
    np.save(path, array, allow_pickle=True)
    with pytest.raises(ValueError, match=message) as error:
        frames.check()
    assert str(path) in str(error.value)


def test_a_truncated_array_is_named(tmp_path):
    frames = frames_of(tmp_path)
    path = vln_pe.array_of(tmp_path / "r2r/a_b")
    for size in (0, 40, 500):
        path.write_bytes(path.read_bytes()[:size])
        with pytest.raises(ValueError, match="episode_000000.npy: file: found"):
            frames.check()


def test_no_frames_and_a_missing_one_are_named(tmp_path):
    frames = frames_of(tmp_path, images=True)
    missing = vln_pe.array_of(tmp_path / "r2r/a_b").with_name("episode_000000_3.png")
    missing.unlink()
    with pytest.raises(ValueError, match="episode_000000_3.png: file: found no file"):
        frames.check()
    for path in missing.parent.iterdir():
        path.unlink()
    with pytest.raises(ValueError, match="observation.images.rgb: rgb: found no frames"):
        RecordedFrames(tmp_path, "r2r/a_b", 0, LENGTH, FrameRules()).check()


def test_images_of_different_sizes_are_named(tmp_path):
    frames = frames_of(tmp_path, images=True)
    path = frames.files("rgb")[2]
    vln_pe.Image.new("RGB", (8, 8)).save(path)
    with pytest.raises(ValueError, match=r"size: found \(8, 8\), expected \(16, 12\)"):
        frames.check()
