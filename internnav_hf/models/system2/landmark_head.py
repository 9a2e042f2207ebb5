"""Auxiliary classification of each visual token: does it show the object named in the instruction?

It needs masks that only a simulator has. It grounds the words of the instruction in the image,
which a model from random weights learns slowly from goals alone (docs/LOG.md). Inference does not
use it.

Legend: B batch, N cells of an image.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from internnav_hf.models.system2.image_tokens import ImageTokens

COVERAGE = 0.12  # a cell is positive if the landmark covers at least this share of it
POSITIVE_WEIGHT = 4.0  # most cells do not


class LandmarkHead(nn.Module):
    """One logit per cell, and its loss."""

    def __init__(self, hidden_size: int):
        super().__init__()
        self.score = nn.Linear(hidden_size, 1)

    def forward(self, image: ImageTokens, landmark_mask: Tensor) -> Tensor:
        """(B,) mean loss over the cells of each image; 0 for an image without cells.

        `landmark_mask` (B, rows, columns) in [0, 1] is the share of each area that shows the
        object.
        """
        logits = self.score(image.cells)[..., 0].float()
        shows = coverage_of_cells(landmark_mask.float(), image) > COVERAGE
        losses = F.binary_cross_entropy_with_logits(
            logits, shows.float(), pos_weight=logits.new_tensor(POSITIVE_WEIGHT), reduction="none"
        )
        return (losses * image.mask).sum(1) / image.mask.sum(1).clamp(min=1)


def coverage_of_cells(landmark_mask: Tensor, image: ImageTokens) -> Tensor:
    """(B, N): `landmark_mask` averaged over each cell of each sample's own grid."""
    coverage = landmark_mask.new_zeros(image.mask.shape)
    for grid in torch.stack([image.rows, image.columns], dim=-1).unique(dim=0):
        same = (image.rows == grid[0]) & (image.columns == grid[1])
        pooled = F.adaptive_avg_pool2d(landmark_mask[same], tuple(grid.tolist())).flatten(1)
        coverage[same] = F.pad(pooled, (0, coverage.shape[1] - pooled.shape[1]))
    return coverage
