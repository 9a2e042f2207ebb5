"""Every family is evaluated alike in any batches and by any number of processes."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.processes import run_ranks
from tests.training.families import NAMES, evaluated, write_data
from tests.training.two_processes import evaluated_and_predicted


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("families")
    write_data(folder)
    return folder


@pytest.fixture(scope="module")
def by_two(data):
    """What two processes found together."""
    command = [sys.executable, "-m", "tests.training.families", str(data), str(data / "two.json")]
    run_ranks(command, cwd=Path(__file__).parents[2])
    return json.loads((data / "two.json").read_text())


@pytest.mark.slow
def test_evaluations_depend_on_neither_batches_nor_processes(data, by_two):
    alone = evaluated(data, batch_size=1)
    assert tuple(alone) == NAMES
    assert all("eval_loss" in losses for losses in alone.values())
    for losses in (evaluated(data, batch_size=5), by_two["families"]):
        for name in NAMES:
            assert losses[name] == pytest.approx(alone[name], rel=1e-4, abs=1e-5), name


@pytest.mark.slow
def test_two_processes_evaluate_and_predict_as_one(by_two):
    alone, together = evaluated_and_predicted(), by_two["toys"]
    assert together["metrics"] == pytest.approx(alone["metrics"], abs=1e-6)
    for name in ("predictions", "labels"):
        np.testing.assert_allclose(together[name], alone[name], atol=1e-6)
    assert together["metrics"]["eval_num_left_out"] == 1
