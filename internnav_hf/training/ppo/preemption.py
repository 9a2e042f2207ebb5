"""Stragglers: a rollout ends early when enough other processes have finished theirs.

As published (arXiv 1911.00357): when 60% of the processes are done, the others stop, if they have
at least a quarter of their steps. Two processes never preempt each other: one of them is half.
"""

import os
from typing import Any

import torch.distributed as dist
from accelerate.utils import broadcast_object_list

SHORTEST = 0.25
"""Share of its steps that a rollout has in any case."""


class Preemption:
    """One process's view of who has finished the current rollout, counted in a `store`."""

    def __init__(self, store: Any, num_processes: int, fraction: float = 0.6):
        self.store, self.num_needed, self.rollout = store, fraction * num_processes, 0

    def ends(self, num_steps_done: int, num_steps: int) -> bool:
        """Whether a rollout of `num_steps` is to end after `num_steps_done`."""
        if num_steps_done < SHORTEST * num_steps:
            return False
        return self.store.add(self._key, 0) >= self.num_needed

    def finish(self) -> None:
        """Tell the others that this process has finished its rollout."""
        self.store.add(self._key, 1)
        self.rollout += 1

    @property
    def _key(self) -> str:
        return f"rollout {self.rollout}"


def start_preemption(num_processes: int, rank: int, fraction: float) -> Preemption | None:
    """Over a store that the first process keeps; None for a single process. All must call it."""
    if num_processes == 1:
        return None
    host = os.environ["MASTER_ADDR"]
    own = dist.TCPStore(host, 0, is_master=True, wait_for_workers=False) if rank == 0 else None
    [port] = broadcast_object_list([own.port if own is not None else 0])
    store = own if own is not None else dist.TCPStore(host, port, is_master=False)
    return Preemption(store, num_processes, fraction)
