import json
import logging
import os
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from internnav_hf.data import System2Dataset
from internnav_hf.data.formats.vln_ce.index import EPISODE_SCHEMA
from internnav_hf.data.tasks.system2_sampling import SAMPLE_SCHEMA
from tests.data.vln_ce import (
    DOWN,
    LEVEL,
    image_of,
    parquet_of,
    straight_episode,
    write_images,
    write_parquet,
    write_scene,
)

SIZE = (64, 48)


@pytest.fixture
def root(tmp_path):
    for scene in ("a", "b"):
        episodes = [straight_episode(index) for index in range(3)]
        write_scene(tmp_path / "data" / "r2r" / scene, episodes, SIZE)
    return tmp_path / "data"


def make(root, names="r2r_125cm_0_30", **options):
    return System2Dataset(root, names, cache_dir=root.parent / "cache", **options)


def scene(root):
    return root / "r2r" / "a"


def set_column(root, name, change):
    path = parquet_of(scene(root), 1)
    table = pq.read_table(path)
    values = table[name].to_pylist()
    change(values)
    column = pa.array(values, table.schema.field(name).type)
    pq.write_table(table.set_column(table.schema.names.index(name), name, column), path)


def set_item(index, value):
    return lambda values: values.__setitem__(index, value)


def drop_column(root):
    path = parquet_of(scene(root), 1)
    pq.write_table(pq.read_table(path).drop_columns([f"goal.{DOWN}"]), path)


def lying_length(root):
    path = scene(root) / "meta" / "episodes.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[1]["length"] = 24
    path.write_text("\n".join(json.dumps(line) for line in lines))


def same_episode_twice(root):
    path = scene(root) / "meta" / "episodes.jsonl"
    path.write_text(path.read_text().replace('"episode_index": 2', '"episode_index": 0'))


BREAKAGES = {
    "missing column": (drop_column, rf"columns: found .*expected goal\.{DOWN}"),
    "goal outside": (
        lambda root: set_column(root, f"goal.{DOWN}", set_item(4, [64, 5])),
        r"goal.125cm_30deg: found \[64, 5\] at frame 4, expected a pixel \[u, v\] inside 64x48",
    ),
    "waypoint beyond the end": (
        lambda root: set_column(root, f"relative_goal_frame_id.{DOWN}", set_item(10, 5)),
        r"relative_goal_frame_id.125cm_30deg: found 5 at frame 10 of 12",
    ),
    "pose of nan": (
        lambda root: set_column(root, f"pose.{DOWN}", set_item(3, [[float("nan")] * 4] * 4)),
        r"pose.125cm_30deg: found nan or infinity at frame 3",
    ),
    "unknown action": (
        lambda root: set_column(root, "action", set_item(3, 9)),
        r"action: found 9 at frame 3, expected one of \[1, 2, 3, 5\]",
    ),
    "lying length": (lying_length, "length: found 12 rows, expected 24"),
    "same episode twice": (same_episode_twice, "episode_index: found 0 again"),
    "missing frame": (
        lambda root: image_of(scene(root), 1, 7, LEVEL).unlink(),
        r"episode_000001_7.jpg: file: found no file, expected an image for each of 12 frames",
    ),
    "empty frame": (
        lambda root: image_of(scene(root), 1, 7, DOWN).write_bytes(b""),
        r"episode_000001_7.jpg: file: found 0 bytes",
    ),
    "no image": (
        lambda root: image_of(scene(root), 1, 0, DOWN).write_bytes(b"no image"),
        r"episode_000001_0.jpg: file: found 8 bytes that are no image",
    ),
    "sizes of the two views differ": (
        lambda root: shutil.copy(
            image_of(write_scene(root.parent / "x", [straight_episode(0)]), 0, 0, LEVEL),
            image_of(scene(root), 1, 0, LEVEL),
        ),
        r"size: found \(640, 480\), expected \(64, 48\)",
    ),
    "truncated parquet": (
        lambda root: parquet_of(scene(root), 1).write_bytes(b"PAR1"),
        "file: found 4 bytes",
    ),
}


@pytest.mark.parametrize("name", BREAKAGES)
def test_a_broken_episode_is_named_counted_and_left_out(root, caplog, name):
    breakage, message = BREAKAGES[name]
    whole = make(root).samples.num_rows
    shutil.rmtree(root.parent / "cache")  # images changed in place are not noticed: see below
    breakage(root)
    with pytest.raises(ValueError, match=rf"(?s)1 of 6 episodes are broken.*{message}"):
        make(root)
    for _ in ("built", "from the cache"):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            dataset = make(root, max_broken_fraction=0.2)
        assert dataset.episodes.num_rows == 5
        assert dataset.samples.num_rows == whole * 5 // 6
        assert "1 of 6 episodes are broken and left out" in caplog.text
        assert "a/" in caplog.text
    with pytest.raises(ValueError, match="1 of 6 episodes are broken"):
        make(root)


def test_only_the_first_broken_episodes_are_listed(root):
    for index in range(3):
        for name in ("a", "b"):
            parquet_of(root / "r2r" / name, index).unlink()
    with pytest.raises(ValueError, match="6 of 6 episodes are broken") as error:
        make(root)
    assert "and 1 more" in str(error.value)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("r2x_125cm_0_30", r"Unknown dataset 'r2x_.* It has r2r\. Did you mean 'r2r'\?"),
        ("r2r_125cm_0_45", r"no images of camera '125cm_45deg'\..*Did you mean 'r2r_125cm_0_"),
        ("r2r", "not of the form NAME_HEIGHTcm_PITCH_PITCH"),
        ("r2r_125cm_0_30%0", "%0 must lie between"),
        ("../data_125cm_0_30", "must be the name of a folder"),
        ("", "No dataset name given"),
    ],
)
def test_an_unknown_dataset_says_what_there_is(root, names, message):
    with pytest.raises(ValueError, match=message):
        make(root, names)


def test_a_root_that_does_not_exist_is_named(root):
    with pytest.raises(ValueError, match="nowhere: no such folder"):
        make(root / "nowhere")


def test_an_empty_scene_folder_is_named(root):
    (root / "r2r" / "c").mkdir()
    with pytest.raises(ValueError, match=r"1 of 7 episodes are broken(?s:.*)c: empty scene folder"):
        make(root)
    (root / "r2r" / "c" / "meta").mkdir()
    (root / "r2r" / "c" / "meta" / "episodes.jsonl").write_text("\n")
    with pytest.raises(ValueError, match="c/meta/episodes.jsonl: file: found no line"):
        make(root)


def test_archives_are_to_be_unpacked(root):
    (root / "rxr").mkdir()
    (root / "rxr" / "scene.tar.gz").touch()
    with pytest.raises(ValueError, match=r"no scene folder in it.*scene\.tar\.gz: unpack"):
        make(root, "rxr_125cm_0_30")


def test_episodes_too_short_for_a_sample_are_refused_together(root):
    write_scene(root / "short" / "a", [straight_episode(0) | short_episode()], SIZE)
    with pytest.raises(ValueError, match="no sample in 1 episodes"):
        make(root, "short_125cm_0_30")


def short_episode():
    return {
        "meta": {"episode_index": 0, "tasks": ["Go"], "length": 3},
        "actions": [-1, 1, 1],
        "relative_goal_frame_id": [-1] * 3,
        "goal": [[-1, -1]] * 3,
    }


def test_a_second_start_reads_no_parquet_and_no_image(root, monkeypatch):
    first = make(root)

    def refuse(*_, **__):
        raise AssertionError("a warm start must not read the data")

    monkeypatch.setattr("pyarrow.parquet.ParquetFile", refuse)
    monkeypatch.setattr("PIL.Image.open", refuse)
    second = make(root)
    assert first.samples.equals(second.samples)
    assert first.episodes.equals(second.episodes)


@pytest.mark.parametrize("change", ["parquet", "episode list", "image folder", "rules", "info"])
def test_a_change_builds_anew(root, change):
    make(root)
    options = {}
    if change == "parquet":
        longer = straight_episode(1)
        longer["actions"] = [-1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]
        write_parquet(scene(root), longer)
    elif change == "episode list":
        with open(scene(root) / "meta" / "episodes.jsonl", "a") as file:
            file.write("\n")
    elif change == "image folder":
        image_of(scene(root), 1, 7, LEVEL).unlink()
        options = {"max_broken_fraction": 1}
    elif change == "info":
        (scene(root) / "meta" / "info.json").write_text("{}")
    else:
        options = {"sample_step": 2}
    make(root, **options)
    cache = root.parent / "cache"
    assert len(list(cache.rglob("samples.arrow"))) == 2
    assert len(list(cache.rglob("episodes.arrow"))) == (1 if change == "rules" else 2)


def test_an_interrupted_build_leaves_nothing_to_be_found(root, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("internnav_hf.data.index._save", interrupt)
        with pytest.raises(KeyboardInterrupt):
            make(root)
    assert [path.suffix for path in (root.parent / "cache").iterdir()] in ([], [".lock"])
    assert make(root).samples.num_rows > 0


def test_the_tables_say_what_their_columns_mean(root):
    dataset = make(root)
    assert dataset.samples.schema == SAMPLE_SCHEMA
    for field in [*SAMPLE_SCHEMA, *EPISODE_SCHEMA]:
        assert field.metadata[b"meaning"]


def test_a_million_samples_need_little_disk(root):
    samples = make(root).samples.combine_chunks()
    assert samples.nbytes / samples.num_rows < 40


def scenes_of(dataset):
    return [(row["scene"], row["episode_index"]) for row in dataset.episodes.to_pylist()]


def test_a_scene_of_another_field_of_view_is_broken(root):
    for name, hfov in (("a", 90), ("b", 79)):
        info = {"camera": {"hfov_deg": hfov}}
        (root / "r2r" / name / "meta" / "info.json").write_text(json.dumps(info))
    with pytest.raises(ValueError, match=r"a/meta/info.json: camera.hfov_deg: found 90, expected"):
        make(root)
    dataset = make(root, max_broken_fraction=0.5)
    assert scenes_of(dataset) == [("b", 0), ("b", 1), ("b", 2)]
    (root / "r2r" / "b" / "meta" / "info.json").write_text('{"camera": 3}')
    with pytest.raises(ValueError, match=r"info.json: camera: found something unreadable"):
        make(root)


def test_episodes_keep_their_instructions(root):
    rows = make(root).episodes.to_pylist()
    assert [row["scene"] for row in rows] == ["a"] * 3 + ["b"] * 3
    assert rows[0]["instructions"] == ["Go on. "]
    assert np.all([row["length"] == 12 for row in rows])


@pytest.mark.parametrize("kind", ["info", "lines", "name", "link", "parent", "circle"])
def test_a_broken_scene_is_named_and_leaves_the_others(root, caplog, kind):
    whole = [row["scene"] for row in make(root).episodes.to_pylist()]
    scene = root / "r2r" / "a"
    left = ["b"] * 3 if kind in ("info", "lines", "name") else whole
    if kind == "info":
        (scene / "meta" / "info.json").write_text('{"camera": {')
    elif kind == "lines":
        (scene / "meta" / "episodes.jsonl").write_text('{"episode_index": 0,')
    elif kind == "name":
        scene.rename(scene.with_name(os.fsdecode(b"sc\xe9ne")))
    else:
        target = {"link": scene, "parent": scene.parent, "circle": scene.parent / "x"}[kind]
        (scene.parent / "x").symlink_to(target)
    with pytest.raises(ValueError, match="of . episodes are broken"):
        make(root)
    with caplog.at_level(logging.WARNING):
        found = make(root, max_broken_fraction=0.6).episodes["scene"].to_pylist()
    assert found == left
    assert "r2r/" in caplog.text


def test_of_two_lines_of_one_episode_the_right_one_counts(root):
    """Line 0 claims to be episode 1, which has the same number of frames."""
    path = root / "r2r" / "a" / "meta" / "episodes.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[0] |= {"episode_index": 1, "tasks": ["The walk of another episode."]}
    path.write_text("\n".join(map(json.dumps, lines)))
    rows = make(root, max_broken_fraction=0.5).episodes.to_pylist()
    kept = [row for row in rows if row["scene"] == "a"]
    assert [(row["episode_index"], row["instructions"]) for row in kept] == [
        (1, ["Go on. "]),
        (2, ["Go on. "]),
    ]


def lost_line(root):
    path = scene(root) / "meta" / "episodes.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[2]]))


def many_instructions(root):
    path = scene(root) / "meta" / "episodes.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[1]["tasks"] = ["Go."] * 40_000
    path.write_text("\n".join(map(json.dumps, lines)))


def small_images(root):
    info = {"camera": {"hfov_deg": 79, "width": SIZE[0], "height": SIZE[1]}}
    for name in ("a", "b"):
        (root / "r2r" / name / "meta" / "info.json").write_text(json.dumps(info))
    write_images(scene(root), straight_episode(1), (32, 24), 90)


def backwards(root):
    path = parquet_of(scene(root), 1)
    table = pq.read_table(path)
    pq.write_table(table.append_column("frame_index", pa.array(range(12)[::-1])), path)


def stands_still(root):
    set_column(root, f"pose.{DOWN}", lambda poses: poses.__setitem__(slice(None), poses[:1] * 12))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lost_line, "episode_000001.parquet: file: found no line in meta/episodes.jsonl"),
        (many_instructions, "episodes.jsonl:2: tasks: found 40000 instructions"),
        (small_images, "camera.width, camera.height: found 64x48, expected 32x24"),
        (backwards, "episode_000001.parquet: frame_index: found 10 at row 1, after 11"),
        (stands_still, "episode_000001.parquet: pose.125cm_30deg: found"),
    ],
)
def test_what_is_wrong_with_one_episode_leaves_the_others(root, damage, message):
    whole = scenes_of(make(root))
    damage(root)
    with pytest.raises(ValueError, match=rf"1 of 6 episodes are broken.*\n.*{message}"):
        make(root)
    whole.remove(("a", 1))
    assert scenes_of(make(root, max_broken_fraction=0.2)) == whole
