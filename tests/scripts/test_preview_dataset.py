import sys

from scripts import preview_dataset
from tests.data.vln_ce import straight_episode, write_scene


def test_the_page_shows_every_class(tmp_path, monkeypatch):
    monkeypatch.setattr("internnav_hf.data.system2.HF_HOME", str(tmp_path / "home"))
    write_scene(tmp_path / "data" / "r2r" / "a", [straight_episode(0, instruction="<go>")])
    out = tmp_path / "deep" / "preview.html"
    arguments = [tmp_path / "data", "--num-samples", 6, "--out", out]
    monkeypatch.setattr(sys, "argv", ["preview_dataset.py", *map(str, arguments)])
    preview_dataset.main()
    page = out.read_text(encoding="utf-8")
    assert page.count("<section>") == 6
    for words in ("pixel goal: 10 20", "turn: ←", "stop: STOP", "&lt;go&gt;"):
        assert words in page
    assert 'src="http' not in page
