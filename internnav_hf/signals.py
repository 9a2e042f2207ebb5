"""How programs and their workers end: at once on a signal, and never later than their parent."""

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Ctrl-C; `kill`, a stopping container or scheduler; SLURM's warning before its time limit."""
_PR_SET_PDEATHSIG = 1
_LAUNCHERS = ("accelerate", "torchrun", "deepspeed")
_SECONDS_BETWEEN_LOOKS = 0.5


def end_with_parent(*_: Any) -> None:
    """To call first in a worker, which then ends with its parent and ignores Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    parent = multiprocessing.parent_process()
    if parent is not None:  # for a forkserver's worker the program, not the server
        threading.Thread(target=_end_after, args=(parent,), daemon=True).start()


def _end_after(parent: Any) -> None:
    parent.join()
    os._exit(1)


def quiet_worker(*_: Any) -> None:
    """To call in a DataLoader's worker: its parent handles signals to the process group."""
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    if sys.platform == "linux":  # elsewhere the sender of a signal is unknown
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])  # also in later threads
        threading.Thread(target=_obey_parent, daemon=True).start()
    sys.excepthook = _without_lost_parent
    end_with_parent()


@dataclass
class QuietWorker:
    """A `worker_init_fn` for a DataLoader: `quiet_worker`, then the function `then`; picklable."""

    then: Callable[[int], Any] | None

    def __call__(self, worker: int) -> None:
        """Run in the worker with index `worker`."""
        quiet_worker()
        if self.then is not None:
            self.then(worker)


def _without_lost_parent(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """Tell of errors as Python does, but not that the parent hung up: a signal may have stopped it
    while it fetched a tensor from this worker, whose thread has nobody else to tell.
    """
    if not isinstance(error, ConnectionError | EOFError):
        sys.__excepthook__(kind, error, trace)


def _obey_parent() -> None:
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != os.getppid():
        pass
    os._exit(0)


@contextmanager
def ending_on_signals(name: str, then: str) -> Iterator[None]:
    """SIGINT, SIGTERM and SIGUSR1 end the program `name` at once, with one line and 128 + the
    signal's number; workers end with it, see `end_with_parent`. `then` explains how to go on.
    """

    def end(number: int, frame: Any) -> None:
        line = f"\n{name}: ended by {signal.Signals(number).name}; {then}\n"
        with suppress(OSError):
            sys.stdout.flush()
            os.write(2, line.encode())
        os._exit(128 + number)

    with handled(end):
        yield


@contextmanager
def handled(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """In the block, `SIGNALS` call `handler` in this process, but not in forked children; then the
    old handlers return. Outside the main thread, the only one that can set handlers, no effect.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    own = os.getpid()

    def here(number: int, frame: Any) -> None:
        if os.getpid() == own:
            handler(number, frame)

    # a program that a shell started in the background ignores Ctrl-C, and keeps doing so
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    numbers = [n for n in SIGNALS if not (n == signal.SIGINT and ignored)]
    before = {number: signal.signal(number, here) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, signal.SIG_DFL if old is None else old)


def follow_launcher() -> None:
    """If accelerate or torchrun started this program, send it SIGTERM when the launcher ends. Works
    on Linux only. A shell is no launcher: it may end before the programs it started.
    """
    parent = os.getppid()
    with suppress(OSError):
        words = Path(f"/proc/{parent}/cmdline").read_text().split("\0")
        if any(_is_launcher(word) for word in words[:4]):
            threading.Thread(target=_follow, args=(parent,), daemon=True).start()


def _is_launcher(word: str) -> bool:
    modules = ("accelerate.commands", "torch.distributed")
    return Path(word).name in _LAUNCHERS or word.startswith(modules)


def _follow(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    os.kill(os.getpid(), signal.SIGTERM)
