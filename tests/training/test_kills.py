"""Two kills of a real training; `benchmarks.kills` does fifty."""

import os
import sys
from pathlib import Path

import pytest

from tests.processes import run
from tests.warm import Program

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_training_that_is_killed_twice_is_exact():
    command = [sys.executable, "-m", "benchmarks.kills", "--kills", "2", "--recipes", "navdp"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = run(command, 500, cwd=ROOT, env=environment, start=Program)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert "| all | 2 |" in done.stdout
