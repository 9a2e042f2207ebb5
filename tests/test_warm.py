"""A program that starts warm behaves as one that is started."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from tests import warm
from tests.processes import run, run_ranks, started

ECHO = """
import os, sys
assert __name__ == "__main__" and __file__ == sys.argv[0]
print(sys.argv[1:], os.environ["WORD"], os.getcwd(), sys.path[0])
print("torch" in sys.modules, "internnav_hf" in sys.modules)
sys.exit("no")
"""
FAMILY = """
import os, subprocess, sys, time
print(subprocess.Popen(["sleep", "1000"], start_new_session=True).pid, flush=True)
time.sleep(1000)
"""
JOINED = """
import torch
torch.distributed.init_process_group("gloo")
mine = torch.tensor([1.0 + torch.distributed.get_rank()], requires_grad=True)
(2 * mine).backward()
torch.distributed.all_reduce(total := mine.detach())
assert (total.item(), mine.grad.item()) == (3, 2)
torch.distributed.destroy_process_group()
"""


def program(tmp_path, text: str) -> list[str]:
    (tmp_path / "program.py").write_text(text)
    return [sys.executable, str(tmp_path / "program.py")]


def test_arguments_environment_folder_output_and_status_are_its_own(tmp_path):
    (tmp_path / "here").mkdir()
    options = {"cwd": tmp_path / "here", "env": os.environ | {"WORD": "so"}}
    done = run([*program(tmp_path, ECHO), "a", "b"], start=warm.Program, **options)
    told = f"['a', 'b'] so {tmp_path / 'here'} {tmp_path}\nTrue False\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, told, "no\n")
    module = [sys.executable, "-m", "program", "c"]
    done = run(module, start=warm.Program, **options | {"cwd": tmp_path})
    assert done.stdout == f"['c'] so {tmp_path} {tmp_path}\nTrue False\n"


def test_an_error_is_a_trace_and_a_signal_a_negative_status(tmp_path):
    done = run(program(tmp_path, "1 / 0"), start=warm.Program)
    assert done.returncode == 1
    assert done.stderr.endswith("ZeroDivisionError: division by zero\n")
    done = run(program(tmp_path, "import os; os.kill(os.getpid(), 10)"), start=warm.Program)
    assert done.returncode == -signal.SIGUSR1


def test_it_is_waited_for_and_killed_with_its_children(tmp_path):
    with open(tmp_path / "out", "w+") as out:
        options = {"start": warm.Program, "stdout": out, "stderr": subprocess.DEVNULL}
        with started(program(tmp_path, FAMILY), **options) as process:
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.01)
            while not (tmp_path / "out").read_text().endswith("\n"):
                assert process.poll() is None
                time.sleep(0.01)
    assert process.returncode == -9
    child = int((tmp_path / "out").read_text())
    deadline = time.monotonic() + 10
    while psutil.pid_exists(child) and psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_ranks_compute_together_and_the_failure_of_one_ends_all(tmp_path):
    run_ranks(program(tmp_path, JOINED))
    broken = "import os, time\nif os.environ['RANK'] == '1': raise OSError('boom')\ntime.sleep(99)"
    with pytest.raises(AssertionError, match="boom"):
        run_ranks(program(tmp_path, broken))


def test_a_warm_process_that_is_dead_is_named(tmp_path):
    ours, theirs = warm.socket.socketpair(warm.socket.AF_UNIX, warm.socket.SOCK_SEQPACKET)
    theirs.close()
    with pytest.MonkeyPatch.context() as patch, ours:
        patch.setattr(warm, "_server", lambda: ours)
        with pytest.raises(AssertionError, match="the warm process has died"):
            warm.Program(program(tmp_path, ""))
