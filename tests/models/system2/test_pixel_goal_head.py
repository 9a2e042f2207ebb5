"""The head finds the cell, the offset inside it, and says how sure it is."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from internnav_hf.models.system2.pixel_goal_head import (
    PixelGoalHead,
    cell_centres,
    pixel_goal_losses,
    read_goal,
)

ROWS, COLUMNS = torch.tensor([3]), torch.tensor([4])


def perfect(goal: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits, offsets and centres of a head that knows `goal` (2,) in [0, 1]."""
    centres, _ = cell_centres(ROWS, COLUMNS, 12)
    in_cells = (goal * torch.tensor([4.0, 3.0])).clamp(max=torch.tensor([3.999, 2.999]))
    cell = in_cells.floor()
    index = int(cell[1] * 4 + cell[0])
    logits = torch.full((1, 12), -30.0)
    logits[0, index] = 30.0
    offsets = torch.zeros(1, 12, 2)
    offsets[0, index] = in_cells - cell - 0.5
    return logits, offsets, centres


def test_centres_are_in_reading_order_and_cells_beyond_the_grid_do_not_exist():
    centres, mask = cell_centres(torch.tensor([3, 1]), torch.tensor([4, 2]), 12)
    torch.testing.assert_close(centres[0, 0], torch.tensor([0.125, 1 / 6]))
    torch.testing.assert_close(centres[0, 5], torch.tensor([0.375, 0.5]))
    torch.testing.assert_close(centres[1, 1], torch.tensor([0.75, 0.5]))
    assert mask.sum(1).tolist() == [12, 2]


@settings(max_examples=50, deadline=None)
@given(st.floats(0, 1), st.floats(0, 1))
def test_a_perfect_head_reads_the_goal_back(x, y):
    goal = torch.tensor([x, y])
    logits, offsets, centres = perfect(goal)
    read, confidence = read_goal(logits, offsets, centres, ROWS, COLUMNS)
    torch.testing.assert_close(read[0], goal, atol=2e-3, rtol=0)
    assert confidence == pytest.approx(1.0)


@settings(max_examples=50, deadline=None)
@given(st.floats(0, 1), st.floats(0, 1))
def test_cells_learn_a_distribution_whose_mean_is_the_goal(x, y):
    """Away from the border, where no cell's centre lies beyond the goal."""
    inside = torch.tensor([[0.125 + 0.75 * x, (0.5 + 2 * y) / 3]])
    centres, _ = cell_centres(ROWS, COLUMNS, 12)
    logits = torch.zeros(1, 12, requires_grad=True)
    loss = pixel_goal_losses(logits, torch.zeros(1, 12, 2), inside, ROWS, COLUMNS)
    loss.sum().backward()
    target = logits.softmax(-1) - logits.grad  # of a cross-entropy
    torch.testing.assert_close(target.sum(-1), torch.ones(1))
    torch.testing.assert_close((target[..., None] * centres).sum(1), inside, atol=1e-5, rtol=0)


def test_of_two_modes_the_likelier_one_is_read_and_not_their_mean():
    centres, _ = cell_centres(torch.tensor([1]), torch.tensor([12]), 12)
    logits = torch.full((1, 12), -30.0)
    logits[0, 1], logits[0, 10] = 2.0, 1.0
    goal, confidence = read_goal(
        logits, torch.zeros(1, 12, 2), centres, torch.tensor([1]), torch.tensor([12])
    )
    torch.testing.assert_close(goal[0, 0], centres[0, 1, 0])
    assert confidence == pytest.approx(torch.tensor([2.0, 1.0]).softmax(0)[0].item())


def test_cells_that_do_not_exist_are_never_chosen():
    head = PixelGoalHead(8, 16)
    centres, mask = cell_centres(torch.tensor([1]), torch.tensor([2]), 12)
    logits, offsets = head(torch.randn(1, 8), torch.randn(1, 12, 8), centres, mask)
    assert torch.isinf(logits[0, 2:]).all()
    assert offsets.shape == (1, 12, 2)
    goal, _ = read_goal(logits, 9 * offsets, centres, torch.tensor([1]), torch.tensor([2]))
    assert ((goal >= 0) & (goal <= 1)).all()


def test_the_loss_falls_towards_the_goal():
    goal = torch.tensor([[0.3, 0.6]])
    logits, offsets, _ = perfect(goal[0])
    right = pixel_goal_losses(logits, offsets, goal, ROWS, COLUMNS)
    beside = pixel_goal_losses(logits, offsets, goal + 0.1, ROWS, COLUMNS)
    elsewhere = pixel_goal_losses(logits, offsets, 1 - goal, ROWS, COLUMNS)
    assert right < beside < elsewhere


@settings(max_examples=50, deadline=None)
@given(st.floats(0, 1), st.floats(0, 1))
def test_what_the_loss_teaches_is_what_is_read(x, y):
    """A head at the minimum of the loss, in cells and offsets, reads the goal back."""
    goal = torch.tensor([[x, y]])
    centres, _ = cell_centres(ROWS, COLUMNS, 12)
    logits = torch.zeros(1, 12, requires_grad=True)
    pixel_goal_losses(logits, torch.zeros(1, 12, 2), goal, ROWS, COLUMNS).sum().backward()
    target = (logits.softmax(-1) - logits.grad).clamp(min=1e-9).log().detach()
    offsets = (goal[:, None] - centres) * torch.tensor([4.0, 3.0])
    read, _ = read_goal(target, offsets, centres, ROWS, COLUMNS)
    torch.testing.assert_close(read, goal, atol=1e-4, rtol=0)
