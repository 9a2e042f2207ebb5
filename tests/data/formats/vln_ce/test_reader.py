import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from internnav_hf.data import read_lerobot
from internnav_hf.data.formats.vln_ce.reader import split_instructions
from tests.data.vln_ce import (
    DOWN,
    LEVEL,
    golden,
    image_of,
    parquet_of,
    straight_episode,
    write_scene,
)


@pytest.fixture
def root(tmp_path):
    write_scene(tmp_path / "r2r" / "b", golden()["episodes"], images=False)
    write_scene(tmp_path / "r2r" / "a", [straight_episode(1001)], images=False)
    return tmp_path


def replace_column(path, name, column):
    table = pq.read_table(path)
    index = table.schema.names.index(name)
    kept = table.remove_column(index)
    pq.write_table(kept if column is None else kept.append_column(name, column), path)


def test_reads_every_scene_below_a_folder_in_order(root):
    episodes = list(read_lerobot(root))
    assert [(e.root.name, e.episode_index) for e in episodes] == [
        ("a", 1001),
        ("b", 0),
        ("b", 1),
        ("b", 2),
    ]
    assert [e.episode_index for e in read_lerobot(root / "r2r" / "b")] == [0, 1, 2]


@pytest.mark.parametrize("name", ["data", "meta", "videos", "images"])
def test_a_folder_of_scenes_may_be_called_as_a_part_of_a_scene_is(root, tmp_path, name):
    moved = (root / "r2r").rename(tmp_path / name)
    assert len(list(read_lerobot(moved))) == len(list(read_lerobot(tmp_path))) == 4


def test_an_episode_holds_arrays_and_all_its_instructions(root):
    episode = next(read_lerobot(root / "r2r" / "b"))
    assert episode.instructions == ("Walk to the sofa and stop. ", "Go past the table.")
    assert episode.length == 22
    assert set(episode.columns) == {
        "action",
        *(
            f"{name}.{setting}"
            for name in ("pose", "goal", "relative_goal_frame_id")
            for setting in (LEVEL, DOWN)
        ),
    }
    assert episode.columns[f"pose.{DOWN}"].shape == (22, 4, 4)
    assert episode.columns[f"pose.{DOWN}"].dtype == np.float32
    assert episode.columns[f"pose.{DOWN}"][3, 0, 3] == 0.75
    assert episode.columns[f"goal.{DOWN}"][0].tolist() == [312, 260]
    assert (episode.columns[f"goal.{LEVEL}"] == -1).all()


def test_several_tasks_are_several_instructions():
    assert split_instructions(["a. <INSTRUCTION_SEP>b", "c"]) == ("a. ", "b", "c")


def test_actions_are_shifted_to_the_next_one(root):
    episode = next(read_lerobot(root / "r2r" / "b"))
    assert episode.actions[:5].tolist() == [1, 1, 1, 1, 2]
    assert episode.actions[-1] == 0


def test_frame_paths_follow_the_chunk(root):
    episode = next(read_lerobot(root))
    expected = image_of(root / "r2r" / "a", 1001, 7, DOWN)
    assert episode.frame_path("rgb", DOWN, 7) == expected
    assert "chunk-001" in str(expected)


def test_reads_only_what_is_asked_for(root):
    episode = next(read_lerobot(root, settings=[DOWN], extra_columns=["timestamp"]))
    assert f"pose.{LEVEL}" not in episode.columns
    assert episode.columns["timestamp"].shape == (12,)


def test_flat_and_fixed_size_poses_are_the_same(root):
    path = parquet_of(root / "r2r" / "a", 1001)
    expected = next(read_lerobot(root)).columns[f"pose.{DOWN}"]
    for kind in (pa.list_(pa.float64(), 16), pa.list_(pa.float32())):
        flat = pa.array(expected.reshape(12, 16).tolist(), kind)
        replace_column(path, f"pose.{DOWN}", flat)
        assert np.array_equal(next(read_lerobot(root)).columns[f"pose.{DOWN}"], expected)


@pytest.mark.parametrize(
    ("name", "column", "message"),
    [
        (f"pose.{DOWN}", None, r"columns: found .* expected pose.125cm_30deg"),
        (
            "action",
            pa.array([1.5] * 12),
            r"action: found 1.5 at row 0, expected whole numbers",
        ),
        (f"pose.{DOWN}", pa.array([[1.0] * 9] * 12), r"shape \(9,\) a row, expected float32"),
        (f"goal.{DOWN}", pa.array([[1, 2]] * 11 + [[1]]), r"different lengths \[1, 2\]"),
        ("action", pa.array([1] * 11 + [None], pa.int32()), "1 empty values"),
        ("action", pa.array(["1"] * 12), "found string"),
    ],
)
def test_a_wrong_column_is_named(root, name, column, message):
    path = parquet_of(root / "r2r" / "a", 1001)
    replace_column(path, name, column)
    with pytest.raises(ValueError, match=message) as error:
        list(read_lerobot(root, settings=[DOWN]))
    assert str(path) in str(error.value)


def test_a_length_that_lies_is_named(tmp_path):
    episode = straight_episode(0)
    episode["meta"]["length"] = 24
    write_scene(tmp_path, [episode], images=False)
    with pytest.raises(ValueError, match=r"length: found 12 rows, expected 24 as in meta"):
        list(read_lerobot(tmp_path))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{oops", r"episodes.jsonl:1: line: found '\{oops'"),
        ('{"episode_index": "../../x", "length": 3, "tasks": ["a"]}', "episode_index: found"),
        ('{"episode_index": 0, "length": 3, "tasks": []}', r"tasks: found \[\], expected"),
        ('{"episode_index": 0, "length": 3, "tasks": ["a<INSTRUCTION_SEP>"]}', "no empty"),
        ("", "episodes.jsonl: file: found no line"),
    ],
)
def test_a_wrong_line_of_the_episode_list_is_named(tmp_path, line, message):
    write_scene(tmp_path, [straight_episode(0)], images=False)
    (tmp_path / "meta" / "episodes.jsonl").write_text(line)
    with pytest.raises(ValueError, match=message):
        list(read_lerobot(tmp_path))


def test_a_truncated_parquet_is_named(root):
    path = parquet_of(root / "r2r" / "a", 1001)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match="file: found 200 bytes"):
        list(read_lerobot(root))
    path.unlink()
    with pytest.raises(ValueError, match="file: found no file"):
        list(read_lerobot(root))


def test_a_root_without_scenes_says_so(tmp_path):
    with pytest.raises(ValueError, match="no such folder"):
        list(read_lerobot(tmp_path / "nowhere"))
    (tmp_path / "17DRP5sb8fy.tar.gz").touch()
    with pytest.raises(ValueError, match="17DRP5sb8fy.tar.gz: unpack them first"):
        list(read_lerobot(tmp_path))
