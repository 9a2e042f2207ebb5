"""The VLN demo's verdict can be yes and no."""

import json

import pytest

from scripts import check_vln_demo


@pytest.mark.parametrize(
    ("rdp", "forward", "learnt"), [(0.4, 0.05, True), (0.09, 0.05, False), (0.4, 0.21, False)]
)
def test_the_verdict_follows_the_numbers(tmp_path, capsys, rdp, forward, learnt):
    rates = {"random": 0.02, "forward": forward, "seq2seq": 0.5, "cma": 0.5, "rdp": rdp}
    agents = {name: {"sr": rate} for name, rate in rates.items()}
    (tmp_path / "metrics.json").write_text(json.dumps({"agents": agents}))
    assert check_vln_demo.main(str(tmp_path / "metrics.json")) is learnt
    assert f"Success of rdp: {rdp:.1%}" in capsys.readouterr().out
