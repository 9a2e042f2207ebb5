"""Every family is evaluated alike in any batches and by any number of processes."""

import json
import sys
from pathlib import Path

import pytest

from tests import processes
from tests.training.families import NAMES, evaluated, write_data


@pytest.mark.slow
def test_evaluations_depend_on_neither_batches_nor_processes(tmp_path):
    write_data(tmp_path)
    alone = evaluated(tmp_path, batch_size=1)
    assert tuple(alone) == NAMES
    assert all("eval_loss" in losses for losses in alone.values())
    found = [evaluated(tmp_path, batch_size=5)]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += ["-m", "tests.training.families", str(tmp_path), str(tmp_path / "two.json")]
    done = processes.run(command, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr[-3000:]
    found.append(json.loads((tmp_path / "two.json").read_text()))
    for losses in found:
        for name in NAMES:
            assert losses[name] == pytest.approx(alone[name], rel=1e-4, abs=1e-5), name
