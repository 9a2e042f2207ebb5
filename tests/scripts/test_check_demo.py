"""The demo's verdict can be yes and no."""

import json

import pytest

from scripts import check_demo


@pytest.mark.parametrize(
    ("error", "success", "learnt"),
    [(10.0, 0.6, True), (15.1, 0.6, False), (10.0, 0.1, False)],
)
def test_the_verdict_follows_the_numbers(tmp_path, capsys, error, success, learnt):
    metrics = {
        "open_loop": {"pixel_error_px": error, "pixel_error_constant_px": 30.0},
        "agents": {"system2": {"sr": success}, "random": {"sr": 0.05}},
    }
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps(metrics))
    assert check_demo.main(str(path)) is learnt
    assert f"{error:.1f} px" in capsys.readouterr().out
