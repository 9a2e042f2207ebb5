"""Programs end at once, and their workers with them."""

import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.processes import run, started
from tests.warm import Program

ROOT = Path(__file__).parents[1]
COLD = functools.partial(subprocess.Popen, start_new_session=True)
ENDING = """
import sys, time
from internnav_hf.signals import ending_on_signals
with ending_on_signals("walk", "start it again."):
    print("at work", flush=True)
    time.sleep(60)
"""
LOADING = """
import sys, time
import torch
from internnav_hf.signals import quiet_worker
from torch.utils.data import DataLoader

class Slow(torch.utils.data.Dataset):
    def __len__(self):
        return 99
    def __getitem__(self, index):
        print("at work", flush=True)
        time.sleep(0.05)
        return index

if __name__ == "__main__":
    for index in DataLoader(Slow(), num_workers=2, worker_init_fn=quiet_worker):
        pass
    print("whole", flush=True)
"""
HUNG_UP = """
from multiprocessing.connection import SocketClient
from multiprocessing.resource_sharer import DupFd
from internnav_hf.signals import quiet_worker

quiet_worker()
shared = DupFd(0)
SocketClient(shared._id[0]).close()
shared.detach()  # is answered after the one before
raise LookupError("of its own")
"""
POOL = """
import multiprocessing, time
from concurrent.futures import ProcessPoolExecutor
from internnav_hf.signals import end_with_parent

def work(index):
    print("at work", flush=True)
    time.sleep(60)

if __name__ == "__main__":
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(2, context, initializer=end_with_parent) as pool:
        list(pool.map(work, range(4)))
"""
LAUNCHED = """
import time
from internnav_hf.signals import ending_on_signals, follow_launcher
with ending_on_signals("walk", "start it again."):
    follow_launcher()
    print("at work", flush=True)
    time.sleep(60)
"""


def program(tmp_path, text, name="program.py") -> list[str]:
    (tmp_path / name).write_text(text)
    return [sys.executable, str(tmp_path / name)]


def at_work(command, tmp_path, start=Program):
    """Started; its output goes to a file, in which we wait for the first line."""
    out = (tmp_path / "out.txt").open("w+")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    options = {"stdout": out, "stderr": out, "env": environment, "start": start}
    return started(command, cwd=ROOT, **options), tmp_path / "out.txt"


def wait_until(holds, seconds=30):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def lives(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_program_ends_at_once_in_one_line(tmp_path, number):
    run, out = at_work(program(tmp_path, ENDING), tmp_path)
    with run as process:
        wait_until(lambda: "at work" in out.read_text())
        process.send_signal(number)
        assert process.wait(10) == 128 + number
    name = signal.Signals(number).name
    assert out.read_text().split() == f"at work walk: ended by {name}; start it again.".split()


def test_workers_leave_signals_to_their_parent(tmp_path):
    run, out = at_work(program(tmp_path, LOADING), tmp_path)
    with run as process:
        wait_until(lambda: out.read_text().count("at work") > 3)
        for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGTERM):
            for worker in psutil.Process(process.pid).children():
                worker.send_signal(number)
        assert process.wait(60) == 0, out.read_text()
    assert out.read_text().endswith("whole\n")


@pytest.mark.parametrize(
    ("text", "start"), [(LOADING, Program), (POOL, COLD)], ids=["loader", "forkserver"]
)
def test_no_worker_outlives_a_parent_that_is_killed(tmp_path, text, start):
    run, out = at_work(program(tmp_path, text), tmp_path, start)
    with run as process:
        wait_until(lambda: "at work" in out.read_text())
        family = psutil.Process(process.pid).children(recursive=True)
        assert len(family) >= 2
        process.kill()
        process.wait(10)
        wait_until(lambda: not any(map(lives, family)), 5)


def test_a_program_ends_with_its_launcher(tmp_path):
    launcher = "import subprocess, sys; subprocess.run(sys.argv[1:])"
    program(tmp_path, launcher, "accelerate")
    command = [sys.executable, str(tmp_path / "accelerate"), *program(tmp_path, LAUNCHED)]
    run, out = at_work(command, tmp_path, COLD)
    with run as process:
        wait_until(lambda: "at work" in out.read_text())
        (child,) = psutil.Process(process.pid).children()
        process.kill()
        process.wait(10)
        wait_until(lambda: not lives(child), 5)
    assert "ended by SIGTERM" in out.read_text()


def test_a_worker_is_silent_when_its_parent_hangs_up_in_the_middle_of_a_tensor(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = run(program(tmp_path, HUNG_UP), cwd=ROOT, env=environment, start=Program)
    assert done.stderr.endswith("LookupError: of its own\n")
    assert done.stderr.count("Traceback") == 1, done.stderr
