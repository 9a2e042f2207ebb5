"""NoMaD's denoiser: diffusion policy's conditional U-Net (arXiv 2303.04137) of diffusers' parts.

Legend: B rows, H horizon, C width of a condition, D channels of a stage.
"""

import torch
from diffusers.models.downsampling import Downsample1D
from diffusers.models.embeddings import get_timestep_embedding
from diffusers.models.resnet import Conv1dBlock, ResidualTemporalBlock1D
from diffusers.models.upsampling import Upsample1D
from einops import rearrange
from torch import Tensor, nn

from internnav_hf.models.gnm.config import NoMaDConfig

NUM_CHANNELS = 2  # dx, dy


class Denoiser(nn.Module):
    """Predicts the noise in scaled steps, given a condition and the diffusion step."""

    def __init__(self, config: NoMaDConfig):
        super().__init__()
        self.time_size = config.time_size
        self.time_layers = nn.Sequential(
            nn.Linear(config.time_size, 4 * config.time_size),
            nn.Mish(),
            nn.Linear(4 * config.time_size, config.time_size),
        )
        sizes, kernel = config.denoiser_sizes, config.denoiser_kernel_size
        condition_size = config.time_size + config.hidden_size

        def pair(a: int, b: int, resize: nn.Module | None = None) -> nn.ModuleList:
            blocks = [
                ResidualTemporalBlock1D(size, b, condition_size, kernel_size=kernel)
                for size in (a, b)
            ]
            return nn.ModuleList(blocks if resize is None else [*blocks, resize])

        resizes = [Downsample1D(size, use_conv=True) for size in sizes[:-1]] + [nn.Identity()]
        downs = zip((NUM_CHANNELS, *sizes), sizes, resizes, strict=False)
        self.downs = nn.ModuleList(pair(*stage) for stage in downs)
        self.middle = pair(sizes[-1], sizes[-1])
        ups = list(zip(sizes[:0:-1], sizes[-2::-1], strict=True))
        self.ups = nn.ModuleList(
            pair(2 * a, b, Upsample1D(b, use_conv_transpose=True)) for a, b in ups
        )
        self.top = nn.Sequential(
            Conv1dBlock(sizes[0], sizes[0], kernel), nn.Conv1d(sizes[0], NUM_CHANNELS, 1)
        )

    def forward(self, noisy: Tensor, timesteps: Tensor, condition: Tensor) -> Tensor:
        """The noise (B, H, 2), float32, in `noisy` (B, H, 2) at `timesteps` (B,), for `condition`
        (B, C).
        """
        code = get_timestep_embedding(timesteps, self.time_size, downscale_freq_shift=1)
        time = self.time_layers(code.to(condition.dtype))
        given = torch.cat([time, condition], dim=-1)
        hidden, kept = rearrange(noisy.to(condition.dtype), "b h d -> b d h"), []
        for first, second, resize in self.downs:  # pyright: ignore[reportGeneralTypeIssues]
            hidden = second(first(hidden, given), given)
            kept.append(hidden)
            hidden = resize(hidden)
        for block in self.middle:
            hidden = block(hidden, given)
        for first, second, resize in self.ups:  # pyright: ignore[reportGeneralTypeIssues]
            hidden = torch.cat([hidden, kept.pop()], dim=1)
            hidden = resize(second(first(hidden, given), given))
        return rearrange(self.top(hidden), "b d h -> b h d").float()
