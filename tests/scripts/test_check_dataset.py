import sys

import pytest

from scripts import check_dataset
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
    assert "unreadable first episode" in text
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
