"""The batch script, with SLURM's commands played."""

import os
import signal
import time
from pathlib import Path

import pytest

from tests.processes import started

ROOT = Path(__file__).parents[2]
PLAYED = {
    "srun": 'trap "exit $LEAVES" USR1; echo $$ > pid; while [ ! -e ended ]; do sleep 0.05; done',
    "scancel": 'echo "$@" > told; kill -USR1 $(cat pid)',
    "scontrol": 'if [ "$1" = requeue ]; then echo "$2" > requeued; else echo node1; fi',
}


@pytest.fixture
def environment(tmp_path):
    for name, text in PLAYED.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    return os.environ | {
        "PATH": path,
        "LEAVES": "138",
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NODELIST": "node[1-2]",
    }


def wait_for(path: Path):
    end = time.monotonic() + 30
    while not (path.exists() and path.read_text().strip()):
        assert time.monotonic() < end, path
        time.sleep(0.02)


@pytest.mark.parametrize("warned", [True, False])
def test_a_job_that_was_warned_saves_and_goes_back_into_the_queue(tmp_path, environment, warned):
    script = str(ROOT / "scripts" / "slurm" / "train_system2.sbatch")
    with started(["bash", script, "--data_root", "D"], cwd=tmp_path, env=environment) as job:
        wait_for(tmp_path / "pid")
        if warned:
            job.send_signal(signal.SIGUSR1)
        else:
            (tmp_path / "ended").touch()
        assert job.wait(30) == 0
    assert (tmp_path / "requeued").exists() == warned
    if warned:
        assert (tmp_path / "told").read_text() == "--signal=USR1 7\n"
        assert (tmp_path / "requeued").read_text() == "7\n"


def test_a_job_that_was_warned_and_ends_by_itself_stays_ended(tmp_path, environment):
    script = str(ROOT / "scripts" / "slurm" / "train_system2.sbatch")
    with started(["bash", script], cwd=tmp_path, env=environment | {"LEAVES": "0"}) as job:
        wait_for(tmp_path / "pid")
        job.send_signal(signal.SIGUSR1)
        assert job.wait(30) == 0
    assert (tmp_path / "told").exists()
    assert not (tmp_path / "requeued").exists()
