"""Paths through keypoints: cubic Hermite splines with the tangents of Catmull and Rom.

Legend: B paths, K keypoints, D coordinates.
"""

from functools import reduce

import torch
from torch import Tensor
from torch.nn import functional as F

PIECES = 10  # of the path between two keypoints


def spline(keypoints: Tensor, pieces: int = PIECES) -> Tensor:
    """Points (B, pieces * K + 1, D) of the path from the origin through `keypoints` (B, K, D)."""
    knots = F.pad(keypoints, (0, 0, 1, 0))
    slopes = knots.diff(dim=1)
    inner = (slopes[:, :-1] + slopes[:, 1:]) / 2
    tangents = torch.cat([slopes[:, :1], inner, slopes[:, -1:]], dim=1)
    place = torch.arange(pieces * keypoints.shape[1] + 1, device=knots.device) / pieces
    piece = (place.ceil().long() - 1).clamp(min=0)  # a knot belongs to the piece before it
    u = (place - piece).to(knots)[:, None]
    powers = torch.stack([torch.ones_like(u), u, u**2, u**3])
    weights = torch.einsum("wp,pnd->wnd", _HERMITE.to(knots), powers)
    ends = (knots[:, piece], tangents[:, piece], knots[:, piece + 1], tangents[:, piece + 1])
    return reduce(torch.add, (weight * end for weight, end in zip(weights, ends, strict=True)))


def straight_path(goal: Tensor, num_points: int) -> Tensor:
    """Points (B, num_points, D) evenly from the origin to `goal` (B, D)."""
    return spline(goal[:, None], num_points - 1)


# Rows: start, its tangent, end, its tangent; columns: powers of the place in the piece.
_HERMITE = torch.tensor(
    [
        [1.0, 0.0, -3.0, 2.0],
        [0.0, 1.0, -2.0, 1.0],
        [0.0, 0.0, 3.0, -2.0],
        [0.0, 0.0, -1.0, 1.0],
    ]
)
