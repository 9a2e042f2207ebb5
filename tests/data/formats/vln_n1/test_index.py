import json
import logging
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.testing import assert_allclose
from PIL import Image

from internnav_hf.data import NavDPDataset
from internnav_hf.data.formats.vln_n1.index import EPISODE_SCHEMA
from internnav_hf.data.formats.vln_n1.reader import COLUMNS
from internnav_hf.data.obstacles import PATH_COLUMNS
from tests.data.vln_n1 import (
    DEPTH,
    FLOOR,
    OPENGL,
    SIZE,
    extrinsic,
    frame_depth,
    frame_of,
    intrinsic,
    parquet_of,
    walk,
    wall,
    write_cloud,
    write_frame,
    write_parquet,
    write_root,
    write_unit,
)

FIRST_OF_SECOND = 40  # frame number of the second walk's first frame


@pytest.fixture
def root(tmp_path):
    return write_root(tmp_path / "n1")


def make(root, **options):
    return NavDPDataset(root, image_size=28, cache_dir=root.parent / "cache", **options)


def scene(root):
    return root / "simulated_zed" / "scene_0"


def poses_of_nan(root):
    poses = walk(44)
    poses[7, 0, 3] = np.nan
    write_parquet(scene(root), 1, poses)


def poses_of_another_convention(root):
    write_parquet(scene(root), 1, walk(44) @ OPENGL)


def two_frames(root):
    """Of a scene of its own, so that one more episode is broken and none else."""
    write_unit(root / "simulated_zed" / "scene_9", [walk(2)])


def frame_in_the_middle(root):
    frame_of(scene(root), FIRST_OF_SECOND + 20).unlink()


def depth_in_the_middle(root):
    frame_of(scene(root), FIRST_OF_SECOND + 20, DEPTH).unlink()


def lying_range(root):
    write_parquet(scene(root), 1, walk(50))


def missing_column(root):
    path = parquet_of(scene(root), 1)
    pq.write_table(pq.read_table(path).drop_columns(["observation.camera_intrinsic"]), path)


def camera_on_its_side(root):
    columns = {"intrinsic": intrinsic(), "extrinsic": extrinsic() @ np.diag([-1.0, -1, 1, 1])}
    write_parquet(scene(root), 1, walk(44), **columns)


def first_image_is_none(root):
    frame_of(scene(root), FIRST_OF_SECOND).write_bytes(b"no image")


def two_frames_of_a_number(root):
    path = frame_of(scene(root), FIRST_OF_SECOND + 44 + 47)
    shutil.copy(path, path.with_name(f"0{path.name}"))


BREAKAGES = {
    "NaN poses": (poses_of_nan, "action: found nan or infinity at frame 7"),
    "OpenCV poses": (poses_of_another_convention, r"action: found axes .*y up, z back \(OpenGL\)"),
    "too short to draw from": (two_frames, "length: found 2 rows, expected at least 3"),
    "frames missing": (frame_in_the_middle, "frame 60: found no file, expected images 40 to 83"),
    "depth missing": (depth_in_the_middle, "images.depth: frame 60: found no file"),
    "lying range": (lying_range, "length: found 50 rows, expected 44, frames 40 to 83"),
    "missing column": (missing_column, "columns: found .*expected observation.camera_intrinsic"),
    "camera on its side": (camera_on_its_side, "camera_extrinsic: found .*a rotation about"),
    "a frame twice": (two_frames_of_a_number, "131.jpg: name: .*expected each number once"),
    "no image": (first_image_is_none, r"40.jpg: file: found 8 bytes that are no image"),
}


def edit_ranges(root, change):
    """`change` takes the number of a line, its first and its last frame."""
    path = scene(root) / "meta" / "episodes_stats.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for number, row in enumerate(rows):
        index = row["stats"]["image_index"]
        low, high = change(number, index["min"][0], index["max"][0])
        index["min"], index["max"] = [low], [high]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        (lambda i, a, b: (a - (i == 1), b - (i == 1)), [0, 2]),
        (lambda i, a, b: (a + (i == 1), b + (i == 1)), [0, 2]),
        (lambda i, a, b: (0, b - a), [0]),
        (lambda i, a, b: (a + 1, b + 1), []),
        (lambda i, a, b: (a - 1, b - 1), []),
    ],
    ids=["one earlier", "one later", "all from zero", "all later", "all earlier"],
)
def test_no_episode_has_the_frames_of_another(root, change, kept):
    edit_ranges(root, change)
    with pytest.raises(ValueError, match="episodes are broken(?s:.*)image_index: found|no file"):
        make(root)
    rows = make(root, max_broken_fraction=0.9).episodes.to_pylist()
    found = [row["episode_index"] for row in rows if row["unit"] == "simulated_zed/scene_0"]
    assert found == kept


def test_ranges_with_gaps_between_them_are_fine(root):
    """Frames that belong to nobody: what was not wanted was taken out of the list."""
    path = scene(root) / "meta" / "episodes_stats.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[2]]))
    parquet_of(scene(root), 1).unlink()
    assert make(root).episodes["episode_index"].to_pylist() == [0, 2, 0, 1, 2]


def test_where_frames_are_more_than_rows_all_that_overlap_are_left_out(root):
    edit_ranges(root, lambda i, a, b: (a - (i == 1), b - (i == 1)))
    write_frame(scene(root), 500)
    rows = make(root, max_broken_fraction=0.9).episodes.to_pylist()
    assert (rows[0]["unit"][-1], rows[0]["episode_index"]) == ("0", 2)


@pytest.mark.parametrize("make_link", [True, False])
def test_folders_that_hold_no_episodes_of_their_own_are_named(root, make_link):
    """A link to another scene, and an empty folder; those of other systems are nobody's."""
    extra = root / "simulated_zed" / "x"
    (root / "simulated_zed" / "@eaDir").mkdir()
    extra.symlink_to(scene(root)) if make_link else extra.mkdir()
    with pytest.raises(ValueError, match=f"1 of 7 episodes are broken(?s:.*){extra}"):
        make(root)
    assert make(root, max_broken_fraction=0.2).episodes.num_rows == 6


@pytest.mark.parametrize("name", BREAKAGES)
def test_a_broken_episode_is_named_counted_and_left_out(root, caplog, name):
    breakage, message = BREAKAGES[name]
    breakage(root)
    total = 7 if breakage is two_frames else 6
    with pytest.raises(ValueError, match=rf"(?s)1 of {total} episodes are broken.*{message}"):
        make(root)
    for _ in ("built", "from the cache"):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            dataset = make(root, max_broken_fraction=0.2)
        assert dataset.episodes.num_rows == total - 1
        assert dataset.num_broken_episodes == 1
        assert f"1 of {total} episodes are broken and left out" in caplog.text


def no_obstacles(root):
    write_cloud(scene(root), wall(), FLOOR)


def no_cloud(root):
    (scene(root) / "meta" / "pointcloud.ply").unlink()


def no_ranges(root):
    (scene(root) / "meta" / "episodes_stats.jsonl").unlink()


def empty_ranges(root):
    (scene(root) / "meta" / "episodes_stats.jsonl").write_text("\n")


def ranges_are_no_text(root):
    (scene(root) / "meta" / "episodes_stats.jsonl").write_bytes(b"\xff\x00")


def stray_point(root):
    write_cloud(scene(root), np.concatenate([wall(), [[1e6, 0.0]]]))


def depth_in_millimetres(root):
    for path in frame_of(scene(root), 0, DEPTH).parent.iterdir():
        image = np.asarray(frame_depth(int(path.stem)))
        Image.fromarray((image // 10).astype(np.uint16)).save(path)


def depth_is_black(root):
    for path in frame_of(scene(root), 0, DEPTH).parent.iterdir():
        Image.fromarray(np.zeros(SIZE[::-1], np.uint16)).save(path)


def no_images(root):
    shutil.rmtree(scene(root) / "videos")


SCENES = {
    "no images": (no_images, "images.rgb: frame 0: found no file"),
    "no obstacles": (no_obstacles, r"colours: found no obstacle, mostly \[\[128, 128, 128\]\]"),
    "no cloud": (no_cloud, "pointcloud.ply: file: found no file"),
    "no ranges": (no_ranges, "episodes_stats.jsonl: file: found no file"),
    "empty ranges": (empty_ranges, "episodes_stats.jsonl: file: found no line"),
    "ranges that are no text": (ranges_are_no_text, "episodes_stats.jsonl:1: line: .*UTF-8"),
    "a stray point": (stray_point, "points: found obstacles 1000002 m apart, expected a scene"),
    "depth in millimetres": (
        depth_in_millimetres,
        r"scene_0: depth: found a median of 0.\d+ m in 5 images, read with 10000 units a metre,"
        r" expected 0.4 to 20 m: is it in another unit\? \(3 episodes\)",
    ),
    "depth is black": (depth_is_black, "depth: found nothing but 0 or no number in 5 images"),
}


@pytest.mark.parametrize("name", SCENES)
def test_a_broken_scene_breaks_its_episodes(root, name):
    breakage, message = SCENES[name]
    breakage(root)
    with pytest.raises(ValueError, match=rf"(?s)3 of 6 episodes are broken.*{message}"):
        make(root)
    dataset = make(root, max_broken_fraction=0.5)
    assert set(dataset.episodes["unit"].to_pylist()) == {"simulated_zed/scene_1"}
    assert dataset.num_broken_episodes == 3


def test_a_depth_image_that_cannot_be_read_breaks_its_episode(root):
    Image.new("RGB", SIZE).save(frame_of(scene(root), 0, DEPTH))
    with pytest.raises(ValueError, match=r"1 of 6 .*\n.*mode: found RGB, expected 16-bit grey"):
        make(root)


def test_a_low_camera_that_looks_down_sees_near_floor(tmp_path):
    unit = write_unit(tmp_path / "n1" / "g" / "s", [walk(20)])
    columns = {"intrinsic": intrinsic(), "extrinsic": extrinsic(0.25, np.radians(45))}
    near = 3300 + np.arange(SIZE[0] * SIZE[1], dtype=np.uint16).reshape(SIZE[::-1]) % 9
    for path in frame_of(unit, 0, DEPTH).parent.iterdir():
        Image.fromarray(near).save(path)
    with pytest.raises(ValueError, match=r"found a median of 0.33 m in .* expected 0.4 to 20 m"):
        make(tmp_path / "n1")
    write_parquet(unit, 0, walk(20), **columns)
    assert len(make(tmp_path / "n1").episodes) == 1


def test_the_cloud_may_be_in_the_columns(tmp_path):
    """v0.1: points and colours beside the poses."""
    unit = write_unit(tmp_path / "n1" / "g" / "s" / "trajectory", [walk(20)])
    expected = make(tmp_path / "n1")[0]
    (unit / "meta" / "pointcloud.ply").unlink()
    points = np.insert(wall(), 2, 0.5, axis=1)
    for blue in (0.5, 128):
        add_cloud_columns(parquet_of(unit, 0), points, np.full_like(points, (0, 0, blue)))
        item = make(tmp_path / "n1")[0]
        assert_allclose([item["value"]], [expected["value"]], atol=1e-5)
    add_cloud_columns(parquet_of(unit, 0), points, np.zeros_like(points))
    with pytest.raises(ValueError, match="episode_000000.parquet: colours: found no obstacle"):
        make(tmp_path / "n1")


def add_cloud_columns(path, points, colors):
    table = pq.read_table(path).select(list(COLUMNS))
    nested = pa.list_(pa.list_(pa.float64()))
    for name, values in zip(PATH_COLUMNS, (points, colors), strict=True):
        rows = [values.tolist()] + [[]] * (table.num_rows - 1)
        table = table.append_column(name, pa.array(rows, nested))
    pq.write_table(table, path)


def test_other_depth_units_can_be_told(root):
    for number in (0, 1):
        unit = root / "simulated_zed" / f"scene_{number}"
        for path in frame_of(unit, 0, DEPTH).parent.iterdir():
            image = np.asarray(frame_depth(int(path.stem)))
            Image.fromarray((image // 10).astype(np.uint16)).save(path)
    dataset = make(root, depth_scale=1000)
    assert dataset.camera.depth_scale == 1000
    assert 0.4 < np.median(dataset.decision(0)["depth"]) < 20


def test_an_episode_shorter_than_the_memory_begins_with_black_frames(tmp_path):
    write_unit(tmp_path / "n1" / "g" / "s", [walk(5), walk(3)])
    dataset = make(tmp_path / "n1")
    for index in range(20):
        blank = (dataset[index]["rgb"] == 0).all(dim=(1, 2, 3))
        assert blank[:-1].all()
        assert not blank[-1]


def test_the_index_is_read_from_the_cache_until_files_change(root, monkeypatch):
    first = make(root)
    with monkeypatch.context() as patch:
        patch.setattr("internnav_hf.data.index.index_folders", lambda *_: 1 / 0)
        assert make(root).episodes.equals(first.episodes)
        with pytest.raises(ZeroDivisionError):
            make(root, frame_order="lexicographic")
    write_cloud(scene(root), wall(0.8))
    changed = make(root)
    assert changed.episodes["field"].to_pylist() != first.episodes["field"].to_pylist()
    shutil.rmtree(root / "simulated_zed" / "scene_1")
    assert make(root).episodes.num_rows == 3


def test_a_removed_field_is_built_again(root):
    dataset = make(root)
    before = dataset[0]
    for folder in (root.parent / "cache").glob("obstacles-*/"):
        shutil.rmtree(folder)
    assert dataset[0]["value"] == before["value"]


def test_every_column_says_what_it_means(root):
    assert all(field.metadata[b"meaning"] for field in EPISODE_SCHEMA)
    assert make(root).episodes.schema.names == EPISODE_SCHEMA.names
