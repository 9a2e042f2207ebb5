import torch
from torch.testing import assert_close

from internnav_hf.models.common.draws import Draws

TARGETS = torch.arange(12.0).view(4, 3)


def drawn(targets):
    draws = Draws(targets, training=False)
    return draws.normal(2, 5), draws.uniform(), draws.below(1000, 2)


def test_a_row_draws_the_same_whoever_is_beside_it():
    whole = drawn(TARGETS)
    for order in ([2], [3, 2, 0]):
        for all_rows, some in zip(whole, drawn(TARGETS[order]), strict=True):
            assert_close(some, all_rows[order])


def test_rows_draw_differently_and_in_their_range():
    normal, uniform, below = drawn(torch.randn(500, 3, generator=torch.Generator().manual_seed(0)))
    assert abs(normal.mean().item()) < 0.1
    assert abs(normal.std().item() - 1) < 0.05
    assert 0 <= uniform.min() < 0.1 < 0.9 < uniform.max() < 1
    assert len(below.unique()) > 400


def test_no_row_draws_nothing():
    assert Draws(torch.zeros(0, 3), training=False).normal(2).shape == (0, 2)
