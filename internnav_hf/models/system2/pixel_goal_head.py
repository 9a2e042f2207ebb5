"""The pixel-goal head: the goal pixel predicted from the visual tokens instead of as digits.

The hidden state at the answer position is the query, the visual tokens of the last image the keys:
attention logits over the cells of the image, and for each cell an offset to the goal. Positions are
continuous features of the cell's centre, so any grid works. Trained with cross-entropy on the four
cells around the goal, weighted bilinearly, and smooth L1 on the offset from each of them to the
goal.

Legend: B batch, N cells (padded to the largest image), D width of the VLM, H width of the head.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_NUM_FREQUENCIES = 8
_OFFSET_LOSS_WEIGHT = 2.0
_OFFSET_LOSS_BETA = 0.1  # in cells: the loss turns from quadratic to linear at a tenth of a cell


class PixelGoalHead(nn.Module):
    """Cells and offsets from the hidden states of one image and one answer position."""

    def __init__(self, hidden_size: int, head_hidden_size: int):
        super().__init__()
        self.query = nn.Linear(hidden_size, head_hidden_size)
        self.key = nn.Linear(hidden_size, head_hidden_size)
        self.position = nn.Linear(4 * _NUM_FREQUENCIES, head_hidden_size, bias=False)
        self.mixed = nn.Linear(head_hidden_size, head_hidden_size)
        self.score = nn.Linear(head_hidden_size, 1, bias=False)  # softmax would cancel a bias
        self.offset = nn.Linear(head_hidden_size, 2)

    def forward(
        self, answer: Tensor, cells: Tensor, centres: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Logits (B, N), -inf off the image, and offsets (B, N, 2) in cells (right, down) from each
        cell's centre.

        `answer` (B, D), `cells` (B, N, D), `centres` (B, N, 2) in [0, 1] as (x, y), `mask` (B, N)
        True on the image.
        """
        key = self.key(cells) + self.position(_fourier_features(centres).to(cells.dtype))
        query = self.query(answer)[:, None]
        # The product matches cells to the answer's query; the mixed term also scores cells alone.
        mixed = F.gelu(self.mixed(key + query))
        score = self.score(mixed)[..., 0].float()
        logits = (query.float() * key.float()).sum(-1) / math.sqrt(key.shape[-1]) + score
        return logits.masked_fill(~mask, float("-inf")), self.offset(mixed).float()


def _fourier_features(centres: Tensor) -> Tensor:
    """(..., 4 * frequencies): sines and cosines of x and y in [0, 1], periods from 4 image widths
    down by halves.
    """
    frequencies = 2.0 ** torch.arange(_NUM_FREQUENCIES, device=centres.device) * (math.pi / 2)
    angles = (centres[..., None] * frequencies).flatten(-2)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def cell_centres(rows: Tensor, columns: Tensor, num_cells: int) -> tuple[Tensor, Tensor]:
    """Centres (B, N, 2) as (x, y) in [0, 1] of `num_cells` cells in reading order, and which of
    them exist (B, N).
    """
    index = torch.arange(num_cells, device=rows.device)[None]
    column, row = index % columns[:, None], index // columns[:, None]
    centres = torch.stack([(column + 0.5) / columns[:, None], (row + 0.5) / rows[:, None]], dim=-1)
    return centres, row < rows[:, None]


def pixel_goal_losses(
    logits: Tensor, offsets: Tensor, goal: Tensor, rows: Tensor, columns: Tensor
) -> Tensor:
    """(B,) loss of each sample for `goal` (B, 2) in [0, 1] as (x, y); goals outside are clamped
    onto the image.
    """
    size = torch.stack([columns, rows], dim=-1)
    in_cells = goal.clamp(0, 1) * size
    centres, _ = cell_centres(rows, columns, logits.shape[1])
    weights = _bilinear(in_cells, rows, columns, logits.shape[1])
    cell_loss = -(weights * _finite_log(logits)).sum(-1)
    wanted = in_cells[:, None] - centres * size[:, None]
    offset_loss = F.smooth_l1_loss(offsets, wanted, beta=_OFFSET_LOSS_BETA, reduction="none").sum(
        -1
    )
    return cell_loss + _OFFSET_LOSS_WEIGHT * (weights * offset_loss).sum(-1)


def _bilinear(in_cells: Tensor, rows: Tensor, columns: Tensor, num_cells: int) -> Tensor:
    """(B, N) weights of the four cells around each point, which sum to 1 and have it as mean."""
    index = torch.arange(num_cells, device=rows.device)[None]
    last = torch.stack([columns, rows], dim=-1) - 1
    point = (in_cells - 0.5).clamp(min=0).minimum(last)
    x = (1 - (index % columns[:, None] - point[:, :1]).abs()).clamp(min=0)
    y = (1 - (index // columns[:, None] - point[:, 1:]).abs()).clamp(min=0)
    return x * y


def _finite_log(logits: Tensor) -> Tensor:
    """Log probabilities; 0 for cells that do not exist, whose target weight is 0."""
    return logits.log_softmax(-1).masked_fill(logits == float("-inf"), 0.0)


def read_goal(
    logits: Tensor, offsets: Tensor, centres: Tensor, rows: Tensor, columns: Tensor
) -> tuple[Tensor, Tensor]:
    """The goal (B, 2) in [0, 1] as (x, y), and its confidence (B,).

    The confidence is the probability of the likeliest block of 3x3 cells. The goal is the mean of
    the points that the cells of that block point to: a single mode, but smoother than a single
    cell.
    """
    probability = logits.softmax(-1)
    size = torch.stack([columns, rows], dim=-1)[:, None]
    places = centres * size
    touching = (places[:, :, None] - places[:, None]).abs().amax(-1) < 1.5  # (B, N, N)
    blocks = (touching * probability[:, None]).sum(-1).masked_fill(logits == float("-inf"), -1.0)
    confidence, best = blocks.max(-1)
    near = probability * touching[torch.arange(len(best), device=best.device), best]
    points = centres + offsets.clamp(-1, 1) / size
    goal = (near[..., None] * points).sum(1) / near.sum(-1, keepdim=True)
    return goal.clamp(0, 1), confidence
