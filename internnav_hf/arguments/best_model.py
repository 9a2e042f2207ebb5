"""Checks for choosing the best model: evaluations, and the better direction of its metric."""

import re
from typing import Any

from transformers import TrainingArguments

_LOWER = re.compile(r"(loss|error|_m|_deg|_px|collision_share|drift|num_left_out)$|_error_|_loss_")
_HIGHER = re.compile(r"(accuracy|recall|precision|correlation|success|spl|f1)$")
_NEEDS_EVALUATION = {
    "load_best_model_at_end": bool,
    "metric_for_best_model": bool,
    "eval_on_start": bool,
    "save_strategy": lambda value: value == "best",
    "lr_scheduler_type": lambda value: value in ("reduce_lr_on_plateau", "greedy"),
}


def check_evaluation(args: TrainingArguments, asked: bool | None, held_out: Any) -> None:
    """Raise ValueError if `args`, or `do_eval` as it was `asked` for, need evaluations and
    nothing is `held_out`.
    """
    if held_out:
        _check_best(args)
        return
    asking = [n for n, needs in _NEEDS_EVALUATION.items() if needs(_plain(getattr(args, n)))]
    asking += ["do_eval"] if asked else []
    if asking:
        raise ValueError(
            f"{asking[0]}: found {_plain(getattr(args, asking[0]))}, but nothing is held out to "
            "evaluate on: name held-out data (--eval_datasets, --eval_groups, --eval_scans), or "
            "leave it out."
        )


def _check_best(args: TrainingArguments) -> None:
    """Without evaluations there is no best model, and none would be saved."""
    if _plain(args.save_strategy) != "best":
        return
    if args.metric_for_best_model is None:
        raise ValueError(
            "save_strategy: found 'best', expected --metric_for_best_model as well, such as loss."
        )
    if _plain(args.eval_strategy) == "no":
        raise ValueError(
            "save_strategy: found 'best', expected evaluations too, but eval_strategy is 'no': "
            "--eval_strategy steps or epoch."
        )


def direction_of(metric: str | None, greater_is_better: bool | None) -> bool | None:
    """Return whether a larger `metric` is better. Raises ValueError if that is unknown and not
    given, or given the wrong way round.
    """
    if metric is None:
        return greater_is_better
    known = True if _HIGHER.search(metric) else False if _LOWER.search(metric) else None
    if known is None and greater_is_better is None:
        raise ValueError(
            f"metric_for_best_model: found {metric!r}; say whether more of it is better: "
            "--greater_is_better true or false."
        )
    if None not in (known, greater_is_better) and known != greater_is_better:
        raise ValueError(
            f"greater_is_better: found {greater_is_better}, but of {metric} "
            f"{'more' if known else 'less'} is better."
        )
    return known if greater_is_better is None else greater_is_better


def _plain(value: Any) -> Any:
    """Return the value of an enumeration member."""
    return getattr(value, "value", value)
