"""The VLN demo's verdict can be yes and no."""

import json

import pytest

from scripts import check_vln_demo


@pytest.mark.parametrize(
    ("cma", "forward", "rdp_error", "learnt"),
    [
        (0.4, 0.05, 2.0, True),
        (0.09, 0.05, 2.0, False),
        (0.4, 0.21, 2.0, False),
        (0.4, 0.05, 2.6, False),
    ],
)
def test_the_verdict_follows_the_numbers(tmp_path, capsys, cma, forward, rdp_error, learnt):
    rates = {"random": 0.02, "forward": forward, "seq2seq": 0.5, "cma": cma, "rdp": 0.1}
    errors = {"random": 2.9, "forward": 2.8, "seq2seq": 1.5, "cma": 1.4, "rdp": rdp_error}
    agents = {name: {"sr": rate, "ne": errors[name]} for name, rate in rates.items()}
    (tmp_path / "metrics.json").write_text(json.dumps({"agents": agents}))
    assert check_vln_demo.main(str(tmp_path / "metrics.json")) is learnt
    assert f"cma: success {cma:.1%}" in capsys.readouterr().out
