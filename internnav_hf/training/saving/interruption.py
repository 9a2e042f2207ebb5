"""Signals that ask a training to save a checkpoint and to end."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import DistributedType
from torch import nn

from internnav_hf.signals import handled

_TRACKING = nn.modules.batchnorm._NormBase


class Interrupted(BaseException):
    """Raised at a point where a training can stop; `number` is the signal's."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.number = number


class Interruption:
    """Signal state of a training. While held, a signal waits; when released, it raises
    `Interrupted` at once, in the middle of whatever Python does. Ctrl-C twice ends the program
    without saving.
    """

    listening: ClassVar["Interruption | None"] = None
    """Interruption of the running training, for the code that it calls."""

    def __init__(self) -> None:
        self.number: int | None = None
        self.is_heard = False
        self._raises = False

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Receive signals inside this context."""
        if self.is_heard:
            yield
            return
        self.is_heard, self._raises = True, False
        Interruption.listening = self
        try:
            with handled(self._hear):
                yield
        finally:
            self.is_heard = self._raises = False
            Interruption.listening = None

    def _hear(self, number: int, frame: Any) -> None:
        if number == self.number == signal.SIGINT:
            os._exit(128 + number)
        self.number = self.number or number
        if self._raises:
            self.hold()
            raise Interrupted(self.number)

    def hold(self) -> None:
        """Let signals wait from here on."""
        self._raises = False

    def release(self) -> None:
        """Let signals raise from here on; a waiting one raises now."""
        if not self.is_heard:
            return
        self._raises = True
        if self.number is not None:
            self.hold()
            raise Interrupted(self.number)

    def agree(self, state: Accelerator | PartialState) -> bool:
        """Return, in all processes, whether any was asked to end; all must call this."""
        if state.num_processes > 1:
            heard = torch.tensor([self.number or 0], device=state.device)
            torch.distributed.all_reduce(heard, torch.distributed.ReduceOp.MAX)
            self.number = int(heard) or None
        return self.number is not None


def leave_together() -> None:
    """Raise `Interrupted` in all processes when one was asked to end; to be called at the start of
    each round of work that all of them do equally often.
    """
    listening, state = Interruption.listening, PartialState()
    if listening is not None and state.num_processes > 1 and listening.agree(state):
        assert listening.number is not None
        raise Interrupted(listening.number)


def may_be_left_anywhere(accelerator: Accelerator) -> bool:
    """Return whether no other process waits for this one in the middle of a step."""
    return accelerator.distributed_type == DistributedType.NO


def forgets_steps(model: nn.Module) -> bool:
    """Return whether a discarded forward pass leaves `model` as it was: no batch norm tracks it."""
    norms = (module for module in model.modules() if isinstance(module, _TRACKING))
    return not any(norm.training and norm.track_running_stats for norm in norms)
