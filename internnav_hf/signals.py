"""How programs and their workers end: at once when a signal asks for it, and never after their
parent.
"""

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Ctrl-C; `kill`, a container or a scheduler that stops; SLURM's warning before its time limit."""
_PR_SET_PDEATHSIG = 1
_LAUNCHERS = ("accelerate", "torchrun", "deepspeed")
_SECONDS_BETWEEN_LOOKS = 0.5


def end_with_parent(*_: Any) -> None:
    """In a worker, first of all: it ends when its parent does, however that ends, and leaves Ctrl-C
    to it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    parent = multiprocessing.parent_process()
    if parent is not None:  # of a forkserver's worker: the program, not the server
        threading.Thread(target=_end_after, args=(parent,), daemon=True).start()


def _end_after(parent: Any) -> None:
    parent.join()
    os._exit(1)


def quiet_worker(*_: Any) -> None:
    """In a worker of a DataLoader: signals that reach a whole group are its parent's matter."""
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    if sys.platform == "linux":  # elsewhere a signal does not tell who sent it
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])  # in threads to come, too
        threading.Thread(target=_obey_parent, daemon=True).start()
    end_with_parent()


class QuietWorker:
    """`quiet_worker`, and then what a DataLoader has its workers do first; can be pickled."""

    def __init__(self, then: Callable[[int], Any] | None):
        self.then = then

    def __call__(self, worker: int) -> None:
        """In the worker of that number."""
        quiet_worker()
        if self.then is not None:
            self.then(worker)


def _obey_parent() -> None:
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != os.getppid():
        pass
    os._exit(0)


@contextmanager
def ending_on_signals(name: str, then: str) -> Iterator[None]:
    """SIGINT, SIGTERM and SIGUSR1 end the program `name` at once, with one line and 128 + the
    signal's number; workers go with it, see `end_with_parent`. `then` says how to go on.
    """

    def end(number: int, frame: Any) -> None:
        told = f"\n{name}: ended by {signal.Signals(number).name}; {then}\n"
        with suppress(OSError):
            sys.stdout.flush()
            os.write(2, told.encode())
        os._exit(128 + number)

    with handled(end):
        yield


@contextmanager
def handled(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """`SIGNALS` call `handler` in this process, not in its forked children, and then what they
    called before. Outside the main thread, which alone can set handlers, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    own = os.getpid()

    def here(number: int, frame: Any) -> None:
        if os.getpid() == own:
            handler(number, frame)

    # what a shell starts in the background ignores Ctrl-C, and goes on to
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    numbers = [n for n in SIGNALS if not (n == signal.SIGINT and ignored)]
    before = {number: signal.signal(number, here) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, signal.SIG_DFL if old is None else old)


def follow_launcher() -> None:
    """Where accelerate or torchrun started this program: when that ends, SIGTERM comes here. Only
    Linux tells who started it. A shell may end before what it started.
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
