"""NavDP*: the RGB-D action expert of the dual system (InternVLA-N1 with NavDP, `navdp_async`).

From InternVLA-N1 / DualVLN (arXiv 2512.08186), after NavDP (arXiv 2505.08712): System2's plan is
compressed into one token, the view of the decision and the current one into a few, and a DDPM
denoises a trajectory under both. Differs from the published code: plans of any width, batches of
any size, frames encoded once and only where they are valid, no parts that no loss reaches.

Legend as in `action_expert`, the tokens of a frame being those of colour, then of depth, and R
tokens of two frames.
"""

import torch
from torch import Tensor, nn

from internnav_hf.models.common.diffusion import noise_schedule
from internnav_hf.models.common.draws import Draws
from internnav_hf.models.dual_system.action_expert import NUM_VIEWS, ActionExpert
from internnav_hf.models.navdp.config import NavDPActionExpertConfig
from internnav_hf.models.navdp.released import released_expert_keys
from internnav_hf.models.navdp.trunk import (
    Denoiser,
    RGBDEncoder,
    TokenCompressor,
    TrunkModel,
    denoise,
)


class NavDPActionExpert(ActionExpert, TrunkModel):
    """See the module."""

    config_class = NavDPActionExpertConfig
    config: NavDPActionExpertConfig
    released_keys = staticmethod(released_expert_keys)

    def __init__(self, config: NavDPActionExpertConfig):
        super().__init__(config)
        width, plan_width = config.hidden_size, config.plan_hidden_size
        self.rgbd_encoder = RGBDEncoder(config, NUM_VIEWS, NUM_VIEWS)
        self.plan_projection = nn.Sequential(
            nn.Linear(plan_width, plan_width // 4),
            nn.ReLU(),
            nn.Linear(plan_width // 4, plan_width // 8),
            nn.ReLU(),
            nn.Linear(plan_width // 8, width),
        )
        self.plan_compressor = TokenCompressor(
            width, config.num_attention_heads, config.num_plan_positions
        )
        self.denoiser = Denoiser(config, 2 + config.num_rgbd_queries)  # time, plan, scene
        self.post_init()
        self.train(self.training)  # freezes the parts that the configuration freezes

    def encode(self, rgb: Tensor, depth: Tensor | None) -> Tensor:
        """Features (V, N, C) of `rgb` (V, 3, S, S) and `depth` (V, S, S)."""
        encoder = self.rgbd_encoder
        return torch.cat([encoder.encode_rgb(rgb), encoder.encode_depth(depth)], dim=1)

    def errors(self, plan, sample_of, views, target, noise, timesteps) -> Tensor:
        """See `ActionExpert`; `timesteps` (V,) are whole numbers from 0, the least noise."""
        goals, scenes = self._goal_tokens(plan)[sample_of], self._read_views(views)
        schedule = noise_schedule(self.config.num_diffusion_steps)
        draws = Draws(target, self.training)
        if noise is None:
            noise = draws.normal(*target.shape[1:])
        if timesteps is None:
            timesteps = draws.below(self.config.num_diffusion_steps)
        noisy = schedule.add_noise(target, noise, timesteps)
        condition = torch.cat([self.denoiser.time_tokens(timesteps), goals, scenes], dim=1)
        predicted = self.denoiser(noisy, self.denoiser.read(condition))
        return (predicted - noise).square().mean((-2, -1))

    def denoise(
        self, noise, plan, views, generator, num_inference_steps=None, step_noise=None
    ) -> Tensor:
        """See `ActionExpert`.

        Diffusion clips scaled actions to [-1, 1]: as published, steps of up to 0.25 m and 1 rad.
        `num_inference_steps` defaults to the number in training. `step_noise` (steps - 1, B,
        samples, H, 3) replaces the noise between the steps.
        """
        condition = self.denoiser.read(self.read_condition(plan, views), start=1)
        steps = self.config.num_diffusion_steps, num_inference_steps
        return denoise(self.denoiser, condition, noise, *steps, generator, step_noise)

    def read_condition(self, plan: Tensor, views: Tensor) -> Tensor:
        """(B, 1 + R, C): the condition of `sample` without the time token; `views` (B, 2, N, C)."""
        return torch.cat([self._goal_tokens(plan), self._read_views(views)], dim=1)

    def _goal_tokens(self, plan: Tensor) -> Tensor:
        """Tokens (B, 1, C) of `plan` (B, Q, D)."""
        return self.plan_compressor(self.plan_projection(plan.to(self.dtype)))

    def _read_views(self, views: Tensor) -> Tensor:
        """Tokens (B, R, C) of the features `views` (B, 2, N, C)."""
        num_rgb_tokens = (self.config.image_size // self.config.vision_config.patch_size) ** 2
        return self.rgbd_encoder(views[:, :, :num_rgb_tokens], views[:, :, num_rgb_tokens:])
