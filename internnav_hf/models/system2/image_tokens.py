"""The visual tokens of one image per sample, and their positions in it.

Legend: B batch, N cells (padded to the largest image), D width of the VLM.
"""

from dataclasses import dataclass

from torch import Tensor


@dataclass
class ImageTokens:
    """Hidden states `cells` (B, N, D) in reading order; a cell is one merged patch."""

    cells: Tensor
    centres: Tensor  # (B, N, 2) in [0, 1] as (x, y)
    mask: Tensor  # (B, N), False at padding
    rows: Tensor  # (B,)
    columns: Tensor  # (B,)
