"""Batches of whole episodes."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

OF_TEXT = "instruction_ids"
NONE_BEFORE = -1
PADDING = {"previous_actions": NONE_BEFORE}  # all else is padded with 0


class VLNCollator:
    """Samples to one batch.

    Two walks of 3 and 4 steps, for Seq2Seq and CMA, at 256x256 pixels:

        instruction_ids     (2, 6)               int64    [[12, 7, 431, 9, 0, 0], ...] 0 is padding
        rgb                 (2, 4, 3, 256, 256)  uint8    a step of zeros ends the first
        depth               (2, 4, 256, 256)     float32  metres; 0 unknown
        progress            (2, 4)               float32  [[0, 0.4, 1, 0], [0, 0.2, 0.6, 0.9]]
        previous_actions    (2, 4)               int64    [[-1, 1, 1, -1], [-1, 2, 1, 1]] -1 none
        actions             (2, 4)               int64    [[1, 1, 0, 0], [2, 1, 1, 0]]
        inflection_weights  (2, 4)               float32  [[3.2, 1, 3.2, 0], [3.2, 3.2, 1, 3.2]]
        step_mask           (2, 4)               bool     [[1, 1, 1, 0], [1, 1, 1, 1]]
        episode_mask        (2,)                 bool     [1, 1] their losses are means over walks

    For RDP, without the last, and instead of the three before `step_mask`:

        previous_displacements  (2, 4, 4, 3)  float32  the latest first, m, m, rad
        displacements           (2, 4, 8, 3)  float32  the next steps, m, m, rad
        relative_pose           (2, 4, 3)     float32  place and heading since the first step
        stop_progress           (2, 4)        float32  [[0.33, 0.67, 1, 0], [0.25, 0.5, 0.75, 1]]

    Cached features stand in the place of the images: `rgb_features` (2, 4, ...) and
    `depth_features` (2, 4, 128, 4, 4), in the type they are stored in.
    """

    def __call__(self, samples: Sequence[dict[str, np.ndarray]]) -> dict[str, Tensor]:
        """The keys are the arguments of the models' `forward`."""
        for position, sample in enumerate(samples):
            _check_sample(position, sample, samples[0])
        batch = {key: padded(key, [sample[key] for sample in samples]) for key in samples[0]}
        lengths = torch.tensor([len(sample["progress"]) for sample in samples])
        steps = torch.arange(int(lengths.max()))
        masks = {"step_mask": steps < lengths[:, None]}
        if "actions" in batch:
            masks["episode_mask"] = lengths > 0
        return batch | masks


def padded(key: str, rows: Sequence[np.ndarray]) -> Tensor:
    """The rows of `key`, (B, longest, ...) with the padding at the end."""
    longest = max(len(row) for row in rows)
    shape = (len(rows), longest, *rows[0].shape[1:])
    padded = np.full(shape, PADDING.get(key, 0), rows[0].dtype)
    for target, row in zip(padded, rows, strict=True):
        target[: len(row)] = row
    return torch.from_numpy(padded)


def _check_sample(
    position: int, sample: dict[str, np.ndarray], first: dict[str, np.ndarray]
) -> None:
    shapes, wanted = ({key: s[key].shape[1:] for key in s} for s in (sample, first))
    if shapes != wanted:
        raise ValueError(
            f"sample {position} of the batch: found {shapes}, expected the keys and shapes of a"
            f" step of sample 0, {wanted}"
        )
    steps = {key: len(values) for key, values in sample.items() if key != OF_TEXT}
    if len(set(steps.values())) > 1:
        raise ValueError(
            f"sample {position} of the batch: found steps {steps}, expected as many of each"
        )
