"""Computation without padding: the samples of a batch one after the other in one row.

Batches, heads and losses keep their rows of L columns; only the language model reads one row of T
tokens, in which positions start anew with each sample and no sample sees another. transformers'
flash-attention finds the samples by these positions. SDPA would compute the whole T x T square and
hide what lies outside the block-diagonal causal mask; `by_sample` computes its blocks alone.

Legend: B samples, L columns, T tokens of all samples, H heads, D width.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface, Cache, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

BY_SAMPLE = "sdpa_by_sample"


def by_sample(module, query, key, value, attention_mask, position_ids=None, **kwargs):
    """SDPA, sample by sample if the samples are in one row: (B, T, H, D / H), None.

    `position_ids` (B, T) start at 0 with each sample; the others are as in every attention function
    of transformers.
    """
    if position_ids is None or len(query) > 1 or query.shape[2] != key.shape[2]:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    starts = (position_ids[0] == 0).nonzero().flatten().tolist()
    ends = [*starts[1:], query.shape[2]]
    lengths = [end - start for start, end in zip(starts, ends, strict=True)]
    if len(lengths) == 1:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    parts = [states.split(lengths, dim=2) for states in (query, key, value)]
    seen = [
        sdpa_attention_forward(module, q, k, v, None, **kwargs)[0]
        for q, k, v in zip(*parts, strict=True)
    ]
    return torch.cat(seen, dim=1), None


AttentionInterface.register(BY_SAMPLE, by_sample)
AttentionMaskInterface.register(BY_SAMPLE, sdpa_mask)


def attend_by_sample(language_model: PreTrainedModel) -> None:
    """Make the attention of `language_model` one that knows samples in a row.

    Raises ValueError if it has none.
    """
    config: Any = language_model.config
    if "sliding_attention" in (getattr(config, "layer_types", None) or ()):
        raise ValueError("Samples in a row: found sliding attention, expected full attention.")
    found = config._attn_implementation
    if found == "sdpa":
        language_model.set_attn_implementation(BY_SAMPLE)
    elif found != BY_SAMPLE and not found.startswith("flash_attention"):
        raise ValueError(
            f"attn_implementation: found {found}, expected sdpa or flash_attention_2, which can "
            "read samples in a row."
        )


def read_in_a_row(
    vlm: Any,
    attention_mask: Tensor,
    positions: Tensor,
    past_key_values: Cache | None = None,
    **inputs: Tensor | None,
) -> Tensor:
    """The last hidden states (B, L, D) of `vlm`, 0 at padding, computed without it.

    `attention_mask` (B, L), M-RoPE `positions` (3, B, L); `inputs` are `vlm`'s arguments, of which
    `input_ids` (B, L) or `inputs_embeds` (B, L, D) are put in a row. An empty cache
    `past_key_values` is filled with rows of L columns again.
    """
    is_token = attention_mask.bool()
    for name in {"input_ids", "inputs_embeds"} & inputs.keys():
        inputs[name] = inputs[name][is_token][None]  # type: ignore[index]
    in_sample = is_token.long().cumsum(1) - 1
    in_row = torch.cat([in_sample[None], positions])[:, is_token][:, None]  # (4, 1, T)
    hidden = vlm(
        position_ids=in_row,
        past_key_values=past_key_values,
        use_cache=past_key_values is not None,
        **inputs,
    ).last_hidden_state
    for layer in [] if past_key_values is None else past_key_values.layers:
        layer.keys, layer.values = (
            _in_rows(states[0].transpose(0, 1), is_token).transpose(1, 2)
            for states in (layer.keys, layer.values)
        )
    return _in_rows(hidden[0], is_token)


def _in_rows(tokens: Tensor, is_token: Tensor) -> Tensor:
    """(T, ...) as (B, L, ...), 0 where `is_token` (B, L) is False."""
    rows = tokens.new_zeros(*is_token.shape, *tokens.shape[1:])
    return rows.index_put(is_token.nonzero(as_tuple=True), tokens)
