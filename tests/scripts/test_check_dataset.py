import shutil
import sys

import pytest

from scripts import check_dataset
from tests.data import trajectories, vln_n1, vln_pe
from tests.data.planner_folders import write_iplanner, write_viplanner
from tests.data.vln_ce import DOWN, image_of, parquet_of, straight_episode, write_scene


@pytest.fixture
def root(tmp_path):
    for scene in ("a", "b"):
        write_scene(tmp_path / "r2r" / scene, [straight_episode(0)], (64, 48))
    return tmp_path


@pytest.fixture
def check(monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["check_dataset.py", *map(str, arguments)])
        code = check_dataset.main()
        return code, capsys.readouterr().out

    return run


def test_a_sound_folder_is_described(root, check):
    code, text = check(root, "--verify-images")
    assert code == 0
    assert "r2r: 2 scenes" in text
    assert "vln_ce" in text
    assert "cameras with images: 125cm_0deg, 125cm_30deg" in text
    assert "r2r_125cm_0_30: 2 episodes, 2 instructions" in text
    assert "4 pixel goals, 2 turns, 2 stops" in text


def test_a_broken_image_is_found_when_asked_for(root, check):
    path = image_of(root / "r2r" / "b", 0, 5, DOWN)
    path.write_bytes(path.read_bytes()[:300])
    assert check(root)[0] == 0
    code, text = check(root, "--verify-images")
    assert code == 1
    assert str(path) in text
    assert "1 broken" in text


def test_a_broken_episode_is_found(root, check):
    parquet_of(root / "r2r" / "a", 0).write_bytes(b"")
    code, text = check(root, "--dataset", "r2r_125cm_0_30")
    assert code == 1
    assert "layout: InternData-N1 vln_ce" in text  # another scene tells it
    assert "broken: " in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "rxr_125cm_0_30"], "no folder 'rxr'"),
        (["--dataset", "r2r_125cm_0_45"], "expected pose.125cm_45deg"),
        (["--dataset", "r2r"], "not of the form"),
    ],
)
def test_a_wrong_name_is_answered(root, check, arguments, message):
    code, text = check(root, *arguments)
    assert code == 1
    assert message in text


def test_a_folder_without_scenes_is_answered(tmp_path, check):
    code, text = check(tmp_path)
    assert code == 1
    assert "no scene found" in text
    assert "traj_data.pkl" in text


def test_environments_of_planners_are_described(tmp_path, check):
    for write in (write_iplanner, write_viplanner):
        root = tmp_path / write.__name__
        broken = write(root, "a").parent / "b"
        write(root, "b")
        code, text = check(root, "--verify-images")
        assert code == 0
        assert "a: 24 frames, a map of 70x40 cells" in text
        shutil.rmtree(broken / "maps" / "params")
        code, text = check(root)
        assert code == 1
        assert f"broken: {broken / 'maps'}" in text


def test_a_sound_folder_of_system1_is_described(tmp_path, check):
    root = vln_n1.write_root(tmp_path / "vln_n1")
    for folder in (root, root / "simulated_zed", root / "simulated_zed" / "scene_0"):
        code, text = check(folder, "--verify-images")
        assert code == 0
        assert "InternData-N1 vln_n1, for System1 (NavDP)" in text
        assert "lengths: 40 to 48 frames, half of them up to 44" in text
        assert "64x36 px, focal 50.0 px, 0.50 m high, 15.0° down" in text
    assert "3 of 3 episodes are whole, 132 frames" in text


def cut(path):
    """The header stays whole."""
    path.write_bytes(path.read_bytes()[:-40])


def test_what_is_broken_for_system1_is_listed(tmp_path, check):
    root = vln_n1.write_root(tmp_path / "vln_n1")
    first, second = (root / "simulated_zed" / f"scene_{number}" for number in (0, 1))
    vln_n1.write_cloud(first, vln_n1.wall(), vln_n1.FLOOR)
    vln_n1.parquet_of(second, 0).write_bytes(b"")
    code, text = check(root)
    assert code == 1
    assert "2 of 6 episodes are whole" in text
    assert "colours: found no obstacle" in text
    assert "(3 episodes)" in text
    assert "episode_000000.parquet: file: found 0 bytes" in text
    assert "4 broken" in text
    cut(vln_n1.frame_of(second, 60))
    assert "4 broken" in check(root)[1]
    assert "5 broken" in check(root, "--verify-images")[1]


def test_system1s_depth_in_another_unit_can_be_told(tmp_path, check):
    root = vln_n1.write_root(tmp_path / "vln_n1", scenes=1)
    code, text = check(root, "--depth-scale", "100000")
    assert code == 1
    assert "depth: found a median of" in text


def test_a_sound_folder_of_whole_walks_is_described(tmp_path, check, monkeypatch):
    root = vln_pe.write_root(tmp_path / "traj_data")
    monkeypatch.chdir(root / "r2r" / "scene_1")
    for folder in (root, root / "r2r", root / "r2r" / "scene_1", "."):
        code, text = check(folder, "--verify-images")
        assert code == 0
        assert "InternData-N1 vln_pe, for Seq2Seq, CMA and RDP" in text
        assert "failed episodes that are left out: none" in text
    assert "2 of 2 episodes are used" in text
    assert "lengths: 7 to 10 frames" in text
    assert "actions: 2 stop, 12 forward, 3 left, 0 right" in text
    assert "instructions: 6, 6 of them with stored word ids" in text


def test_what_is_broken_in_whole_walks_is_listed(tmp_path, check):
    root = tmp_path / "traj_data"
    walks = [vln_pe.some_actions(6)] * 2
    ends = [("success", ""), ("fail", "fall")]
    vln_pe.write_scene(root / "r2r" / "a", walks, ends=ends)
    unit = vln_pe.write_scene(root / "r2r" / "b", walks, images=True)
    vln_pe.parquet_of(unit, 1).write_bytes(b"")
    code, text = check(root)
    assert code == 1
    assert "2 of 4 episodes are used" in text
    assert "failed episodes that are left out: 1 fall" in text
    assert "episode_000001.parquet: file: found 0 bytes" in text
    cut(vln_pe.array_of(unit).with_name("episode_000000_3.png"))
    assert "1 broken" in check(root)[1]
    assert "2 broken" in check(root, "--verify-images")[1]


def test_the_depth_of_whole_walks_may_be_in_metres(tmp_path, check):
    root = tmp_path / "traj_data"
    unit = vln_pe.write_scene(root / "r2r" / "a", [vln_pe.some_actions(6)])
    vln_pe.np.save(vln_pe.array_of(unit, 0, vln_pe.DEPTH), 10 * vln_pe.depth_of(6))
    code, text = check(root)
    assert code == 1
    assert "depth_unit_m=1 if all" in text
    assert check(root, "--depth-unit-m", "1")[0] == 0


def test_trajectories_are_described_and_their_broken_ones_named(tmp_path, check):
    root = trajectories.write_root(tmp_path / "recon")
    code, text = check(root, "--verify-images")
    assert code == 0
    assert "recon: 2 trajectories" in text
    assert "lengths: 24 to 26 frames, on average 0.25 m apart" in text
    (root / "two" / "5.jpg").unlink()
    code, text = check(root)
    assert code == 1
    assert "found 25, without 5.jpg" in text
