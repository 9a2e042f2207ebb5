"""What open-loop evaluations share: the split of samples over processes, random
numbers of a sample, errors of paths, and what a path hits.

Under several processes each answers its share, and all return the result of all. Paths begin where
the robot is. Legend: P paths, H horizon.
"""

import functools
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Sized

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from tqdm import tqdm

from internnav_hf.camera import CameraSpec, cameras_of, difference_from_all
from internnav_hf.training.samples import choose_samples
from internnav_hf.training.saving.interruption import leave_together

logger = logging.getLogger(__name__)


def answer_samples(
    answer: Callable[[list[int]], list],
    dataset: Sized,
    num_samples: int | None = None,
    batch_size: int = 16,
    seed: int = 0,
) -> list:
    """This process's share of the answers to `num_samples` samples drawn with `seed` (None: all);
    `answer` takes the indices of a batch. ValueError for an empty dataset.
    """
    if not len(dataset):
        raise ValueError("There is no sample to evaluate; the dataset is empty.")
    chosen = choose_samples(len(dataset), num_samples, seed)
    return [row for batch in own_batches(chosen, batch_size) for row in answer(batch)]


def own_batches(chosen: np.ndarray, batch_size: int) -> Iterator[list[int]]:
    """Batches of this process's share of `chosen`. All processes take as many rounds, and leave
    before the same one if a training is asked to end.
    """
    state = PartialState()
    mine = chosen[state.process_index :: state.num_processes].tolist()
    largest = -(-len(chosen) // state.num_processes)
    starts, is_shown = range(0, largest, batch_size), state.is_main_process
    for start in tqdm(starts, desc="open loop", disable=not is_shown, leave=False):
        leave_together()
        if batch := mine[start : start + batch_size]:
            yield batch


def sample_generator(seed: int, index: int) -> torch.Generator:
    """Random numbers of one sample, the same in every batch and process."""
    state = np.random.SeedSequence([seed, index]).generate_state(1)
    return torch.Generator().manual_seed(int(state[0]))


def summarize_rows(rows: list[dict[str, float]], counts: Collection[str] = ()) -> dict[str, float]:
    """Means over the rows of all processes that have a number, sums of `counts`, `num_samples`."""
    rows = gather_object(rows)
    names = sorted({name for row in rows for name in row} - {*counts})
    result = {name: float(np.mean([row[name] for row in rows if name in row])) for name in names}
    result |= {name: float(sum(row[name] for row in rows)) for name in counts}
    return {**result, "num_samples": float(len(rows))}


def path_errors(paths: np.ndarray, expert: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distances (P,) in metres of `paths` (P, H + 1, 2) to the path `expert` (H + 1, 2): the mean
    over all points but the first (ADE), and that of the last (FDE).
    """
    distances = np.linalg.norm(paths - expert, axis=-1)
    return distances[:, 1:].mean(axis=1), distances[:, -1]


def hit_share(
    paths: np.ndarray, is_free: Callable[[np.ndarray], np.ndarray], points_per_step: int
) -> float:
    """Share of `paths` (P, H + 1, 2) on which the robot would meet an obstacle.

    `is_free` says of points (P, K, 2), `points_per_step` on each step, whether the robot can be
    there, (P, K). It may leave a place where it should not be; a robot that stands hits nothing.
    """
    fractions = np.arange(1, points_per_step + 1)[:, None] / points_per_step
    steps = np.diff(paths, axis=1)[:, :, None]
    points = (paths[:, :-1, None] + steps * fractions).reshape(len(paths), -1, 2)
    free = is_free(np.concatenate([paths[:, :1], points], axis=1))
    free |= np.cumsum(free, axis=1) == 0
    moved = np.linalg.norm(paths - paths[:, :1], axis=-1).max(axis=1) > 0
    return float(((~free).any(axis=1) & moved).mean())


def check_cameras(stored: dict | list[dict] | None, cameras: Iterable[CameraSpec]) -> None:
    """Raise ValueError if a dataset shows another camera than the one that a model was trained
    with; one that is not among several is a warning.
    """
    trained = cameras_of(stored)
    for camera in cameras:
        difference = difference_from_all(trained, camera)
        if difference is not None:
            problem = f"dataset: another camera than the model's: {difference}."
            if len(trained) == 1:
                raise ValueError(problem)
            _warn_once(problem)


_warn_once = functools.cache(logger.warning)  # not at every evaluation of a training
