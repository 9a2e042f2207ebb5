import logging

import numpy as np
import pytest

from internnav_hf.data.formats.vln_pe import index
from internnav_hf.data.formats.vln_pe.frames import FrameRules
from internnav_hf.data.formats.vln_pe.index import FailureRules, ReadingRules
from internnav_hf.data.index import open_episodes
from internnav_hf.data.tables import row_of
from tests.data import vln_pe


@pytest.fixture
def root(tmp_path):
    return vln_pe.write_root(tmp_path / "traj_data", scans=("r2r", "r2r_flash"))


@pytest.fixture
def open_index(tmp_path):
    def run(root, rules=None, **options):
        source = index.vln_pe(root, rules or ReadingRules())
        return open_episodes(source, tmp_path / "cache", **options)

    return run


def failing(root, ends, lengths):
    walks = [vln_pe.some_actions(length) for length in lengths]
    return vln_pe.write_scene(root / "r2r" / "scene", walks, ends=ends)


def test_a_row_has_what_a_sample_needs(root, open_index):
    index = open_index(root)
    assert index.num_episodes == index.episodes.num_rows == 2 * 2 * 2
    row = row_of(index.episodes, 1)
    actions = vln_pe.some_actions(9)
    assert (row["unit"], row["episode_index"], row["length"]) == ("r2r/scene_0", 1, 9)
    assert row["instructions"] == list(vln_pe.INSTRUCTIONS)
    assert row["instruction_tokens"][1] == [9, 10, 7, 2]
    assert row["actions"] == actions
    assert row["previous_actions"] == [-1, *actions[:-1]]
    assert len(row["progress"]) == 9
    poses = np.array(row["poses"]).reshape(9, 3)
    np.testing.assert_allclose(poses[:, :2], vln_pe.poses_of(actions)[:, :2])
    units = index.episodes["unit"].to_pylist()
    assert units == sorted(units)


def test_scans_are_chosen(root, open_index):
    index = open_index(root, ReadingRules(scans=("r2r_flash",)))
    assert {unit.split("/")[0] for unit in index.episodes["unit"].to_pylist()} == {"r2r_flash"}


def test_failed_walks_go_by_the_published_rules(tmp_path, open_index):
    ends = [
        ("fail", "fall"),
        ("fail", "fall"),
        ("success", ""),
        ("fail", "stuck"),
        ("fail", "stuck"),
    ]
    failing(tmp_path / "d", ends, [14, 15, 6, 40, 20])
    index = open_index(tmp_path / "d")
    lengths = index.episodes["length"].to_pylist()
    assert lengths == [15, 6, 15]
    assert index.episodes["num_recorded"].to_pylist() == [15, 6, 40]
    assert index.left_out == {"fall": 1, "stuck": 1}
    assert index.num_episodes == 5
    row = row_of(index.episodes, 2)
    for name, width in (("actions", 1), ("previous_actions", 1), ("progress", 1), ("poses", 3)):
        assert len(row[name]) == 15 * width, name
    assert row["actions"] == vln_pe.some_actions(40)[:15]


def test_the_rules_for_failed_walks_can_be_changed(tmp_path, open_index):
    failing(tmp_path / "d", [("fail", "fall"), ("fail", "stuck")], [5, 40])
    rules = ReadingRules(failures=FailureRules(shortest_failure=0, stuck_tail=0))
    assert open_index(tmp_path / "d", rules).episodes["length"].to_pylist() == [5, 40]


def test_nothing_left_is_an_error(tmp_path, open_index):
    failing(tmp_path / "d", [("fail", "fall")], [5])
    with pytest.raises(ValueError, match=r"found 1 episodes and none to use .*'fall': 1"):
        open_index(tmp_path / "d")


def test_broken_episodes_are_left_out_and_named(root, open_index, caplog):
    array = vln_pe.array_of(root / "r2r" / "scene_1", 1)
    np.save(array, vln_pe.rgb_of(4))
    with pytest.raises(ValueError, match=r"1 of 8 episodes are broken.*(?s:.)*shape \(4, 12"):
        open_index(root)
    with caplog.at_level(logging.WARNING):
        index = open_index(root, max_broken_fraction=0.2)
    assert index.episodes.num_rows == 7
    assert str(array) in caplog.text


def test_a_broken_meta_file_breaks_its_folder_alone(root, open_index):
    (root / "r2r" / "scene_1" / "meta" / "tasks.jsonl").write_text("")
    index = open_index(root, max_broken_fraction=0.5)
    assert index.episodes.num_rows == 6
    assert len(index.broken_episodes) == 2


def test_an_episode_without_frames_is_broken(root, open_index):
    vln_pe.array_of(root / "r2r" / "scene_0", 0, vln_pe.DEPTH).unlink()
    with pytest.raises(ValueError, match="observation.images.depth: depth: found no frames"):
        open_index(root)


def test_depth_in_metres_is_refused(root, open_index):
    for path in (root / "r2r" / "scene_0").rglob("observation.images.depth/*.npy"):
        np.save(path, 10 * np.load(path))
    with pytest.raises(ValueError, match=r"2 of 8 .*\n.*depth_unit_m=1 if all .*\(2 episodes\)$"):
        open_index(root)
    metres = ReadingRules(frames=FrameRules(depth_unit_m=1.0))
    with pytest.raises(ValueError, match="6 of 8 .*(\n.*nothing farther than 0.* m.*){3}"):
        open_index(root, metres)
    for path in root.rglob("observation.images.depth/*.npy"):
        if not path.is_relative_to(root / "r2r" / "scene_0"):
            np.save(path, 10 * np.load(path))
    assert open_index(root, metres).episodes.num_rows == 8


def test_one_episode_in_metres_leaves_the_others(root, open_index):
    path = vln_pe.array_of(root / "r2r" / "scene_0", 0, vln_pe.DEPTH)
    vln_pe.write_scene(root / "r2r" / "scene_0", [vln_pe.some_actions(n) for n in (6, 9, 12)])
    np.save(path, 10 * np.load(path))
    with pytest.raises(ValueError, match=r"1 of 9 .*\n.*episode_000000.npy: depth: found numbers"):
        open_index(root)
    assert open_index(root, max_broken_fraction=0.2).episodes.num_rows == 8


def test_the_table_is_kept_until_a_file_changes(root, open_index, tmp_path):
    first = open_index(root).episodes
    folders = sorted((tmp_path / "cache").glob("vln_pe-*[0-9a-f]"))
    assert open_index(root).episodes.equals(first)
    assert sorted((tmp_path / "cache").glob("vln_pe-*[0-9a-f]")) == folders
    np.save(vln_pe.array_of(root / "r2r" / "scene_0", 0), vln_pe.rgb_of(6, 3))
    second = open_index(root).episodes
    keys = [(a != b) for a, b in zip(first["frames_key"], second["frames_key"], strict=True)]
    assert keys == [True] + [False] * 7


def test_images_get_a_key_of_all_their_files(tmp_path, open_index):
    vln_pe.write_scene(tmp_path / "d" / "r2r" / "a", [vln_pe.some_actions(5)], images=True)
    before = open_index(tmp_path / "d").episodes["frames_key"][0].as_py()
    path = vln_pe.array_of(tmp_path / "d" / "r2r" / "a").with_name("episode_000000_2.png")
    with path.open("ab") as file:  # in place: its folder does not change
        file.write(b" ")
    assert open_index(tmp_path / "d").episodes["frames_key"][0].as_py() != before


def test_how_frames_are_read_belongs_to_their_key(root, open_index):
    keys = {
        open_index(root, ReadingRules(frames=rules)).episodes["frames_key"][0].as_py()
        for rules in (FrameRules(), FrameRules(5.0), FrameRules(splat_marker="r2r"))
    }
    assert len(keys) == 3
