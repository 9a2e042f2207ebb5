"""Memory of the NextDiT action expert: two views as a few tokens.

From DualVLN (arXiv 2512.08186): a small encoder relates the tokens of the view of the decision to
those of the current one; learned queries attend to each token concatenated with its encoder output.

Legend: B batch, V views, P patches of a view, C width of the encoder's tokens, K queries.
"""

import torch
from einops import rearrange
from torch import Tensor, nn

from internnav_hf.models.dual_system.action_expert import NUM_VIEWS
from internnav_hf.models.nextdit.config import NextDiTConfig


class MemoryEncoder(nn.Module):
    """Relates the tokens of all views to each other."""

    def __init__(self, config: NextDiTConfig):
        super().__init__()
        width = config.vision_config.hidden_size
        num_tokens = NUM_VIEWS * (config.image_size // config.vision_config.patch_size) ** 2
        self.positions = nn.Parameter(torch.randn(num_tokens, width))
        sizes = (width, config.num_memory_heads, config.memory_intermediate_size, config.dropout)
        layer = nn.TransformerEncoderLayer(*sizes, batch_first=True)
        self.encoder = nn.TransformerEncoder(
            layer, config.num_memory_layers, enable_nested_tensor=False
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, V P, C) of `tokens` (B, V P, C)."""
        return self.encoder(tokens + self.positions)


class QueryResampler(nn.Module):
    """A fixed number of tokens from any number."""

    def __init__(self, config: NextDiTConfig):
        super().__init__()
        width = config.condition_size
        self.queries = nn.Parameter(torch.randn(config.num_resampler_queries, width))
        self.positions = nn.Parameter(torch.randn(config.num_resampler_queries, width))
        sizes = (config.num_resampler_heads, config.resampler_intermediate_size, config.dropout)
        layer = nn.TransformerDecoderLayer(width, *sizes, batch_first=True)
        self.decoder = nn.TransformerDecoder(layer, config.num_resampler_layers)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, K, 2 C) of `tokens` (B, V P, 2 C)."""
        queries = (self.queries + self.positions).expand(len(tokens), -1, -1)
        return self.decoder(queries, tokens)


class RGBMemory(nn.Module):
    """Memory encoder and resampler."""

    def __init__(self, config: NextDiTConfig):
        super().__init__()
        self.encoder = MemoryEncoder(config)
        self.resampler = QueryResampler(config)

    def forward(self, views: Tensor) -> Tensor:
        """(B, K, 2 C) of the tokens `views` (B, V, P, C)."""
        tokens = rearrange(views, "b v p c -> b (v p) c")
        return self.resampler(torch.cat([tokens, self.encoder(tokens)], dim=-1))
