"""The dual demo's verdict can be yes and no."""

import json

import pytest

from scripts import check_dual_demo


@pytest.mark.parametrize(
    ("distance", "hits", "success", "learnt"),
    [
        (0.20, 0.1, 0.6, True),
        (0.36, 0.1, 0.6, False),
        (0.20, 0.4, 0.6, False),
        (0.20, 0.1, 0.1, False),
    ],
)
def test_the_verdict_follows_the_numbers(tmp_path, capsys, distance, hits, success, learnt):
    paths = {"ade_m": distance, "constant_ade_m": 0.5}
    metrics = {
        "dual_open_loop": paths | {"collision_share": hits, "constant_collision_share": 0.3},
        "agents": {"dual": {"sr": success}, "random": {"sr": 0.05}},
    }
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps(metrics))
    assert check_dual_demo.main(str(path)) is learnt
    assert f"{distance:.2f} m" in capsys.readouterr().out
