import json
import re

import numpy as np
import pytest
from numpy.testing import assert_allclose
from PIL import Image

from internnav_hf.data.formats.vln_n1.index import ReadingRules
from internnav_hf.data.formats.vln_n1.ranges import read_ranges
from internnav_hf.data.formats.vln_n1.reader import (
    EXTRINSIC,
    INTRINSIC,
    FrameFiles,
    find_units,
    frame_file,
    groups_by_root,
    robot_poses,
    training_groups,
    view_of,
)
from tests.data.vln_n1 import (
    HEIGHT_M,
    PITCH,
    extrinsic,
    frame_of,
    parquet_of,
    read_walks,
    walk,
    write_root,
    write_unit,
)


@pytest.fixture
def root(tmp_path):
    return write_root(tmp_path / "n1", scenes=1)


def test_one_folder_a_scene(root):
    records, columns = zip(*read_walks(root), strict=True)
    assert [record.episode_index for record in records] == [0, 1, 2]
    assert [record.length for record in records] == [40, 44, 48]
    assert_allclose(columns[1]["action"], walk(44, turn=0.0), atol=1e-12)
    unit, files = records[1].unit, FrameFiles(records[1].unit)
    assert unit / files.paths(records[1], "rgb")[3] == frame_of(unit, 43)
    assert (unit / files.paths(records[1], "depth")[0]).is_file()


def test_one_folder_a_trajectory(tmp_path):
    for number in range(3):
        unit = tmp_path / "gibson_zed" / "scene" / f"trajectory_{number}"
        write_unit(unit, [walk(30 + number)])
    records = [record for record, _ in read_walks(tmp_path)]
    assert [record.length for record in records] == [30, 31, 32]
    assert [record.episode_index for record in records] == [0, 0, 0]
    assert records[2].unit == tmp_path / "gibson_zed" / "scene" / "trajectory_2"


@pytest.mark.parametrize("name", ["{}", "{:06d}", "{:02d}", "episode_000003_{}", "rgb-1_{:03d}"])
def test_frames_are_in_the_order_of_their_numbers(tmp_path, name):
    unit = write_unit(tmp_path / "g" / "s", [walk(15), walk(110)], name=name)
    files = FrameFiles(unit)
    second = read_ranges(unit)[0][1]
    assert files.numbers(second, "rgb") == list(range(15, 125))
    for kind, folder in (("rgb", "observation.images.rgb"), ("depth", "observation.images.depth")):
        pattern = files.pattern(second, kind)
        paths = [unit / frame_file(pattern, number) for number in range(15, 125)]
        assert paths == [frame_of(unit, number, folder, name) for number in range(15, 125)]
    assert [str(path.relative_to(unit)) for path in paths] == files.paths(second, "depth")


def test_the_published_order_is_by_text(tmp_path):
    unit = write_unit(tmp_path / "g" / "s", [walk(12)])
    (record,) = read_ranges(unit)[0]
    files = FrameFiles(unit, "lexicographic")
    assert files.numbers(record, "rgb") == [0, 1, 10, 11, 2, 3, 4, 5, 6, 7, 8, 9]
    assert unit / files.paths(record, "rgb")[2] == frame_of(unit, 10)
    with pytest.raises(ValueError, match="frame_order: found 'sorted', expected one of"):
        ReadingRules(frame_order="sorted")


def ranges_of(unit, line: str):
    """The records of a file whose line 5 is `line`, and what is wrong with the others."""
    path = unit / "meta" / "episodes_stats.jsonl"
    path.parent.mkdir(exist_ok=True)
    known = json.dumps({"stats": {"image_index": {"min": 0, "max": 2}}})
    path.write_text("\n".join([*[known] * 4, line]))
    records, wrong = read_ranges(unit)
    return records[4:], wrong


def test_ranges_are_numbers_or_lists(tmp_path):
    for first, last in ((3, 9), ([3], [9]), (3.0, [[9.0]])):
        line = json.dumps({"stats": {"image_index": {"min": first, "max": last}}})
        ((record,), _) = ranges_of(tmp_path, line)
        assert (record.first, record.last, record.episode_index) == (3, 9, 4)


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        "{}",
        '{"stats": {}}',
        '{"stats": {"image_index": {"min": [0, 1], "max": 2}}}',
        '{"stats": {"image_index": {"min": 0.5, "max": 2}}}',
        '{"stats": {"image_index": {"min": null, "max": 2}}}',
        '{"stats": {"image_index": {"min": 0, "max": Infinity}}}',
    ],
)
def test_a_line_that_is_no_range_is_named(tmp_path, line):
    _, (error,) = ranges_of(tmp_path, line)
    assert re.search(r"stats\.jsonl:5: line: found .*expected", str(error))
    _, (error,) = ranges_of(tmp_path, '{"stats": {"image_index": {"min": 5, "max": 2}}}')
    assert "image_index: found 5 to 2, expected 0 <= min <= max" in str(error)


def test_the_robot_stands_below_the_camera():
    poses = robot_poses(walk(5, start=(2.0, -1.0), turn=0.1))
    assert_allclose(poses[0], [2, -1, 0], atol=1e-12)
    assert_allclose(poses[:, 2], 0.1 * np.arange(5), atol=1e-12)
    assert_allclose(poses[1] - poses[0], [0.06 * np.cos(0.1), 0.06 * np.sin(0.1), 0.1], atol=1e-12)


def test_the_view_comes_from_the_first_row(root):
    record, given = next(read_walks(root))
    view = view_of(given, record.unit)
    assert (view.focal, view.center) == ((50.0, 50.0), (32.0, 18.0))
    assert_allclose([view.height_m, view.pitch], [HEIGHT_M, PITCH])
    turned = extrinsic()[None] @ np.diag([-1.0, -1, 1, 1])
    with pytest.raises(ValueError, match="camera_extrinsic: found .*a rotation about the right"):
        view_of(given | {EXTRINSIC: turned}, record.unit)
    with pytest.raises(ValueError, match="camera_intrinsic: found .*positive focal lengths"):
        view_of(given | {INTRINSIC: np.zeros((1, 3, 3))}, record.unit)


def test_folders_and_groups_are_named(root, tmp_path):
    assert [unit.name for unit in find_units(root, ["simulated_zed"])] == ["scene_0"]
    with pytest.raises(ValueError, match="no group 'hm3d_zed'. It has simulated_zed. Did you mean"):
        find_units(root, ["hm3d_zed"])
    with pytest.raises(ValueError, match="no such folder"):
        find_units(tmp_path / "nowhere")
    (tmp_path / "empty" / "gibson_zed").mkdir(parents=True)
    with pytest.raises(ValueError, match="found no episodes, expected <group>/<scene>/data"):
        find_units(tmp_path / "empty")
    (tmp_path / "empty" / "a.tar.gz").touch()
    with pytest.raises(ValueError, match=r"1 archives such as a.tar.gz: unpack them first"):
        find_units(tmp_path / "empty")


def test_what_is_held_out_is_not_trained_on(tmp_path):
    root = write_root(tmp_path / "n1", ("a", "b", "c"), scenes=1, walks=1)
    assert training_groups(root, None, None) is None
    assert training_groups(root, None, ["b"]) == ["a", "c"]
    assert training_groups(root, ["a", "b"], ["b"]) == ["a"]
    assert training_groups(root, ["a"], None) == ["a"]
    with pytest.raises(ValueError, match="all held out: nothing is left to train on"):
        training_groups(root, ["a"], ["a", "b"])


def test_each_of_several_roots_has_its_own_groups(tmp_path):
    for folder in ("one/a", "one/held", "two/b", "two/held"):
        (tmp_path / folder).mkdir(parents=True)
    roots = [tmp_path / "one", tmp_path / "two"]
    both = [(["a"], ["held"]), (["b"], ["held"])]
    assert groups_by_root(roots, None, ["held"]) == both
    assert groups_by_root(roots, ["a", "b"], ["held"]) == both
    assert groups_by_root(roots, None, None) == [(None, []), (None, [])]
    assert groups_by_root(roots[:1], ["c"], None) == [(["c"], [])]
    with pytest.raises(ValueError, match=r"--eval_groups: found 'c', expected a group"):
        groups_by_root(roots, None, ["c"])
    with pytest.raises(ValueError, match=r"--scans: found none of \['a'\] below .*two"):
        groups_by_root(roots, ["a"], None, "scans")


def test_the_first_broken_episode_raises(root):
    parquet_of(root / "simulated_zed" / "scene_0", 1).unlink()
    with pytest.raises(ValueError, match="episode_000001.parquet: file: found no file"):
        list(read_walks(root))


def test_two_files_of_one_number_are_refused(root):
    unit = root / "simulated_zed" / "scene_0"
    Image.new("RGB", (4, 4)).save(frame_of(unit, 7, name="{:04d}"))
    with pytest.raises(ValueError, match="name: found the number of .*expected each number once"):
        FrameFiles(unit).paths(read_ranges(unit)[0][0], "rgb")
