"""Choice of evaluation samples, and batches that record their samples, to name broken ones."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, Dataset, Subset

logger = logging.getLogger(__name__)

INDEX_KEY = "sample_index"

NOT_FINITE = """Step {step}: {what}. Losses of this batch: {losses}.
What helps: a lower --learning_rate, a longer --warmup_steps, --max_grad_norm 1, bf16 and not fp16.
Checkpoints in {output_dir} are intact: --resume_from_checkpoint true goes on from the last one."""

BROKEN_SAMPLES = """Step {step}: {what}, because of {samples}. Losses of this batch: {losses}.
What helps: mend these samples, or take their episodes away (scripts/check_dataset.py looks at all).
Checkpoints in {output_dir} are intact: --resume_from_checkpoint true goes on from the last one."""


def choose_samples(num_available: int, num_samples: int | None, seed: int) -> np.ndarray:
    """Draw sorted indices without repetition; all of them if there are not more."""
    if num_samples is None or num_samples >= num_available:
        return np.arange(num_available)
    rng = np.random.default_rng(seed)
    return np.sort(rng.choice(num_available, size=num_samples, replace=False))


def some_samples(dataset: Any, num_samples: int, seed: int) -> Subset:
    """Return at most `num_samples` of `dataset`, drawn by `choose_samples`.

    Raises ValueError if it has none.
    """
    if not len(dataset):
        raise ValueError("eval_dataset: found no sample in it.")
    return Subset(dataset, choose_samples(len(dataset), num_samples, seed).tolist())


class Numbered(Dataset):
    """`dataset` with the index of each sample, for `NumberedCollator`."""

    def __init__(self, dataset: Any):
        self.dataset = dataset

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "dataset" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[int, Any]:
        return index, self.dataset[index]


@dataclass
class NumberedCollator:
    """Adds the indices of a `Numbered`'s samples to the batches of `collator`: `sample_index` (B,).

    A batch that is no mapping stays as it is.
    """

    collator: Callable[[list], Any]

    def __call__(self, samples: Sequence[tuple[int, Any]]) -> Any:
        """See the class."""
        batch = self.collator([sample for _, sample in samples])
        if isinstance(batch, Mapping):
            batch = {**batch, INDEX_KEY: torch.tensor([index for index, _ in samples])}
        return batch


def name_of(dataset: Any, index: int) -> str:
    """Return the name of sample `index` of `dataset` for messages: its origin, if known."""
    index, name = int(index), f"sample {int(index)}"
    while True:
        if isinstance(dataset, Subset):
            dataset, index = dataset.dataset, int(dataset.indices[index])
        elif isinstance(dataset, ConcatDataset):
            part = next(i for i, size in enumerate(dataset.cumulative_sizes) if index < size)
            index -= dataset.cumulative_sizes[part - 1] if part else 0
            dataset = dataset.datasets[part]
        else:
            break
    where = getattr(dataset, "where", None)
    return f"{name} ({where(index)})" if where is not None else name


def not_finite(batch: Mapping[str, Any]) -> list[str]:
    """Return the keys of `batch` that hold NaN or an infinity."""
    floats = {k: v for k, v in batch.items() if isinstance(v, Tensor) and v.is_floating_point()}
    return [key for key, value in floats.items() if not bool(torch.isfinite(value).all())]


def diagnose(
    dataset: Any,
    indices: Iterable[int],
    collator: Callable[[list], Any],
    is_finite: Callable[[Any], bool],
) -> tuple[list[str], bool]:
    """Return a description of each sample among `indices` whose loss, taken alone, is not
    finite, and whether the samples are broken and not the model: their data are not finite, or the
    losses of other samples are.
    """
    problems, is_data, num_fine = [], False, 0
    for index in indices:
        batch = collator([dataset[index]])
        keys = not_finite(batch)
        if keys:
            problems.append(f"{name_of(dataset, index)}: {', '.join(keys)} not finite")
            is_data = True
        elif is_finite(batch):
            num_fine += 1
        else:
            problems.append(name_of(dataset, index))
    return problems, bool(problems) and (is_data or num_fine > 0)
