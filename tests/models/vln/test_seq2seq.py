"""What only Seq2Seq does: the previous action is an option."""

import pytest
import torch

from tests.tiny.vln import tiny_seq2seq


@torch.no_grad()
@pytest.mark.parametrize("use_previous_action", [False, True])
def test_the_previous_action_matters_only_where_it_is_used(use_previous_action):
    model = tiny_seq2seq(use_previous_action=use_previous_action)
    model.action_head.weight.mul_(100)
    batch = model.dummy_inputs
    other = batch | {"previous_actions": (batch["previous_actions"] + 1) % 4}
    first, second = model(**batch).logits, model(**other).logits
    assert torch.equal(first[:, 0], second[:, 0])  # an episode's first has none
    assert torch.allclose(first[:, 1:], second[:, 1:], atol=1e-5) != use_previous_action


def test_its_state_reads_instruction_depth_colour_and_the_previous_action():
    sizes = {"instruction": 8, "depth": 10, "rgb": 12, "previous action": 4}
    width = tiny_seq2seq(use_previous_action=True).state_encoder.rnn.input_size
    assert width == sum(sizes.values())
