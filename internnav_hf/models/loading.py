"""Strict loading: a checkpoint fits, or there is one clear error."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .field_files import nearest_path

_SHOWN = 5


class StrictLoading:
    """Before `PreTrainedModel` among a model's bases: `from_pretrained` raises ValueError for any
    missing, unexpected or misshapen key, where transformers would go on with random weights.
    """

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path, *args, output_loading_info=False, **kwargs
    ):
        """As for every model, strictly."""
        parent: Any = super()
        model, info = parent.from_pretrained(
            pretrained_model_name_or_path,
            *args,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are reported below
            **kwargs,
        )
        check_loading(pretrained_model_name_or_path or "given", info)
        return (model, info) if output_loading_info else model


def check_is_checkpoint(option: str, path: str) -> bool:
    """Whether `path`, the value of `option`, is a folder; if not, it is a Hub name.

    Raises ValueError for what can only be meant as a folder, and is none.
    """
    folder = Path(path)
    if folder.is_dir():
        return True
    if folder.is_file():
        raise ValueError(f"{option} {path}: found a file, expected a folder or a Hub name.")
    if path.count("/") != 1 or path.startswith((".", "/", "~")) or folder.parent.is_dir():
        raise ValueError(f"{option} {path}: there is no such folder.{nearest_path(path)}")
    return False


def check_loading(
    path,
    info: dict,
    may_be_missing: tuple[str, ...] = (),
    may_be_unexpected: tuple[str, ...] = (),
) -> None:
    """Raise ValueError when `info`, transformers' loading report for `path`, names keys that did
    not fit.

    Keys that start with one of `may_be_missing` belong to fresh modules and are allowed to be
    absent.
    """
    missing = [key for key in info["missing_keys"] if not key.startswith(may_be_missing)]
    unexpected = [key for key in info["unexpected_keys"] if not key.startswith(may_be_unexpected)]
    problems = [
        ("lacks", missing),
        ("has unexpected", unexpected),
        ("has other shapes for", [entry[0] for entry in info.get("mismatched_keys", ())]),
    ]
    told = [f"{verb} {len(keys)} key(s): {_some(keys)}" for verb, keys in problems if keys]
    if told:
        raise ValueError(f"The checkpoint {path} does not fit the model: it {'; it '.join(told)}.")


def _some(keys: Iterable[str]) -> str:
    keys = sorted(keys)
    return ", ".join(keys[:_SHOWN]) + (", …" if len(keys) > _SHOWN else "")
