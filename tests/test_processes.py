"""A program that a test starts ends with everything that it started."""

import sys
import time

import psutil
import pytest

from tests.processes import run, started

# A parent whose child has a session of its own, and both hold the pipes.
FAMILY = """
import subprocess, sys, time
child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
print(child.pid, flush=True)
time.sleep(1000)
"""


def has_ended(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def wait_until_ended(pid: int) -> None:
    deadline = time.monotonic() + 10
    while not has_ended(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_takes_too_long_ends_with_its_children_and_its_output_is_told():
    with pytest.raises(AssertionError, match=r"ran for more than 2 s:\n\d+") as error:
        run([sys.executable, "-c", FAMILY], timeout_s=2)
    wait_until_ended(int(str(error.value).split("\n")[1]))


def test_output_and_exit_status_are_handed_back():
    done = run([sys.executable, "-c", "import sys; print(1); sys.exit('no')"])
    assert (done.returncode, done.stdout, done.stderr) == (1, "1\n", "no\n")


def test_what_still_runs_at_the_end_is_killed(tmp_path):
    command = [sys.executable, "-c", FAMILY]
    with open(tmp_path / "out", "w") as out, started(command, stdout=out) as process:
        while not (tmp_path / "out").read_text().endswith("\n"):
            assert process.poll() is None
            time.sleep(0.01)
    assert process.returncode == -9
    wait_until_ended(int((tmp_path / "out").read_text()))
