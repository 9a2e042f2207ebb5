"""Run state that a checkpoint keeps in addition to Trainer's."""

import json
import logging
import os
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

logger = logging.getLogger(__name__)

PROGRESS_FILE = "progress.json"


@dataclass
class Moment:
    """A point at which a run can stop: after a step, or before an evaluation."""

    rng: dict[str, Any]
    progress: dict[str, Any]
    num_tokens: Any


def plain(values: dict[str, Any]) -> dict[str, Any]:
    """Return `values` as exact JSON: tensors become lists and numbers."""
    return json.loads(json.dumps(values, default=lambda tensor: tensor.tolist()))


def read_progress(checkpoint: str | None, process_index: int) -> dict[str, Any] | None:
    """Return this process's progress; None if missing, damaged, or of more or fewer processes."""
    path = Path(checkpoint or "", PROGRESS_FILE)
    if checkpoint is None or not path.is_file():
        return None
    num_processes = int(os.environ.get("WORLD_SIZE", "1"))
    try:
        everyone = json.loads(path.read_text())
        return dict(everyone[process_index]) if len(everyone) == num_processes else None
    except (ValueError, KeyError, TypeError):
        logger.warning("%s is damaged: losses are logged from here on.", path)
        return None


def generator_states() -> dict[str, Any]:
    """Return the states of all random generators of this process."""
    states = {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "cpu": torch.random.get_rng_state(),
    }
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.random.get_rng_state_all()
    return states


def set_generators(states: dict[str, Any]) -> None:
    """Restore the states of `generator_states`."""
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    torch.random.set_rng_state(states["cpu"])
    if "cuda" in states:
        torch.cuda.random.set_rng_state_all(states["cuda"])
