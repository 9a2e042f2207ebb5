"""What open-loop evaluations share: the choice of samples and its split over processes."""

import functools
import logging
from collections.abc import Iterable, Iterator

import numpy as np
from accelerate import PartialState
from tqdm import tqdm

from internnav_hf.camera import CameraSpec, cameras_of, difference_from_all
from internnav_hf.training.saving.interruption import leave_together

logger = logging.getLogger(__name__)


def choose_samples(num_available: int, num_samples: int | None, seed: int) -> np.ndarray:
    """Sorted indices without repetition; all of them if there are not more."""
    if num_samples is None or num_samples >= num_available:
        return np.arange(num_available)
    rng = np.random.default_rng(seed)
    return np.sort(rng.choice(num_available, size=num_samples, replace=False))


def own_batches(chosen: np.ndarray, batch_size: int) -> Iterator[list[int]]:
    """Of this process's share of `chosen`. All processes take as many rounds, and leave before the
    same one where a training is asked to end.
    """
    state = PartialState()
    mine = chosen[state.process_index :: state.num_processes].tolist()
    largest = -(-len(chosen) // state.num_processes)
    starts, is_shown = range(0, largest, batch_size), state.is_main_process
    for start in tqdm(starts, desc="open loop", disable=not is_shown, leave=False):
        leave_together()
        if batch := mine[start : start + batch_size]:
            yield batch


def check_cameras(stored: dict | list[dict] | None, cameras: Iterable[CameraSpec]) -> None:
    """Raise ValueError where a dataset shows another camera than the one that a model was trained
    with; one that is not among several is a warning.
    """
    trained = cameras_of(stored)
    for camera in cameras:
        difference = difference_from_all(trained, camera)
        if difference is not None:
            told = f"dataset: another camera than the model's: {difference}."
            if len(trained) == 1:
                raise ValueError(told)
            _warn_once(told)


@functools.cache
def _warn_once(told: str) -> None:
    """Not at every evaluation of a training."""
    logger.warning(told)
