"""What policies that follow many robots at once share."""

from typing import Any

import numpy as np
import torch

LARGEST_MEDIAN_DEPTH_M = 20.0  # no view of a place to walk in is farther away; millimetres are


def episode_generator(seed: int, name: str) -> torch.Generator:
    """Random numbers of the episode `name`, whatever runs beside it."""
    words = np.random.SeedSequence([seed, *name.encode()]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(words[0] >> np.uint64(1)))


def checked_depth(observation: dict[str, Any]) -> np.ndarray:
    """Depth (H, W), unless its median gives another unit away, or it is of another view."""
    depth = np.asarray(observation["depth"])
    shown = observation.get("rgb", depth)  # one that was observed before may come without
    rows, columns = np.asarray(shown).shape[:2]
    if depth.ndim != 2 or abs(depth.shape[0] * columns / (depth.shape[1] * rows) - 1) > 0.02:
        raise ValueError(
            f"observation: depth: found {depth.shape}, expected the shape of 'rgb', "
            f"{(rows, columns)}, or as high for its width."
        )
    known = depth[np.isfinite(depth) & (depth > 0)]
    if len(known) and np.median(known) > LARGEST_MEDIAN_DEPTH_M:
        raise ValueError(
            f"observation: depth: found a median of {np.median(known):.0f}, expected metres."
        )
    return depth
