"""Parts shared by NavDP (arXiv 2505.08712) and NavDP*, the action expert of InternVLA-N1.

`RGBDEncoder` makes a few tokens of any number of colour and depth frames, `TokenCompressor` makes
one of a plan, `Denoiser` is a transformer decoder over the steps of a trajectory, causal if it
predicts noise, and `denoise` is the sampling loop. Differs from the published code: the condition
reaches the denoiser as keys and values, so that sampling computes once what steps and samples
share; learned tables start small and random instead of at zero, at which all queries of the encoder
would be identical but for dropout.

Every part reads its sizes from a `NavDPTrunkConfig`.

Legend: B decisions, S samples of each, R rows to denoise (B of them, or B * S), H horizon, N tokens
of a condition, C width, F frames, P patch tokens of a frame, Q queries, L layers, T diffusion
steps.
"""

import torch
import torch.nn.functional as F
from diffusers.models.embeddings import get_timestep_embedding
from diffusers.utils.torch_utils import randn_tensor
from einops import rearrange, repeat
from torch import Tensor, nn
from transformers import PreTrainedModel

from internnav_hf.models.common.diffusion import (
    NUM_ACTION_CHANNELS,
    ancestral_step,
    noise_schedule,
)
from internnav_hf.models.common.dino import DinoEncoder, to_unit
from internnav_hf.models.navdp.config import NavDPTrunkConfig


class TrunkModel(PreTrainedModel):
    """The base of both models. Linear layers start as torch's own, as published."""

    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _no_split_modules = ["Dinov2Layer", "DenoiserLayer"]

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            module.reset_parameters()
        else:
            super()._init_weights(module)


class RGBDEncoder(nn.Module):
    """Tokens (B, Q, C) of colour and depth frames: two DINOv2, and queries that attend to both.

    Unless `config.train_rgb_encoder`, the colour encoder is frozen and runs without gradient.
    """

    def __init__(self, config: NavDPTrunkConfig, num_rgb_frames: int, num_depth_frames: int):
        super().__init__()
        width, size = config.hidden_size, config.image_size
        self.train_rgb_encoder = config.train_rgb_encoder
        self.rgb_encoder = DinoEncoder(config.vision_config)
        self.depth_encoder = DinoEncoder(config.depth_vision_config, normalise=False)
        num_tokens = num_rgb_frames * (size // config.vision_config.patch_size) ** 2
        num_tokens += num_depth_frames * (size // config.depth_vision_config.patch_size) ** 2
        self.positions = nn.Embedding(num_tokens, width)
        self.queries = nn.Embedding(config.num_rgbd_queries, width)
        sizes = (config.num_rgbd_attention_heads, config.rgbd_intermediate_size, config.dropout)
        layer = nn.TransformerDecoderLayer(width, *sizes, batch_first=True)
        self.decoder = nn.TransformerDecoder(layer, config.num_rgbd_layers)
        self.projection = nn.Linear(width, width)

    def train(self, mode: bool = True):
        """As usual, and freeze the colour encoder again, which loading made trainable."""
        super().train(mode)
        if not self.train_rgb_encoder:
            self.rgb_encoder.requires_grad_(False)
        return self

    def encode_rgb(self, rgb: Tensor) -> Tensor:
        """Tokens (F, P, C) of `rgb` (F, 3, S, S), bytes or floats in [0, 1]."""
        with torch.set_grad_enabled(self.train_rgb_encoder and torch.is_grad_enabled()):
            return self.rgb_encoder(to_unit(rgb))

    def encode_depth(self, depth: Tensor) -> Tensor:
        """Tokens (F, P, C) of `depth` (F, S, S) in metres."""
        num_channels = self.depth_encoder.config.num_channels
        return self.depth_encoder(repeat(depth, "f h w -> f c h w", c=num_channels))

    def forward(self, rgb_tokens: Tensor, depth_tokens: Tensor) -> Tensor:
        """(B, Q, C) from the tokens of `encode_rgb` and `encode_depth`, each (B, F, P, C)."""
        tokens = [rearrange(part, "b f p c -> b (f p) c") for part in (rgb_tokens, depth_tokens)]
        memory = torch.cat(tokens, dim=1) + self.positions.weight
        queries = self.queries.weight.expand(len(memory), -1, -1)
        return self.projection(self.decoder(queries, memory))


class TokenCompressor(nn.Module):
    """Attends from a learned query to at most `num_positions` tokens."""

    def __init__(self, hidden_size: int, num_attention_heads: int, num_positions: int = 5000):
        super().__init__()
        self.queries = nn.Embedding(1, hidden_size)
        self.query_positions = nn.Embedding(num_positions, hidden_size)
        self.token_positions = nn.Embedding(num_positions, hidden_size)
        self.attention = nn.MultiheadAttention(hidden_size, num_attention_heads, batch_first=True)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, 1, C) from `tokens` (B, N, C); `mask` (B, N) is True at valid tokens."""
        queries = self.queries.weight + self.query_positions.weight[:1]
        tokens = tokens + self.token_positions.weight[: tokens.shape[1]]
        queries, ignored = queries.expand(len(tokens), -1, -1), None if mask is None else ~mask
        settings = {"key_padding_mask": ignored, "need_weights": False}
        return self.attention(queries, tokens, tokens, **settings)[0]


class Denoiser(nn.Module):
    """Predicts the noise in trajectories, or summarises them: a pre-norm decoder.

    The first token of a condition is the code of the diffusion step.
    """

    def __init__(self, config: NavDPTrunkConfig, num_condition_tokens: int):
        super().__init__()
        width = config.hidden_size
        self.action_embedding = nn.Linear(NUM_ACTION_CHANNELS, width)
        self.action_positions = nn.Embedding(config.action_horizon, width)
        self.condition_positions = nn.Embedding(num_condition_tokens, width)
        sizes = (width, config.num_attention_heads, config.intermediate_size, config.dropout)
        kind = {"activation": "gelu", "batch_first": True, "norm_first": True}
        self.layers = nn.ModuleList(
            DenoiserLayer(*sizes, **kind) for _ in range(config.num_hidden_layers)
        )
        self.norm = nn.LayerNorm(width)
        self.action_head = nn.Linear(width, NUM_ACTION_CHANNELS)

    def forward(self, noisy: Tensor, condition: Tensor) -> Tensor:
        """The noise (R, H, 3) in `noisy` (R, H, 3), scaled actions.

        `condition` comes from `read`, for R rows, or for B if rows of a decision are adjacent.
        """
        return self.action_head(self._decode(self._embed(noisy), condition)).float()

    def summarise(self, actions: Tensor, condition: Tensor) -> Tensor:
        """(R, C): a critic's features of whole scaled trajectories `actions` (R, H, 3).

        As published, no gradient flows from a critic to the embedding of actions.
        """
        hidden = self._embed(actions, detached=True)
        return self._decode(hidden, condition, is_causal=False).mean(1)

    def _embed(self, actions: Tensor, detached: bool = False) -> Tensor:
        hidden = self.action_embedding(actions.to(self.action_embedding.weight.dtype))
        return (hidden.detach() if detached else hidden) + self.action_positions.weight

    def _decode(self, hidden: Tensor, condition: Tensor, is_causal: bool = True) -> Tensor:
        for layer, (keys, values) in zip(self.layers, condition, strict=True):
            hidden = layer(hidden, keys, values, is_causal)
        return self.norm(hidden)

    def read(self, tokens: Tensor, start: int = 0) -> Tensor:
        """Keys and values (L, 2, B, heads, N, C / heads) of `tokens` (B, N, C), the part of the
        condition that begins at slot `start`.
        """
        positions = self.condition_positions.weight[start : start + tokens.shape[1]]
        tokens = tokens + positions
        return torch.stack([layer.read(tokens) for layer in self.layers])  # pyright: ignore[reportCallIssue]

    def time_tokens(self, timesteps: Tensor) -> Tensor:
        """(B, 1, C): the first token of a condition, for diffusion steps (B,)."""
        weight = self.condition_positions.weight
        code = get_timestep_embedding(timesteps, weight.shape[1], downscale_freq_shift=1)
        return code[:, None].to(weight.dtype)


class DenoiserLayer(nn.TransformerDecoderLayer):
    """torch's pre-norm layer, whose condition comes as keys and values.

    Rows that share a condition attend to it as one long query: it is never copied for them.
    """

    def forward(
        self,
        hidden: Tensor,
        keys: Tensor,
        values: Tensor,
        is_causal: bool = True,
        logit_bias: Tensor | None = None,
    ) -> Tensor:
        """(R, H, C) from `hidden` (R, H, C), `keys` and `values` (B, heads, N, C / heads).

        `logit_bias` (B, 1, 1, N) is added to the logits of the condition.
        """
        hidden = hidden + self.dropout1(self._attend_to_steps(self.norm1(hidden), is_causal))
        attended = self._attend_to(keys, values, self.norm2(hidden), logit_bias)
        hidden = hidden + self.dropout2(attended)
        first, second = self.linear1, self.linear2
        inner = self.activation(_linear(self.norm3(hidden), first.weight, first.bias))
        inner = _linear(self.dropout(inner), second.weight, second.bias)
        return hidden + self.dropout3(inner)

    def read(self, tokens: Tensor) -> Tensor:
        """(2, B, heads, N, C / heads): keys and values of `tokens` (B, N, C)."""
        attention, width = self.multihead_attn, tokens.shape[-1]
        both = _linear(tokens, attention.in_proj_weight[width:], attention.in_proj_bias[width:])
        return rearrange(both, "b n (two h d) -> two b h n d", two=2, h=attention.num_heads)

    def _attend_to_steps(self, hidden: Tensor, is_causal: bool) -> Tensor:
        attention = self.self_attn
        joint = _linear(hidden, attention.in_proj_weight, attention.in_proj_bias)
        queries, keys, values = rearrange(
            joint, "r n (three h d) -> three r h n d", three=3, h=attention.num_heads
        )
        dropout = attention.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(
            queries, keys, values, dropout_p=dropout, is_causal=is_causal
        )
        mixed = rearrange(mixed, "r h n d -> r n (h d)")
        return _linear(mixed, attention.out_proj.weight, attention.out_proj.bias)

    def _attend_to(
        self, keys: Tensor, values: Tensor, hidden: Tensor, logit_bias: Tensor | None
    ) -> Tensor:
        attention, width, length = self.multihead_attn, hidden.shape[-1], hidden.shape[1]
        queries = _linear(hidden, attention.in_proj_weight[:width], attention.in_proj_bias[:width])
        queries = rearrange(
            queries, "(b s) n (h d) -> b h (s n) d", b=len(keys), h=attention.num_heads
        )
        dropout = attention.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(queries, keys, values, logit_bias, dropout)
        mixed = rearrange(mixed, "b h (s n) d -> (b s) n (h d)", n=length)
        return _linear(mixed, attention.out_proj.weight, attention.out_proj.bias)


def _linear(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """`F.linear` of `hidden` (R, N, C).

    On a CPU without gradient, a 1x1 convolution: torch uses oneDNN for that, but MKL for matrix
    products, which on AMD's processors is half as fast.
    """
    if torch.is_grad_enabled() or hidden.device.type != "cpu" or hidden.dtype != torch.float32:
        return F.linear(hidden, weight, bias)
    image = rearrange(hidden, "r n c -> r c 1 n").contiguous(memory_format=torch.channels_last)
    return rearrange(F.conv2d(image, weight[..., None, None], bias), "r c 1 n -> r n c")


def denoise(
    denoiser: Denoiser,
    condition: Tensor,
    noise: Tensor,
    num_diffusion_steps: int,
    num_inference_steps: int | None = None,
    generator: torch.Generator | list[torch.Generator] | None = None,
    step_noise: Tensor | None = None,
) -> Tensor:
    """Scaled actions (B, S, H, 3) denoised from `noise` (B, S, H, 3).

    `condition` are the keys and values of all but the time token, `denoiser.read(tokens, start=1)`.
    `num_diffusion_steps` is the length of the noise schedule, of which all steps are taken, or
    `num_inference_steps`.
    `generator` may be a list with one for each of the B. `step_noise` (steps - 1, B, S, H, 3)
    replaces the noise that `generator` draws between the steps.
    """
    num_steps = num_diffusion_steps if num_inference_steps is None else num_inference_steps
    schedule = noise_schedule(num_diffusion_steps)
    schedule.set_timesteps(num_steps, device=noise.device)
    timesteps = schedule.timesteps
    times = denoiser.read(denoiser.time_tokens(timesteps))  # (L, 2, T, heads, 1, C / heads)
    sample, num_samples = noise, noise.shape[1]
    for index, timestep in enumerate(timesteps.tolist()):
        time = times[:, :, index : index + 1].expand(-1, -1, len(noise), -1, -1, -1)
        rows = rearrange(sample, "b s h c -> (b s) h c")
        predicted = denoiser(rows, torch.cat([time, condition], dim=-2))
        predicted = rearrange(predicted, "(b s) h c -> b s h c", s=num_samples)
        if index == len(timesteps) - 1:
            between = torch.zeros_like(sample)
        elif step_noise is not None:
            between = step_noise[index]
        else:
            between = randn_tensor(sample.shape, generator, sample.device, sample.dtype)
        sample = ancestral_step(schedule, predicted, timestep, sample, between)
    return sample
