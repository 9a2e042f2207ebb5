import pytest
import torch

from internnav_hf.training.sums import Sums, mean_losses


def test_losses_are_means_over_their_items():
    sums = Sums()
    sums.add("a_loss", torch.tensor(1.0), torch.tensor(3))
    sums.add("a_loss", torch.tensor(5.0), torch.tensor(1))
    sums.add("b_loss", torch.tensor(torch.nan), torch.tensor(0))
    sums.add("samples", torch.tensor(4.0))
    popped = sums.pop()
    assert mean_losses(popped) == {"a_loss": pytest.approx(2.0)}
    assert popped["samples"] == (4.0, 1.0)
    assert sums.pop() == {}
