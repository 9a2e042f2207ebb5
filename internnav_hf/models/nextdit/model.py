"""The action expert of DualVLN (arXiv 2512.08186): flow matching with a NextDiT denoiser.

A trajectory is denoised while it attends to System2's plan and to a few tokens of the view of the
decision and the current one. Differs from the release: samples of one condition share it; the
unconditional branch, which has no effect at the release's guidance scale of 1, runs only if
guidance is requested.

Legend as in `action_expert`, N being the patches of a view, and K tokens of a condition.
"""

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.models.embeddings import get_timestep_embedding
from einops import rearrange
from torch import Tensor, nn
from transformers import initialization as init

from internnav_hf.models.common.diffusion import NUM_ACTION_CHANNELS
from internnav_hf.models.common.dino import DinoEncoder, to_unit
from internnav_hf.models.common.draws import Draws
from internnav_hf.models.dual_system.action_expert import ActionExpert
from internnav_hf.models.nextdit.config import NextDiTConfig
from internnav_hf.models.nextdit.denoiser import Context, NextDiTBlock, NextDiTDenoiser
from internnav_hf.models.nextdit.memory import MemoryEncoder, QueryResampler, RGBMemory
from internnav_hf.models.nextdit.released import released_keys

NUM_TRAIN_TIMESTEPS = 1000


class NextDiTActionExpert(ActionExpert):
    """See the module. Depth is accepted and ignored."""

    config_class = NextDiTConfig
    config: NextDiTConfig
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _no_split_modules = ["Dinov2Layer", "NextDiTBlock"]
    released_keys = staticmethod(released_keys)

    def __init__(self, config: NextDiTConfig):
        super().__init__(config)
        width, condition_size = config.hidden_size, config.condition_size
        self.plan_projector = nn.Sequential(
            nn.Linear(config.plan_hidden_size, condition_size),
            nn.GELU(approximate="tanh"),
            nn.Linear(condition_size, condition_size),
        )
        if config.use_images:
            self.vision = DinoEncoder(config.vision_config)
            self.memory = RGBMemory(config)
        self.action_encoder = nn.Linear(NUM_ACTION_CHANNELS, width)
        self.denoiser = NextDiTDenoiser(config)
        self.action_decoder = nn.Linear(width, NUM_ACTION_CHANNELS)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Torch's defaults, as in the release; the gates of cross-attention start closed."""
        if isinstance(module, nn.Linear | nn.LayerNorm | nn.RMSNorm):
            module.reset_parameters()
        elif isinstance(module, nn.MultiheadAttention):
            module._reset_parameters()
        elif isinstance(module, NextDiTBlock):
            init.zeros_(module.gate)
        elif isinstance(module, MemoryEncoder):
            init.normal_(module.positions)
        elif isinstance(module, QueryResampler):
            init.normal_(module.queries)
            init.normal_(module.positions)

    @property
    def sees_views(self) -> bool:
        """Whether views are used; the older `nextdit` sees the plan only."""
        return self.config.use_images

    def encode(self, rgb: Tensor, depth: Tensor | None) -> Tensor:
        """Features (V, N, C) of `rgb` (V, 3, S, S)."""
        return self.vision(to_unit(rgb))

    def errors(self, plan, sample_of, views, target, noise, timesteps) -> Tensor:
        """See `ActionExpert`. `timesteps` are the diffusion times in 0 .. 1000."""
        draws = Draws(target, self.training)
        drawn_noise, uniform = draws.normal(*target.shape[1:]), draws.uniform()
        noise = drawn_noise if noise is None else noise
        if timesteps is None:
            timesteps = NUM_TRAIN_TIMESTEPS - (uniform * NUM_TRAIN_TIMESTEPS).floor()
        timesteps = timesteps.float()
        condition = self.condition(plan[sample_of], views)
        context = self.denoiser.context(condition, timesteps[:, None])
        sigma = timesteps[:, None, None] / NUM_TRAIN_TIMESTEPS
        noisy = sigma * noise + (1 - sigma) * target
        velocity = self.velocity(noisy[:, None], context)[:, 0]
        return (velocity - (noise - target)).square().mean((1, 2))

    def denoise(
        self, noise, plan, views, generator, guidance_scale=None, num_inference_steps=None
    ) -> Tensor:
        """See `ActionExpert`. The last two arguments default to the configuration's."""
        config, sample = self.config, noise
        scale = config.guidance_scale if guidance_scale is None else guidance_scale
        num_steps = num_inference_steps
        scheduler = noise_schedule(config.num_inference_steps if num_steps is None else num_steps)
        condition = self.condition(plan, views)
        # The release truncates to whole diffusion times.
        timesteps = scheduler.timesteps.long().to(sample.device)[None]
        context, null = self.denoiser.context(condition, timesteps), None
        if scale != 1:
            # All of the null condition's tokens are zero, so one stands for all.
            null = self.denoiser.context(condition.new_zeros(1, 1, condition.shape[-1]), timesteps)
        for step, time in enumerate(scheduler.timesteps):
            velocity = self.velocity(sample, context, step)
            if null is not None:
                free = self.velocity(rearrange(sample, "b s h c -> 1 (b s) h c"), null, step)
                free = free.view_as(velocity)
                velocity = free + scale * (velocity - free)
            sample = scheduler.step(velocity, time, sample).prev_sample
        return sample

    def condition(self, plan: Tensor, views: Tensor | None = None) -> Tensor:
        """(B, K, condition_size) tokens of `plan` (B, Q, D) and the features `views` (B, 2, N, C)
        of the view of the decision and the current one.
        """
        tokens = self.plan_projector(plan.to(self.dtype))
        return torch.cat([self.memory(views), tokens], dim=1) if self.sees_views else tokens

    def velocity(self, noisy: Tensor, context: Context, step: int = 0) -> Tensor:
        """Velocity (B, samples, H, 3) of `noisy` scaled actions at diffusion time index `step`."""
        hidden = self.action_encoder(noisy.to(self.dtype)) + self.step_code()
        return self.action_decoder(self.denoiser(hidden, context, step)).float()

    def step_code(self) -> Tensor:
        """Position code (H, hidden_size) of the steps of a trajectory."""
        steps = torch.arange(self.config.action_horizon, device=self.device)
        code = get_timestep_embedding(steps, self.config.hidden_size, downscale_freq_shift=0)
        return code.to(self.dtype)


def noise_schedule(num_inference_steps: int) -> FlowMatchEulerDiscreteScheduler:
    """Equal steps from noise, sigma 1, to the trajectory, sigma 0."""
    if num_inference_steps < 1:
        raise ValueError(f"num_inference_steps is {num_inference_steps}; expected at least 1.")
    scheduler = FlowMatchEulerDiscreteScheduler(NUM_TRAIN_TIMESTEPS)
    scheduler.set_timesteps(sigmas=np.linspace(1, 1 / num_inference_steps, num_inference_steps))
    return scheduler
