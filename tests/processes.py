"""Programs that tests start: none outlives its test, or the time it is given."""

import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from tests.warm import Program

TIMEOUT_S = 300


def run(
    command: list[str], timeout_s: float = TIMEOUT_S, **options: Any
) -> subprocess.CompletedProcess:
    """`subprocess.run` with the output captured as text; options are `started`'s."""
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        late = False
        with started(command, stdout=output, stderr=errors, **options) as process:
            try:
                process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                late = True
        texts = [(file.seek(0), file.read())[1] for file in (output, errors)]
    if late:
        tails = f"{texts[0][-2000:]}{texts[1][-4000:]}"
        raise AssertionError(f"{command} ran for more than {timeout_s} s:\n{tails}")
    return subprocess.CompletedProcess(command, process.returncode, *texts)


def run_ranks(command: list[str], num_processes: int = 2, env=os.environ, **options: Any) -> None:
    """Run a program in processes that train together, warm, without a launcher."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    place |= {"WORLD_SIZE": str(num_processes), "LOCAL_WORLD_SIZE": str(num_processes)}
    with tempfile.TemporaryFile("w+") as output, ExitStack() as stack:
        options |= {"start": Program, "stdout": output, "stderr": output}
        ranks = []
        for rank in map(str, range(num_processes)):
            environment = env | place | {"RANK": rank, "LOCAL_RANK": rank}
            ranks.append(stack.enter_context(started(command, env=environment, **options)))
        end = time.monotonic() + TIMEOUT_S
        while None in (codes := [rank.poll() for rank in ranks]) and not any(codes):
            assert time.monotonic() < end, f"{command} ran for more than {TIMEOUT_S} s"
            time.sleep(0.02)
        output.seek(0)
        assert not any(codes), f"{codes}: {output.read()[-4000:]}"


@contextmanager
def started(
    command: list[str],
    cwd: Path | None = None,
    start: Callable[..., Any] = subprocess.Popen,
    **options: Any,
) -> Iterator[Any]:
    """A running program, killed with its children if it still runs at the end. `start` may be
    `tests.warm.Program`.
    """
    process = start(command, cwd=cwd, stdin=subprocess.DEVNULL, **options)
    try:
        yield process
    finally:
        kill_tree(process)


def kill_tree(process: Any) -> None:
    """Also children in sessions of their own, which torchrun's are."""
    if process.poll() is None:
        parent = psutil.Process(process.pid)
        parent.suspend()  # so that it starts no more
        for member in [*parent.children(recursive=True), parent]:
            with suppress(psutil.NoSuchProcess):
                member.kill()
    process.wait(timeout=60)
