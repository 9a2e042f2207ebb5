"""What only CMA does: positions of cells, attention, instructions kept for a whole episode."""

import torch
from einops import rearrange
from torch import nn
from torch.testing import assert_close

from internnav_hf.models.vln.cma import attend, with_positions
from tests.tiny.seeded_weights import seeded_tensor
from tests.tiny.vln import tiny_cma
from tests.tiny.vln_golden import golden


@torch.no_grad()
def test_positions_are_read_as_published():
    data = golden("depth_encoder")
    positions = nn.Embedding(16, 64)
    positions.weight.copy_(seeded_tensor("spatial_embeddings.weight", (16, 64)))
    cells = with_positions(data["out.features"], positions)
    assert_close(rearrange(cells, "f (y x) c -> f c y x", y=4), data["out.spatial"])


def test_attention_reads_what_is_valid():
    value = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [100.0, 100.0]]])
    key = torch.tensor([[[1.0], [1.0], [9.0]]])
    mask = torch.tensor([[[True, True, False]]])
    query = torch.ones(1, 1, 1)
    assert_close(attend(query, key, value, mask)[0, 0], torch.tensor([2.0, 3.0]))
    nothing = attend(query, key, value, torch.zeros_like(mask))[0, 0]
    assert_close(nothing, value[0].mean(0))


def test_attention_is_as_sharp_as_published():
    query, key = torch.full((1, 1, 4), 2.0), torch.tensor([[[1.0] * 4, [0.0] * 4]])
    first, second = attend(query, key, torch.eye(2)[None])[0, 0]
    assert_close((first / second).log(), torch.tensor(8 / 4**0.5))


@torch.no_grad()
def test_instructions_of_other_lengths_can_be_stacked():
    """As a policy does, which keeps what it made of each at the start."""
    model = tiny_cma()
    model.action_head.weight.mul_(100)
    batch = model.dummy_inputs
    views = batch["rgb"][:, 0], batch["depth"][:, 0], torch.tensor([-1, -1])
    long = model.encode_instruction(batch["instruction_ids"][:1])
    short = model.encode_instruction(batch["instruction_ids"][1:, :2])
    stacked = nn.utils.rnn.pad_sequence([long[0], short[0]], batch_first=True)
    expected = model.act(batch["instruction_ids"], *views).logits
    assert_close(model.act(stacked, *views).logits, expected, atol=1e-6, rtol=1e-6)


@torch.no_grad()
def test_every_word_and_the_previous_action_matter():
    model = tiny_cma()
    model.action_head.weight.mul_(100)
    batch = model.dummy_inputs
    expected = model(**batch).logits
    for key, change in (("instruction_ids", 19), ("previous_actions", 3)):
        other = {key: batch[key].clone()}
        other[key][0, 1] = change - other[key][0, 1]
        logits = model(**(batch | other)).logits
        assert not torch.allclose(logits[0], expected[0], atol=1e-5)
        assert_close(logits[1], expected[1])
