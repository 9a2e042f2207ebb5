"""The NavDP demo's verdict can be yes and no."""

import json

import pytest

from scripts import check_navdp_demo


@pytest.mark.parametrize(
    ("distance", "correlation", "success", "learnt"),
    [
        (0.20, 0.4, 0.6, True),
        (0.40, 0.4, 0.6, False),
        (0.20, 0.05, 0.6, False),
        (0.20, 0.4, 0.1, False),
    ],
)
def test_the_verdict_follows_the_numbers(tmp_path, capsys, distance, correlation, success, learnt):
    tasks = {"point-goal": {"navdp": {"sr": success}, "random": {"sr": 0.05}}}
    paths = {"eval_point_mean_ade_m": distance, "eval_constant_ade_m": 0.5}
    files = {
        "metrics.json": {"tasks": tasks},
        "eval_results.json": paths | {"eval_critic_rank_correlation": correlation},
    }
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    assert check_navdp_demo.main(*(str(tmp_path / name) for name in files)) is learnt
    assert f"{distance:.2f} m" in capsys.readouterr().out
