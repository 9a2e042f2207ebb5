"""The instruction encoder against upstream's numbers, and its padding."""

import pytest
import torch
from torch.testing import assert_close

from internnav_hf.models.common.instruction_encoder import InstructionEncoder, check_words
from tests.tiny.seeded_weights import seeded_tensor
from tests.tiny.vln_golden import golden

NAMES = {"word_embeddings.": "embedding_layer.", "rnn.": "encoder_rnn."}


def encoder(bidirectional: bool, rnn_type: str = "lstm") -> InstructionEncoder:
    module = InstructionEncoder(2504, 50, 128, bidirectional, rnn_type)
    weights = {}
    for key, value in module.state_dict().items():
        name = key
        for ours, theirs in NAMES.items():
            name = name.replace(ours, theirs)
        weights[key] = seeded_tensor(name, tuple(value.shape))
    module.load_state_dict(weights)
    return module.eval()


@torch.no_grad()
@pytest.mark.parametrize("rnn_type", ["lstm", "gru"])
def test_the_last_state_is_upstreams(rnn_type):
    data = golden("instruction_encoder")
    out = encoder(False, rnn_type)(data["in.tokens"].long())
    assert_close(out, data[f"out.{rnn_type}_final"], atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_tokens_are_upstreams():
    data = golden("instruction_encoder")
    out = encoder(True)(data["in.tokens"].long())
    assert_close(out.mT, data["out.bilstm_seq"], atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("bidirectional", [False, True])
def test_padding_changes_nothing_and_gives_zeros(bidirectional):
    module = encoder(bidirectional)
    ids = torch.tensor([[5, 6, 7, 0], [8, 0, 0, 0], [0, 0, 0, 0]])
    whole, alone = module(ids), module(ids[1:2, :1])
    if bidirectional:
        assert not whole[1, 1:].any()
        alone, whole = alone[0, 0], torch.stack([whole[0, 0], whole[1, 0], whole[2, 0]])
    assert_close(whole[1], alone.flatten(), atol=1e-6, rtol=1e-6)
    assert not whole[2].any()


def test_an_instruction_without_words_and_other_vocabularies_are_errors():
    ids = torch.tensor([[5, 6], [0, 0]])
    check_words(ids, 10, row_mask=torch.tensor([True, False]))
    with pytest.raises(ValueError, match=r"found no word in row\(s\) \[1\]"):
        check_words(ids, 10)
    with pytest.raises(ValueError, match="found 6, expected ids below vocab_size=6"):
        check_words(ids[:1], 6)
