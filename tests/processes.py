"""Programs that tests start: none outlives its test, or the time it is given."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

TIMEOUT_S = 300


def run(command: list[str], timeout_s: float = TIMEOUT_S, **options) -> subprocess.CompletedProcess:
    """`subprocess.run` with the output captured as text. On a timeout its children end too: they
    hold the pipes, and `subprocess.run` would wait for them without an end.
    """
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with started(command, **pipes, **options) as process:
        try:
            output, errors = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            kill_tree(process)
            output, errors = process.communicate(timeout=60)
            tails = f"{output[-2000:]}{errors[-4000:]}"
            raise AssertionError(f"{command} ran for more than {timeout_s} s:\n{tails}") from None
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


@contextmanager
def started(command: list[str], cwd: Path | None = None, **options) -> Iterator[subprocess.Popen]:
    """A running program, killed with its children if it still runs at the end."""
    process = subprocess.Popen(command, cwd=cwd, stdin=subprocess.DEVNULL, **options)
    try:
        yield process
    finally:
        kill_tree(process)


def kill_tree(process: subprocess.Popen) -> None:
    """Also children in sessions of their own, which torchrun's are."""
    if process.poll() is None:
        parent = psutil.Process(process.pid)
        parent.suspend()  # so that it starts no more
        for member in [*parent.children(recursive=True), parent]:
            with suppress(psutil.NoSuchProcess):
                member.kill()
    process.wait(timeout=60)
