import sys

import numpy as np
import pytest
from PIL import Image

from internnav_hf.camera import CameraSpec
from internnav_hf.data.tasks.vln_targets import displacements, relative_poses
from scripts import preview_dataset
from tests.data import vln_pe
from tests.data.vln_ce import straight_episode, write_scene
from tests.evaluation import hostile


def preview(tmp_path, monkeypatch, *options, instruction="<go>"):
    monkeypatch.setattr("internnav_hf.data.tasks.system2.DEFAULT_CACHE", tmp_path / "home")
    write_scene(tmp_path / "data" / "r2r" / "a", [straight_episode(0, instruction=instruction)])
    out = tmp_path / "deep" / "preview.html"
    arguments = [tmp_path / "data", "--num-samples", 6, "--out", out, *options]
    monkeypatch.setattr(sys, "argv", ["preview_dataset.py", *map(str, arguments)])
    preview_dataset.main()
    return out.read_text(encoding="utf-8")


def test_the_page_shows_every_class(tmp_path, monkeypatch):
    page = preview(tmp_path, monkeypatch)
    assert page.count("<section>") == 6
    for words in ("pixel goal: 10 20", "turn: ←", "stop: STOP", "&lt;go&gt;"):
        assert words in page
    assert 'src="http' not in page


def test_one_of_several_datasets_is_asked_for(tmp_path):
    write_scene(tmp_path / "rxr" / "a", [straight_episode(0)])
    assert preview_dataset.only_dataset(tmp_path) == "rxr_125cm_0_30"
    (tmp_path / "r2r").mkdir()
    with pytest.raises(ValueError, match="found r2r, rxr, expected one dataset: pass --dataset"):
        preview_dataset.only_dataset(tmp_path)


def test_the_page_of_the_dual_system_shows_the_way(tmp_path, monkeypatch):
    page = preview(tmp_path, monkeypatch, "--dual-system")
    assert page.count("<section>") == 2
    # past frames, now, looking down, on the way
    assert page.count("<img") == (0 + 1 + 1 + 2) + (4 + 1 + 1 + 2)


def test_a_path_is_drawn_on_the_floor():
    black = Image.new("RGB", (64, 48))
    ahead = np.stack([np.linspace(0.7, 3, 33), np.zeros(33)], axis=1)
    drawn = np.asarray(preview_dataset.draw_path(black, ahead, CameraSpec()))
    rows, columns = np.nonzero(drawn.any(axis=-1))
    assert set(columns) <= {30, 31, 32, 33}
    assert rows.max() >= 45
    assert rows.min() > 48 * 0.3


def test_the_page_of_whole_walks_shows_frames_and_actions(tmp_path, monkeypatch):
    monkeypatch.setattr("internnav_hf.data.tasks.common.DEFAULT_CACHE", tmp_path / "home")
    data = vln_pe.write_root(tmp_path / "data", scenes=1)
    out = tmp_path / "preview.html"
    options = [data, "--whole-walks", "--num-samples", 6, "--out", out]
    monkeypatch.setattr(sys, "argv", ["preview_dataset.py", *map(str, options)])
    preview_dataset.main()
    page = out.read_text(encoding="utf-8")
    assert page.count("<section>") == 6
    assert page.count("<img") == 3 * (6 + 6 + 1) + 3 * (8 + 8 + 1)  # walks of 6 and 9 steps
    assert "↑↑←↑↑■" in page
    assert "walk past the chair then stop" in page


def test_a_walk_is_drawn_with_what_is_learnt():
    actions = np.array(vln_pe.some_actions(12))
    poses = vln_pe.poses_of(actions.tolist())
    drawn = preview_dataset.draw_map(relative_poses(poses), displacements(poses), [0, 4])
    colors = {color for _, color in drawn.getcolors() or []}
    assert {(90, 90, 90), preview_dataset.GOAL_COLOR, preview_dataset.PATH_COLOR} <= colors


def test_an_instruction_stays_text(tmp_path, monkeypatch):
    text = hostile.TEXT.removesuffix("\udcff")
    page = preview(tmp_path, monkeypatch, instruction=text)
    hostile.assert_harmless(page, 12)
