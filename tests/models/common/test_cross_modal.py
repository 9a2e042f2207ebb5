"""Cross-modal encoders read what they are given, once, and nothing that is masked."""

import pytest
import torch
from torch.testing import assert_close
from transformers import PreTrainedConfig

from internnav_hf.models.common.cross_modal import CrossModalEncoder, init_small

B, T, Q, L, C = 2, 3, 4, 5, 16
MASK = torch.tensor([[True] * 5, [True, True, True, False, False]])


@pytest.fixture(params=[1, 2])
def encoder(request) -> CrossModalEncoder:
    torch.manual_seed(0)
    sizes = {"num_cross_modal_layers": request.param, "num_cross_modal_attention_heads": 2}
    sizes |= {"cross_modal_intermediate_size": 24, "cross_modal_dropout": 0.1}
    return CrossModalEncoder(PreTrainedConfig(hidden_size=C, **sizes)).eval()


@pytest.fixture
def tokens() -> torch.Tensor:
    return torch.randn(B, T, Q, C, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def text() -> torch.Tensor:
    return torch.randn(B, L, C, generator=torch.Generator().manual_seed(2))


def test_steps_read_their_instruction_as_if_alone(encoder, tokens, text):
    together = encoder.read_text(tokens, text, MASK)
    for row in range(B):
        for step in range(T):
            one = tokens[row : row + 1, step : step + 1]
            alone = encoder.read_text(one, text[row : row + 1], MASK[row : row + 1])
            assert_close(together[row, step], alone[0, 0], atol=1e-6, rtol=0)


def test_the_first_word_is_as_if_all_were_computed(encoder, tokens, text):
    episodes = torch.tensor([0, 0, 1])
    seen = tokens.flatten(0, 1)[:3]
    found = encoder.summarise_text(text, MASK, seen, episodes)
    hidden, mask = text[episodes], MASK[episodes]
    bias = torch.zeros(3, 1, 1, L).masked_fill(~mask[:, None, None], -10000)
    for layer in encoder.layers:
        hidden = layer.read(layer.attention(hidden, bias)[0], seen)
    assert_close(found, hidden[:, 0], atol=1e-6, rtol=0)


def test_padding_is_not_read(encoder, tokens, text):
    changed = text.masked_fill(~MASK[..., None], 7.0)
    found, expected = (encoder.read_text(tokens, words, MASK) for words in (changed, text))
    assert_close(found, expected, atol=1e-6, rtol=0)
    episodes = torch.arange(B)
    found, expected = (
        encoder.summarise_text(words, MASK, tokens[:, 0], episodes) for words in (changed, text)
    )
    assert_close(found, expected, atol=1e-6, rtol=0)


def test_weights_start_small(encoder):
    with torch.no_grad():
        init_small(encoder)
    for name, parameter in encoder.named_parameters():
        if "LayerNorm" in name:
            assert (parameter == float(name.endswith("weight"))).all()
        elif name.endswith("bias"):
            assert not parameter.any()
        else:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.2)
