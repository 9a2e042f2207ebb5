"""Learning-rate schedules, tried before a run with the arguments that they would get."""

import inspect
import math
from collections.abc import Mapping
from typing import Any

import torch
from transformers import TrainingArguments
from transformers.optimization import TYPE_TO_SCHEDULER_FUNCTION, get_scheduler
from transformers.trainer_utils import SchedulerType

_MANY_STEPS = 1_000_000


def check_schedule(args: TrainingArguments) -> None:
    """Raise ValueError for arguments that the schedule does not take, and for a schedule that
    leaves 0 .. learning_rate. It is tried on a parameter of its own.
    """
    given = args.lr_scheduler_kwargs or {}
    if not isinstance(given, Mapping):
        raise ValueError(f"lr_scheduler_kwargs: expected a JSON mapping, found {given!r}.")
    kind = SchedulerType(args.lr_scheduler_type)
    known = list(inspect.signature(TYPE_TO_SCHEDULER_FUNCTION[kind]).parameters)
    taken = [n for n in known if n not in ("optimizer", "num_warmup_steps", "num_training_steps")]
    unknown = [name for name in given if name not in taken and "kwargs" not in known]
    if unknown:
        raise ValueError(
            f"lr_scheduler_kwargs: {kind.value} does not take {', '.join(map(repr, unknown))}; it "
            f"takes {', '.join(taken) or 'nothing'}."
        )
    if kind in (SchedulerType.REDUCE_ON_PLATEAU, SchedulerType.GREEDY):
        return
    _try_schedule(args, kind, dict(given))


def _try_schedule(args: TrainingArguments, kind: SchedulerType, given: dict[str, Any]) -> None:
    rate = args.learning_rate or 1.0
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=rate)
    steps = args.max_steps if args.max_steps > 0 else _MANY_STEPS
    steps = getattr(args, "lr_scheduler_steps", None) or steps
    warmup = args.get_warmup_steps(steps)
    try:
        scheduler = get_scheduler(kind, optimizer, warmup, steps, scheduler_specific_kwargs=given)
        shares = [scheduler.lr_lambdas[0](step * steps // 50) for step in range(51)]
    except (TypeError, ValueError, ArithmeticError) as error:
        raise ValueError(f"lr_scheduler_kwargs: found {given} for {kind.value}: {error}") from error
    worst = [share for share in shares if not (math.isfinite(share) and 0 <= share <= 1.001)]
    if worst:
        raise ValueError(
            f"lr_scheduler_kwargs: with {given} {kind.value} has a learning rate of "
            f"{rate * worst[0]:g}, expected 0 to {rate:g}."
        )
