"""Settings of the whole suite: offline, one thread, repeatable, and no forks of a test process."""

import ctypes
import gc
import multiprocessing
import os
import signal

# Before torch and transformers are imported, here and in the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import hypothesis

# A fork of a process with threads (embree's, pyarrow's, xdist's) copies locks that nobody will
# open. Workers of pools and of data loaders are children of a server that has one thread instead.
multiprocessing.set_start_method("forkserver", force=True)
# The thread of pyarrow's jemalloc may be there: jemalloc prepares for forks.
multiprocessing.set_forkserver_preload(["internnav_hf.training.trainer", "internnav_hf.data"])

# A suite in the background of a shell, or under nohup, would hand its deafness to Ctrl-C on to the
# programs that it starts, and could not see how they end.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Whoever forks all the same: the copy dies with its test process. It holds that process's pipes,
# so that xdist would wait for a dead one as long as the copy lives.
LIBC, PR_SET_PDEATHSIG = ctypes.CDLL(None), 1
os.register_at_fork(after_in_child=lambda: LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL))

hypothesis.settings.register_profile(
    "suite", deadline=None, derandomize=True, max_examples=50, database=None
)
hypothesis.settings.load_profile("suite")


def pytest_collection_finish() -> None:
    """What is imported stays: the garbage collector, which trainings call, need not look at it."""
    gc.freeze()
