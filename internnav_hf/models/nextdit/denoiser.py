"""The transformer that predicts the velocity of noisy trajectories, NextDiT of DualVLN.

From DualVLN (arXiv 2512.08186) on Lumina-Next (arXiv 2406.18583). As released: the feed-forward is
1024 wide, no rotary position is applied (steps have an additive position code), and self- and
cross-attention share one projection of their sum.

A `Context`, computed once, depends on one condition and a list of diffusion times; trajectory
samples of one condition share it without a copy.

Legend: R conditions, S samples of each, H steps of a trajectory, C width, N condition tokens,
K diffusion times, h heads, d width of a head.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from diffusers.models.attention import LuminaFeedForward
from diffusers.models.embeddings import (
    PixArtAlphaTextProjection,
    TimestepEmbedding,
    get_timestep_embedding,
)
from einops import rearrange
from torch import Tensor, nn

from internnav_hf.models.nextdit.config import NextDiTConfig

NORM_EPS = 1e-5
TIME_CHANNELS = 256


class BlockContext(NamedTuple):
    """The condition for one block: `modulation` four (R, K, 1, 1, C): scale before attention, gate
    after it, scale before the feed-forward, gate after it; `keys`, `values` (R, h, N, d), the
    values multiplied by the heads' gates.
    """

    modulation: tuple[Tensor, ...]
    keys: Tensor
    values: Tensor


class Context(NamedTuple):
    """The condition for the denoiser: for each block, and for the output, (R, K, 1, 1, C)."""

    blocks: list[BlockContext]
    output_scale: Tensor


class NextDiTDenoiser(nn.Module):
    """Velocity features of trajectory features, given condition tokens and diffusion times."""

    def __init__(self, config: NextDiTConfig):
        super().__init__()
        width = config.hidden_size
        self.condition_projection = PixArtAlphaTextProjection(config.condition_size, width)
        self.timestep_embedder = TimestepEmbedding(TIME_CHANNELS, width)
        self.condition_embedder = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width))
        self.layers = nn.ModuleList(NextDiTBlock(config) for _ in range(config.num_hidden_layers))
        self.output_modulation = nn.Linear(width, width)
        self.output_norm = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.output = nn.Linear(width, width)

    def context(self, condition: Tensor, timesteps: Tensor) -> Context:
        """Context of `condition` tokens (R, N, condition_size), `timesteps` (R or 1, K) 0 .. 1000.

        0 is the trajectory, 1000 is noise.
        """
        tokens = self.condition_projection(condition)
        embedding = F.silu(self.embedding(tokens, timesteps))
        blocks = [layer.context(tokens, embedding) for layer in self.layers]  # pyright: ignore[reportCallIssue]
        return Context(blocks, 1 + self.output_modulation(embedding)[:, :, None, None])

    def embedding(self, tokens: Tensor, timesteps: Tensor) -> Tensor:
        """(R, K, C): embedding of each diffusion time plus that of the mean projected `tokens`."""
        code = get_timestep_embedding(
            timesteps.flatten(), TIME_CHANNELS, flip_sin_to_cos=True, downscale_freq_shift=0
        )
        code = self.timestep_embedder(code.to(tokens.dtype)).unflatten(0, timesteps.shape)
        return code + self.condition_embedder(tokens.mean(1))[:, None]

    def forward(self, hidden: Tensor, context: Context, step: int = 0) -> Tensor:
        """(R, S, H, C) of `hidden` (R, S, H, C) at the context's diffusion time `step`."""
        for layer, block in zip(self.layers, context.blocks, strict=True):
            hidden = layer(hidden, block, step)
        return self.output(self.output_norm(hidden) * context.output_scale[:, step])


class NextDiTBlock(nn.Module):
    """Self- and cross-attention side by side, then a gated feed-forward."""

    def __init__(self, config: NextDiTConfig):
        super().__init__()
        width = config.hidden_size
        self.modulation = nn.Linear(width, 4 * width)
        self.attention_norm = nn.RMSNorm(width, NORM_EPS)
        self.condition_norm = nn.RMSNorm(width, NORM_EPS)
        self.self_attention = Projections(config)
        self.cross_attention = Projections(config)
        self.gate = nn.Parameter(torch.zeros(config.num_attention_heads))
        self.attention_output = nn.Linear(width, width, bias=False)
        self.attention_output_norm = nn.RMSNorm(width, NORM_EPS)
        self.feed_forward_norm = nn.RMSNorm(width, NORM_EPS)
        # Its SiLU is in float32. `multiple_of` 1 keeps the width as it is given.
        self.feed_forward = LuminaFeedForward(width, config.intermediate_size, multiple_of=1)
        self.feed_forward_output_norm = nn.RMSNorm(width, NORM_EPS)

    def context(self, tokens: Tensor, embedding: Tensor) -> BlockContext:
        """Context of projected condition `tokens` (R, N, C) and `embedding` (R, K, C)."""
        parts = self.modulation(embedding)[:, :, None, None].chunk(4, dim=-1)
        scale1, gate1, scale2, gate2 = parts
        tokens = self.condition_norm(tokens.to(self.condition_norm.weight.dtype))
        keys, values = self.cross_attention.keys_values(tokens)
        return BlockContext(
            modulation=(1 + scale1, gate1.tanh(), 1 + scale2, gate2.tanh()),
            keys=keys,
            values=values * self.gate.tanh()[:, None, None],
        )

    def forward(self, hidden: Tensor, context: BlockContext, step: int) -> Tensor:
        """(R, S, H, C) of `hidden` (R, S, H, C) at diffusion time `step`."""
        scale1, gate1, scale2, gate2 = (part[:, step] for part in context.modulation)
        update = self.attend(self.attention_norm(hidden) * scale1, context)
        update = self.attention_output_norm(update.to(hidden.dtype))
        hidden = torch.addcmul(hidden, gate1.to(hidden.dtype), update)
        update = self.feed_forward(self.feed_forward_norm(hidden) * scale2)
        update = self.feed_forward_output_norm(update.to(hidden.dtype))
        return torch.addcmul(hidden, gate2.to(hidden.dtype), update)

    def attend(self, hidden: Tensor, context: BlockContext) -> Tensor:
        """Steps attend to their own trajectory, and through gates to the condition."""
        num_samples = hidden.shape[1]
        steps = rearrange(hidden, "r s n c -> (r s) n c")
        own = F.scaled_dot_product_attention(
            self.self_attention.queries(steps), *self.self_attention.keys_values(steps)
        )
        # All samples' steps are queries of one attention: the keys are not copied.
        steps = rearrange(hidden, "r s n c -> r (s n) c")
        seen = F.scaled_dot_product_attention(
            self.cross_attention.queries(steps), context.keys, context.values
        )
        own = rearrange(own, "(r s) h n d -> r s n (h d)", s=num_samples)
        seen = rearrange(seen, "r h (s n) d -> r s n (h d)", s=num_samples)
        return self.attention_output(own + seen)


class Projections(nn.Module):
    """Projections to queries, keys, values; queries and keys are normalised over all heads."""

    def __init__(self, config: NextDiTConfig):
        super().__init__()
        width = config.hidden_size
        self.num_heads = config.num_attention_heads
        self.to_queries = nn.Linear(width, width, bias=False)
        self.to_keys = nn.Linear(width, width, bias=False)
        self.to_values = nn.Linear(width, width, bias=False)
        self.query_norm = nn.LayerNorm(width)
        self.key_norm = nn.LayerNorm(width)

    def queries(self, hidden: Tensor) -> Tensor:
        """Queries (R, h, N, d) of `hidden` (R, N, C)."""
        return self._heads(self.query_norm(self.to_queries(hidden)))

    def keys_values(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (R, h, N, d) of `hidden` (R, N, C)."""
        keys = self.key_norm(self.to_keys(hidden))
        return self._heads(keys), self._heads(self.to_values(hidden))

    def _heads(self, hidden: Tensor) -> Tensor:
        return rearrange(hidden, "r n (h d) -> r h n d", h=self.num_heads)
