"""Programs that start warm: one process imports once what ours import, and is forked for each.

It saves a program's imports, which are most of what a small one costs. What a test says of starting
itself (order and time of imports, launchers, variables that libraries read when they are imported)
starts a real interpreter instead: `tests.processes`.
"""

import functools
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

IMPORTED = (
    *("accelerate", "transformers.trainer", "peft", "diffusers", "scipy.ndimage", "yaml"),
    *("torch.distributed", "torch.utils.tensorboard", "deepspeed"),
)
HARMLESS = ("jemalloc_bg_thd",)  # pyarrow's; jemalloc prepares for forks


class Program:
    """As much of `subprocess.Popen` as tests use; `command` is `[python, file or -m module, ...]`.
    Its parent is a process that waits for it.
    """

    def __init__(self, command, cwd=None, env=None, stdin=None, stdout=None, stderr=None):
        asked = {"argv": list(map(str, command[1:])), "cwd": str(cwd or Path.cwd())}
        asked["env"] = dict(os.environ if env is None else env)
        answers, answer = os.pipe()
        with open(os.devnull, "w") as nothing, os.fdopen(answer, "w"), suppress(OSError):
            files = [nothing if file == subprocess.DEVNULL else file for file in (stdout, stderr)]
            files = [own if file is None else file for own, file in zip((1, 2), files, strict=True)]
            numbers = [file if isinstance(file, int) else file.fileno() for file in files]
            socket.send_fds(_server(), [json.dumps(asked).encode()], [*numbers, answer])
        self.args, self.returncode, self._answers = command, None, os.fdopen(answers)
        pid = self._answers.readline()
        assert pid, "the warm process has died: its error is among what the tests wrote"
        self.pid = int(pid)

    def poll(self) -> int | None:
        """As `Popen.poll`."""
        return self._look(0)

    def wait(self, timeout: float | None = None) -> int:
        """As `Popen.wait`."""
        code = self._look(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        """As `Popen.send_signal`."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """As `Popen.kill`."""
        self.send_signal(signal.SIGKILL)

    def _look(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._answers], [], [], timeout)[0]:
            with self._answers:
                self.returncode = int(self._answers.readline())
        return self.returncode


@functools.cache
def _server() -> socket.socket:
    """The warm process of this one, which ends when this one does."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        command = [sys.executable, __file__, str(theirs.fileno())]
        options = {"stdin": subprocess.DEVNULL, "start_new_session": True}
        subprocess.Popen(command, pass_fds=[theirs.fileno()], **options)
    return ours


def _serve(asked: socket.socket) -> Callable[[], object]:
    """What to do, in each fork; never returns in the warm process itself."""
    for name in IMPORTED:
        importlib.import_module(name)
    gc.freeze()
    names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    others = [name for name in names[1:] if name not in HARMLESS]
    assert not others, f"a fork of threads, {others}, copies locks that nobody opens"
    while True:
        request, files, *_ = socket.recv_fds(asked, 1 << 20, 3)
        if not request:
            os._exit(0)
        with suppress(ChildProcessError):  # keepers that are done
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if os.fork() == 0:
            asked.close()
            return _kept(json.loads(request), *files)
        for file in files:
            os.close(file)


def _kept(request: dict, stdout: int, stderr: int, answer: int) -> Callable[[], object]:
    """Fork the program; wait for it here."""
    pid = os.fork()
    if pid:
        os.write(answer, b"%d\n" % pid)
        _, status = os.waitpid(pid, 0)
        os.write(answer, b"%d\n" % os.waitstatus_to_exitcode(status))
        os._exit(0)
    os.close(answer)
    os.setsid()
    for number, file in ((1, stdout), (2, stderr)):
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    first, *sys.argv[1:] = request["argv"]
    sys.path[0:1] = [os.getcwd() if first == "-m" else str(Path(first).parent.resolve()), *paths]
    if first == "-m":
        return functools.partial(runpy.run_module, sys.argv.pop(1), None, "__main__", True)
    return functools.partial(runpy.run_path, first, None, "__main__")


if __name__ == "__main__":
    program = _serve(socket.socket(fileno=int(sys.argv[1])))
    program()
