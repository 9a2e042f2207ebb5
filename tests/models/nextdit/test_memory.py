import torch

from internnav_hf.models.nextdit.memory import NUM_VIEWS, RGBMemory
from tests.tiny.nextdit import tiny_config


def test_a_few_tokens_that_know_which_view_is_which():
    torch.manual_seed(0)
    memory = RGBMemory(tiny_config()).eval()
    views = torch.randn(3, NUM_VIEWS, 4, 16)
    tokens = memory(views)
    assert tokens.shape == (3, 3, 32)
    assert not memory(views.flip(1)).allclose(tokens, atol=1e-4)


def test_samples_of_a_batch_are_apart():
    torch.manual_seed(0)
    memory = RGBMemory(tiny_config()).eval()
    views = torch.randn(3, NUM_VIEWS, 4, 16)
    torch.testing.assert_close(memory(views)[1:2], memory(views[1:2]))
