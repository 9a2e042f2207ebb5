"""Ranges of numeric options, checked before anything is read or downloaded.

A field's range is in its metadata (`option(..., low=0, high=1)`), or in `RANGES` if the field is
transformers' own. No number may be NaN or infinite.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field, fields
from typing import Any, NamedTuple


class Range(NamedTuple):
    """Range of a number; `above` is an exclusive lower bound."""

    low: float | None = None
    high: float | None = None
    above: float | None = None
    below: float | None = None
    is_whole_above_one: bool = False

    def holds(self, value: float) -> bool:
        """Return whether `value` lies in the range."""
        return (
            (self.low is None or value >= self.low)
            and (self.high is None or value <= self.high)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
            and not (self.is_whole_above_one and value > 1 and value != int(value))
        )

    def __str__(self) -> str:
        whole = ", a whole number if above 1" if self.is_whole_above_one else ""
        if self.low is not None and self.high is not None:
            return f"{self.low:g} to {self.high:g}{whole}"
        if self.low is not None and self.below is not None:
            return f"{self.low:g} or more and below {self.below:g}"
        if self.above is not None and self.high is not None:
            return f"more than {self.above:g}, at most {self.high:g}"
        if self.low is not None:
            return f"{self.low:g} or more{whole}"
        return f"more than {self.above:g}{whole}"


AT_LEAST_ONE, NOT_NEGATIVE, POSITIVE = Range(low=1), Range(low=0), Range(above=0)
BETA = Range(low=0, below=1)
STEPS_OR_SHARE = Range(above=0, is_whole_above_one=True)

RANGES = {
    name: expected
    for expected, names in {
        AT_LEAST_ONE: "per_device_train_batch_size per_device_eval_batch_size save_total_limit"
        " gradient_accumulation_steps eval_accumulation_steps torch_empty_cache_steps"
        " dataloader_prefetch_factor ddp_bucket_cap_mb ddp_timeout",
        NOT_NEGATIVE: "learning_rate weight_decay max_grad_norm eval_delay dataloader_num_workers",
        POSITIVE: "num_train_epochs adam_epsilon",
        BETA: "adam_beta1 adam_beta2",
        STEPS_OR_SHARE: "logging_steps eval_steps save_steps",
        Range(low=0, is_whole_above_one=True): "warmup_steps",
        Range(low=0, high=2**32 - 1): "seed data_seed",
    }.items()
    for name in names.split()
}


def option(
    default: Any,
    text: str,
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    choices: Sequence[str] = (),
) -> Any:
    """Return a dataclass field with its help text and, if any, the range or the words that
    `check_numbers` enforces; a list is copied.
    """
    bounds = Range(low, high, above) if (low, high, above) != (None, None, None) else None
    metadata = {"help": text, "range": bounds, "choices": tuple(choices)}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def check_numbers(options: Any) -> None:
    """Raise ValueError for the first value of the dataclass `options` that is not finite or outside
    its range, for text that is blank, and for a value that is not among its `choices`.
    """
    for entry in fields(options):
        value = getattr(options, entry.name)
        expected = entry.metadata.get("range") or RANGES.get(entry.name)
        for number in _numbers(value):
            if not math.isfinite(number) or (expected and not expected.holds(number)):
                told = expected or "a finite number"
                raise ValueError(f"{entry.name}: found {value}, expected {told}.")
        _check_text(entry.name, value, entry.default)
        choices = entry.metadata.get("choices")
        if choices and value is not None and value not in choices:
            raise ValueError(
                f"{entry.name}: found {value!r}, expected {' or '.join(map(repr, choices))}."
            )
    max_steps = getattr(options, "max_steps", -1)
    if max_steps == 0 or max_steps < -1:
        raise ValueError(
            f"max_steps: found {max_steps}, expected 1 or more, or -1: as long as num_train_epochs."
        )


def check_counts(options: Any, *names: str) -> None:
    """Raise ValueError for one of the fields `names` that is given, but less than 1."""
    for name in names:
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name}: found {value}, expected 1 or more.")


def check_pairs(options: Any, *names: str) -> None:
    """Raise ValueError for one of the fields `names` that is not two values."""
    for name in names:
        if len(getattr(options, name)) != 2:
            raise ValueError(f"--{name}: found {getattr(options, name)}, expected MIN MAX.")


def check_rates(rates: Mapping[str, Any]) -> None:
    """Raise ValueError for the first invalid learning rate of a module."""
    for module, rate in rates.items():
        try:
            is_rate = not isinstance(rate, bool) and math.isfinite(float(rate)) and float(rate) >= 0
        except (TypeError, ValueError):
            is_rate = False
        if not is_rate:
            raise ValueError(
                f"module_learning_rates: found {rate!r} for {module!r}, expected 0 or more."
            )


def _check_text(name: str, value: Any, default: Any) -> None:
    """Refuse blank text: a script passes it for an unset variable; as a path it is this folder."""
    words = value if isinstance(value, list) else [value]
    if value != default and any(isinstance(word, str) and not word.strip() for word in words):
        raise ValueError(f"{name}: found {value!r}, expected text; leave it out for the default.")


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, list | tuple):
        for part in value:
            yield from _numbers(part)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value
