"""The action expert of DualVLN (arXiv 2512.08186): flow matching with a NextDiT denoiser.

A trajectory is denoised while it attends to System2's plan and to a few tokens of the view of the
decision and the current one. Differs from the release: samples of one condition share it; the
unconditional branch, which has no effect at the release's guidance scale of 1, runs only if
guidance is requested.

Legend: B samples, T frames, Q query tokens of a plan, D width of System2, H horizon, S image size,
P patches of a view, C their width, M valid frames of a batch, N condition tokens.
"""

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.models.embeddings import get_timestep_embedding
from diffusers.utils.torch_utils import randn_tensor
from einops import rearrange
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init

from internnav_hf.models.common.counted_losses import CountedLosses
from internnav_hf.models.common.dino import DinoEncoder, to_unit
from internnav_hf.models.common.steady_draws import SteadyDraws
from internnav_hf.models.dual_system.action_expert import ActionExpertOutput, loss_over_frames
from internnav_hf.models.nextdit.config import NextDiTConfig
from internnav_hf.models.nextdit.denoiser import Context, NextDiTBlock, NextDiTDenoiser
from internnav_hf.models.nextdit.memory import NUM_VIEWS, MemoryEncoder, QueryResampler, RGBMemory
from internnav_hf.models.nextdit.released import released_keys
from internnav_hf.weights.loading import StrictLoading

NUM_TRAIN_TIMESTEPS = 1000
NUM_ACTION_CHANNELS = 3  # dx, dy, dyaw


class NextDiTActionExpert(CountedLosses, StrictLoading, PreTrainedModel):
    """Implements `ActionExpert`. Depth is accepted and ignored."""

    config_class = NextDiTConfig
    config: NextDiTConfig
    base_model_prefix = ""
    main_input_name = "plan"
    supports_gradient_checkpointing = True
    loss_count_keys = {"frame_mask": "num_frames_in_batch"}
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
    def dummy_inputs(self) -> dict[str, Tensor]:
        """A batch of one sample with two frames, as `forward` takes it."""
        config, frames = self.config, (1, 2)
        inputs = {
            "plan": torch.zeros(1, 4, config.plan_hidden_size),
            "actions": torch.zeros(*frames, config.action_horizon, NUM_ACTION_CHANNELS),
            "frame_mask": torch.ones(*frames, dtype=torch.bool),
        }
        if config.use_images:
            size = config.image_size
            inputs["rgb"] = torch.zeros(*frames, 3, size, size, dtype=torch.uint8)
        return {key: value.to(self.device) for key, value in inputs.items()}

    def forward(
        self,
        plan: Tensor,
        rgb: Tensor | None = None,
        depth: Tensor | None = None,
        actions: Tensor | None = None,
        frame_mask: Tensor | None = None,
        num_frames_in_batch: Tensor | int | None = None,
        noise: Tensor | None = None,
        timesteps: Tensor | None = None,
    ) -> ActionExpertOutput:
        """See `ActionExpert`. `timesteps` are the diffusion times in 0 .. 1000.

        In evaluation noise and times are always the same for the same actions.
        """
        if actions is None:
            raise ValueError("forward needs actions (B, T, H, 3); without them, call sample.")
        if frame_mask is None:
            frame_mask = torch.ones(actions.shape[:2], dtype=torch.bool, device=actions.device)
        self._check_actions(actions, frame_mask)
        self.check_counts(num_frames_in_batch=num_frames_in_batch)
        target = actions[frame_mask].float() * self._action_scale(actions)
        drawn_noise, drawn_timesteps = self._draw(target)
        noise = drawn_noise if noise is None else noise[frame_mask].float()
        timesteps = drawn_timesteps if timesteps is None else timesteps[frame_mask].float()
        condition = self.condition(*self._rows(plan, rgb, frame_mask))
        context = self.denoiser.context(condition, timesteps[:, None])
        sigma = timesteps[:, None, None] / NUM_TRAIN_TIMESTEPS
        noisy = sigma * noise + (1 - sigma) * target
        velocity = self.velocity(noisy[:, None], context)[:, 0]
        errors = (velocity - (noise - target)).square().mean((1, 2))
        return loss_over_frames(errors, num_frames_in_batch)

    def encode_views(self, rgb: Tensor, depth: Tensor | None = None) -> Tensor:
        """See `ActionExpert`. An expert without images gives features of no tokens."""
        if not self.config.use_images:
            return torch.zeros(*rgb.shape[:2], 0, 0, device=rgb.device)
        self._check_rgb(rgb)
        return self.vision(to_unit(rgb.flatten(0, 1))).unflatten(0, rgb.shape[:2])

    @torch.no_grad()
    def sample(
        self,
        plan: Tensor,
        rgb: Tensor | None = None,
        depth: Tensor | None = None,
        num_samples: int = 32,
        generator: torch.Generator | None = None,
        noise: Tensor | None = None,
        views: Tensor | None = None,
        guidance_scale: float | None = None,
        num_inference_steps: int | None = None,
    ) -> Tensor:
        """See `ActionExpert`. The last two arguments default to the configuration's."""
        config = self.config
        if views is None and config.use_images:
            views = self.encode_views(rgb)
        if guidance_scale is None:
            guidance_scale = config.guidance_scale
        if num_inference_steps is None:
            num_inference_steps = config.num_inference_steps
        if noise is None:
            shape = (len(plan), num_samples, config.action_horizon, NUM_ACTION_CHANNELS)
            noise = randn_tensor(shape, generator=generator, device=plan.device)
        condition = self.condition(plan, views)
        scaled = self._denoise(noise.float(), condition, guidance_scale, num_inference_steps)
        return scaled / self._action_scale(scaled)

    def _denoise(self, sample: Tensor, condition: Tensor, guidance_scale, num_steps) -> Tensor:
        """Scaled actions (B, samples, H, 3) from the noise `sample`."""
        scheduler = noise_schedule(num_steps)
        # The release truncates to whole diffusion times.
        timesteps = scheduler.timesteps.long().to(sample.device)[None]
        context, null = self.denoiser.context(condition, timesteps), None
        if guidance_scale != 1:
            # All of the null condition's tokens are zero, so one stands for all.
            null = self.denoiser.context(condition.new_zeros(1, 1, condition.shape[-1]), timesteps)
        for step, time in enumerate(scheduler.timesteps):
            velocity = self.velocity(sample, context, step)
            if null is not None:
                free = self.velocity(rearrange(sample, "b s h c -> 1 (b s) h c"), null, step)
                free = free.view_as(velocity)
                velocity = free + guidance_scale * (velocity - free)
            sample = scheduler.step(velocity, time, sample).prev_sample
        return sample

    def condition(self, plan: Tensor, views: Tensor | None = None) -> Tensor:
        """(B, N, condition_size) tokens of `plan` (B, Q, D) and the features `views` (B, 2, P, C)
        of the view of the decision and the current one.
        """
        config = self.config
        if plan.shape[-1] != config.plan_hidden_size:
            raise ValueError(
                f"plan is {plan.shape[-1]} wide; expected plan_hidden_size="
                f"{config.plan_hidden_size}."
            )
        tokens = self.plan_projector(plan.to(self.dtype))
        if not config.use_images:
            return tokens
        if views.shape[1] != NUM_VIEWS:
            raise ValueError(
                f"There are {views.shape[1]} views; expected {NUM_VIEWS}, that of the decision and "
                "the current one."
            )
        return torch.cat([self.memory(views), tokens], dim=1)

    def velocity(self, noisy: Tensor, context: Context, step: int = 0) -> Tensor:
        """Velocity (B, samples, H, 3) of `noisy` scaled actions at diffusion time index `step`."""
        hidden = self.action_encoder(noisy.to(self.dtype)) + self.step_code()
        return self.action_decoder(self.denoiser(hidden, context, step)).float()

    def step_code(self) -> Tensor:
        """Position code (H, hidden_size) of the steps of a trajectory."""
        steps = torch.arange(self.config.action_horizon, device=self.device)
        code = get_timestep_embedding(steps, self.config.hidden_size, downscale_freq_shift=0)
        return code.to(self.dtype)

    def _rows(self, plan, rgb, frame_mask) -> tuple[Tensor, Tensor | None]:
        """Plans (M, Q, D) and pairs of views (M, 2, P, C) of valid frames, each encoded once."""
        row_sample = frame_mask.nonzero()[:, 0]
        if not self.config.use_images:
            return plan[row_sample], None
        self._check_rgb(rgb)
        views = self.vision(to_unit(rgb[frame_mask]))
        counts = frame_mask.sum(1)
        decision_row = (counts.cumsum(0) - counts)[row_sample]
        return plan[row_sample], torch.stack([views[decision_row], views], dim=1)

    def _draw(self, target: Tensor) -> tuple[Tensor, Tensor]:
        """Noise as `target` (M, H, 3) and diffusion times (M,) in 1 .. 1000."""
        if self.training:
            noise, uniform = torch.randn_like(target), torch.rand(len(target), device=target.device)
        else:
            draws = SteadyDraws(target)
            noise, uniform = draws.normal(*target.shape[1:]), draws.uniform()
        return noise, NUM_TRAIN_TIMESTEPS - (uniform * NUM_TRAIN_TIMESTEPS).floor()

    @property
    def loss_weights(self) -> dict[str, float]:
        """Weight of each named loss in `loss`."""
        return {"action_loss": 1.0}

    def _action_scale(self, actions: Tensor) -> Tensor:
        return torch.tensor(self.config.action_scale, device=actions.device)

    def _check_rgb(self, rgb: Tensor | None) -> None:
        if rgb is None:
            raise ValueError("rgb is missing; an expert with use_images=True needs views.")
        if rgb.shape[-1] != self.config.image_size:
            raise ValueError(
                f"rgb is {rgb.shape[-1]} pixels wide; expected image_size={self.config.image_size}."
            )

    def _check_actions(self, actions: Tensor, frame_mask: Tensor) -> None:
        if actions.shape[2:] != (self.config.action_horizon, NUM_ACTION_CHANNELS):
            raise ValueError(
                f"actions are {tuple(actions.shape)}; expected (B, T, action_horizon="
                f"{self.config.action_horizon}, {NUM_ACTION_CHANNELS})."
            )
        if not frame_mask[:, 0].all():
            raise ValueError("frame_mask must be True at frame 0, the view of the decision.")


def noise_schedule(num_inference_steps: int) -> FlowMatchEulerDiscreteScheduler:
    """Equal steps from noise, sigma 1, to the trajectory, sigma 0."""
    if num_inference_steps < 1:
        raise ValueError(f"num_inference_steps is {num_inference_steps}; expected at least 1.")
    scheduler = FlowMatchEulerDiscreteScheduler(NUM_TRAIN_TIMESTEPS)
    scheduler.set_timesteps(sigmas=np.linspace(1, 1 / num_inference_steps, num_inference_steps))
    return scheduler
