"""Noise predictor of RDP: a transformer decoder over the displacements to come.

As in diffusion policy (arXiv 2303.04137): the condition and the diffusion step pass an encoder, to
whose output the decoder attends; the decoder is causal. Differs from the published code: the
encoder's output does not depend on the noisy displacements, so that sampling computes it for all
diffusion steps at once, as keys and values; masked tokens are really masked ("drop"), unless the
configuration has the published mask, which adds 1 to their logits ("additive").

Legend: B rows, K diffusion steps of each, H horizon, N condition tokens, C width of a condition, E
width of the decoder, L layers.
"""

import torch
from diffusers.models.embeddings import get_timestep_embedding
from einops import rearrange, repeat
from torch import Tensor, nn

from internnav_hf.models.common.diffusion import (
    NUM_ACTION_CHANNELS,
    ancestral_step,
    noise_schedule,
)
from internnav_hf.models.navdp.trunk import DenoiserLayer
from internnav_hf.models.rdp.config import RDPConfig
from internnav_hf.models.rdp.draws import num_chains

_BIAS_OF_DROPPED = {"additive": 1.0, "drop": -torch.inf}


class RDPDenoiser(nn.Module):
    """Predicts the noise in scaled displacements, or, without diffusion, displacements."""

    def __init__(self, config: RDPConfig, num_condition_tokens: int):
        super().__init__()
        width, heads = config.denoiser_hidden_size, config.num_denoiser_attention_heads
        self.bias_of_dropped = _BIAS_OF_DROPPED[config.guidance_mask]
        self.use_diffusion = config.use_diffusion
        self.action_queries = None
        if not config.use_diffusion:
            self.action_queries = nn.Parameter(torch.empty(config.action_horizon, width))
        num_channels = NUM_ACTION_CHANNELS if config.use_diffusion else width
        self.action_embedding = nn.Linear(num_channels, width)
        self.action_positions = nn.Embedding(config.action_horizon, width)
        self.condition_embedding = nn.Linear(config.hidden_size, width)
        self.condition_positions = nn.Embedding(1 + num_condition_tokens, width)
        self.dropout = nn.Dropout(config.embedding_dropout)
        sizes = (width, heads, 4 * width, config.denoiser_dropout)
        kind = {"activation": "gelu", "batch_first": True, "norm_first": True}
        self.condition_layers = nn.ModuleList(
            nn.TransformerEncoderLayer(*sizes, **kind) for _ in range(config.num_condition_layers)
        )
        self.layers = nn.ModuleList(
            DenoiserLayer(*sizes, **kind) for _ in range(config.num_denoiser_layers)
        )
        self.norm = nn.LayerNorm(width)
        self.action_head = nn.Linear(width, NUM_ACTION_CHANNELS)

    def read(self, condition: Tensor, kinds: Tensor, timesteps: Tensor | None) -> Tensor:
        """Keys and values (L, 2, B * K, heads, 1 + N, E / heads) for `forward`.

        `condition` (B, N, C); `kinds` (N, E) are embeddings of its tokens' kinds; `timesteps`
        (B, K), None without diffusion, when K is 1 and there is no time token.
        """
        memory = self.encode(condition, kinds, timesteps)
        return torch.stack([layer.read(memory) for layer in self.layers])  # pyright: ignore[reportCallIssue]

    def encode(self, condition: Tensor, kinds: Tensor, timesteps: Tensor | None) -> Tensor:
        """(B * K, 1 + N, E): the decoder's memory; arguments as in `read`."""
        tokens = self.condition_embedding(condition) + kinds
        if timesteps is not None:
            num_times = timesteps.shape[1]
            tokens = tokens.repeat_interleave(num_times, dim=0)
            times = self.time_tokens(rearrange(timesteps, "b k -> (b k)"))
            tokens = torch.cat([times, tokens], dim=1)
        tokens = self.dropout(tokens + self.condition_positions.weight[: tokens.shape[1]])
        for layer in self.condition_layers:
            tokens = layer(tokens)
        return tokens

    def forward(
        self, noisy: Tensor | None, memory: Tensor, dropped: Tensor | None = None
    ) -> Tensor:
        """(B, H, 3): the noise in `noisy` (B, H, 3); without diffusion (None), the displacements.

        `memory` comes from `read`; `dropped` (B, 1 + N) is True at tokens to mask.
        """
        if self.action_queries is None:
            inputs = noisy
        else:
            inputs = self.action_queries.expand(memory.shape[2], -1, -1)
        hidden = self.action_embedding(inputs.to(self.action_embedding.weight.dtype))
        hidden = self.dropout(hidden + self.action_positions.weight)
        bias = None
        if dropped is not None:
            zeros = torch.zeros_like(dropped, dtype=hidden.dtype)
            bias = zeros.masked_fill(dropped, self.bias_of_dropped)[:, None, None]
        for layer, (keys, values) in zip(self.layers, memory, strict=True):
            hidden = layer(hidden, keys, values, logit_bias=bias)
        return self.action_head(self.norm(hidden)).float()

    def time_tokens(self, timesteps: Tensor) -> Tensor:
        """Time tokens (B, 1, E) for diffusion steps (B,)."""
        weight = self.condition_positions.weight
        code = get_timestep_embedding(
            timesteps, weight.shape[1], flip_sin_to_cos=False, downscale_freq_shift=1
        )
        return code[:, None].to(weight.dtype)


def denoise_guided(
    denoiser: RDPDenoiser,
    condition: Tensor,
    kinds: Tensor,
    droppable: Tensor,
    noise: Tensor,
    step_noise: Tensor,
    config: RDPConfig,
) -> Tensor:
    """Scaled displacements (B, H, 3) from `noise` (B, H, 3), with classifier-free guidance.

    `droppable` (1 + N,) are the tokens masked in the unconditional branch; `step_noise`
    (K - 1, S, B, H, 3) is added between the diffusion steps, with S from `num_chains`.
    """
    schedule = noise_schedule(config.num_diffusion_steps)
    schedule.set_timesteps(config.num_diffusion_steps, device=noise.device)
    times = schedule.timesteps.tolist()
    memory = denoiser.read(condition, kinds, schedule.timesteps.expand(len(noise), -1))
    memory = rearrange(memory, "l two (b k) h n d -> k l two b h n d", k=len(times))
    chains = repeat(noise, "b h c -> (s b) h c", s=num_chains(config))
    dropped = torch.stack([torch.zeros_like(droppable), droppable])
    dropped = dropped.repeat_interleave(len(noise), dim=0)
    for index, time in enumerate(times):
        is_last = index == len(times) - 1
        if is_last:
            chains = chains[: len(noise)]
        if config.guidance_scale == 1 or (is_last and config.guidance_drifts):
            predicted = denoiser(chains, memory[index])
        else:
            both = repeat(memory[index], "l two b h n d -> l two (s b) h n d", s=2)
            rows = chains if len(chains) == len(dropped) else torch.cat([chains, chains])
            with_it, without = denoiser(rows, both, dropped).chunk(2)
            predicted = without + config.guidance_scale * (with_it - without)
            predicted = predicted.repeat(len(chains) // len(noise), 1, 1)
        added = torch.zeros_like(chains)
        if not is_last:
            added = rearrange(step_noise[index], "s b h c -> (s b) h c")
        chains = ancestral_step(schedule, predicted, time, chains, added)
    return chains
