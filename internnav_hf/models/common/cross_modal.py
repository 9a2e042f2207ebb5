"""Cross-modal encoder of RDP: BERT's layers, self-attention followed by cross-attention.

The parts are transformers'. Differs from the published code: steps of an episode share the keys
and values of its instruction and the instruction's self-attention, and unused tokens are not
computed.

Legend: B episodes, T steps, R rows, each a step of an episode, Q query tokens, L tokens of an
instruction, C width.
"""

from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from transformers import BertConfig, PreTrainedConfig
from transformers import initialization as init
from transformers.models.bert.modeling_bert import BertAttention, BertIntermediate, BertOutput

_HIDDEN = -10000.0  # added to masked logits


class CrossModalEncoder(nn.Module):
    """Layers in which tokens attend to their own sequence, then to the other modality."""

    def __init__(self, config: PreTrainedConfig):
        """`config` has `hidden_size` and the fields `cross_modal_*` and `num_cross_modal_*`."""
        super().__init__()
        bert = BertConfig(
            hidden_size=config.hidden_size,
            num_attention_heads=config.num_cross_modal_attention_heads,
            intermediate_size=config.cross_modal_intermediate_size,
            hidden_dropout_prob=config.cross_modal_dropout,
            attention_probs_dropout_prob=config.cross_modal_dropout,
            layer_norm_eps=1e-5,
            attn_implementation="sdpa",  # pyright: ignore[reportCallIssue]
        )
        layers = range(config.num_cross_modal_layers)
        self.layers = nn.ModuleList(CrossModalLayer(bert) for _ in layers)

    def read_text(self, tokens: Tensor, text: Tensor, text_mask: Tensor) -> Tensor:
        """(B, T, Q, C): `tokens` (B, T, Q, C) after attending to their instruction `text`
        (B, L, C), which is valid where `text_mask` (B, L).
        """
        num_steps, mask = tokens.shape[1], _additive(text_mask, text)
        layer: Any
        for layer in self.layers:
            rows = layer.attention(rearrange(tokens, "b t q c -> (b t) q c"))[0]
            joint = rearrange(rows, "(b t) q c -> b (t q) c", t=num_steps)
            joint = layer.read(joint, text, mask)
            tokens = rearrange(joint, "b (t q) c -> b t q c", t=num_steps)
        return tokens

    def summarise_text(
        self, text: Tensor, text_mask: Tensor, tokens: Tensor, episodes: Tensor
    ) -> Tensor:
        """(R, C): the first token of `text` (B, L, C), after `text` attends to `tokens` (R, Q, C).

        `episodes` (R,) is the index of each row's instruction.
        """
        hidden, mask = text, _additive(text_mask, text)
        layer: Any
        for index, layer in enumerate(self.layers):
            attended = layer.attention.self(hidden, mask)[0]
            if index == len(self.layers) - 1:
                attended, hidden = attended[:, :1], hidden[:, :1]
            hidden = layer.attention.output(attended, hidden)
            if index == 0:  # up to here, all steps of an episode share the result
                hidden, mask = hidden[episodes], mask[episodes]
            hidden = layer.read(hidden, tokens)
        return hidden[:, 0]


class CrossModalLayer(nn.Module):
    """Self-attention, cross-attention and MLP, each with a LayerNorm after it."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.attention = BertAttention(config)
        self.crossattention = BertAttention(config, is_cross_attention=True)
        self.intermediate = BertIntermediate(config)
        self.output = BertOutput(config)

    def read(self, hidden: Tensor, source: Tensor, mask: Tensor | None = None) -> Tensor:
        """(N, Q, C): all but the self-attention, from `hidden` (N, Q, C) to `source` (N, K, C)."""
        hidden = self.crossattention(hidden, None, source, mask)[0]
        return self.output(self.intermediate(hidden), hidden)


def init_small(module: nn.Module) -> None:
    """As published: weights of standard deviation 0.02, zero biases, identity LayerNorms."""
    for part in module.modules():
        if isinstance(part, nn.LayerNorm):
            init.ones_(part.weight)
            init.zeros_(part.bias)
            continue
        for name, parameter in part.named_parameters(recurse=False):
            if name.endswith("bias"):
                init.zeros_(parameter)
            else:
                init.normal_(parameter, std=0.02)


def _additive(mask: Tensor, like: Tensor) -> Tensor:
    """(B, 1, 1, L) to be added to the keys' logits; `mask` (B, L) is True at valid keys."""
    zeros = torch.zeros_like(mask, dtype=like.dtype)
    return zeros.masked_fill(~mask, _HIDDEN)[:, None, None]
