"""NavDP*: the RGB-D action expert of the dual system (InternVLA-N1 with NavDP, `navdp_async`).

From InternVLA-N1 / DualVLN (arXiv 2512.08186), after NavDP (arXiv 2505.08712): System2's plan is
compressed into one token, the view of the decision and the current one into a few, and a DDPM
denoises a trajectory under both. Differs from the published code: plans of any width, batches of
any size, frames encoded once and only where they are valid, no parts that no loss reaches.

Legend: B samples, T frames, V valid frames of all samples, Q tokens of a plan, D width of System2,
H horizon, S image size, N tokens of a frame (colour, then depth), C width, R tokens of two frames.
"""

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor, nn
from transformers import PreTrainedModel

from internnav_hf.models.common.counted_losses import CountedLosses
from internnav_hf.models.common.diffusion import NUM_ACTION_CHANNELS, noise_schedule
from internnav_hf.models.common.steady_draws import SteadyDraws
from internnav_hf.models.dual_system.action_expert import ActionExpertOutput, loss_over_frames
from internnav_hf.models.navdp.expert_config import NavDPActionExpertConfig
from internnav_hf.models.navdp.released import released_expert_keys
from internnav_hf.models.navdp.trunk import Denoiser, RGBDEncoder, TokenCompressor, denoise
from internnav_hf.weights.loading import StrictLoading

NUM_VIEWS = 2  # the view of the decision, and the current one
_NUM_GOAL_TOKENS = 1


class NavDPActionExpert(CountedLosses, StrictLoading, PreTrainedModel):
    """See the module. Implements `ActionExpert`."""

    config_class = NavDPActionExpertConfig
    config: NavDPActionExpertConfig
    base_model_prefix = ""
    main_input_name = "plan"
    supports_gradient_checkpointing = True
    loss_count_keys = {"frame_mask": "num_frames_in_batch"}
    _supports_sdpa = True
    _supports_flash_attn = True
    _no_split_modules = ["Dinov2Layer", "DenoiserLayer"]
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
            width, config.num_attention_heads, config.num_plan_positions, _NUM_GOAL_TOKENS
        )
        num_condition_tokens = 1 + _NUM_GOAL_TOKENS + config.num_rgbd_queries
        self.denoiser = Denoiser(config, num_condition_tokens)
        self.post_init()
        self.train(self.training)  # freezes the parts that the configuration freezes

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            module.reset_parameters()  # torch's own, as published
        else:
            super()._init_weights(module)

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
        """As in `ActionExpert`; `timesteps` (B, T) are whole numbers from 0, the least noise.

        Noise and timesteps that are not given are drawn: in training from torch's own generator, in
        evaluation always the same for the same actions. Raises ValueError for missing inputs and
        for shapes other than the configuration's.
        """
        plan = _checked("plan", plan, self.config.plan_hidden_size)
        actions = _checked("actions", actions, self.config.action_horizon, NUM_ACTION_CHANNELS)
        if frame_mask is None:
            frame_mask = torch.ones(actions.shape[:2], dtype=torch.bool, device=actions.device)
        self.check_counts(num_frames_in_batch=num_frames_in_batch)
        sample_of = frame_mask.nonzero()[:, 0]  # (V,)
        goals = self._goal_tokens(plan)[sample_of]
        scenes = self._scene_tokens(rgb, depth, frame_mask)
        clean = self._scaled(actions[frame_mask])
        noise, timesteps = self._draw(clean, frame_mask, noise, timesteps)
        schedule = noise_schedule(self.config.num_diffusion_steps)
        noisy = schedule.add_noise(clean, noise, timesteps)
        condition = torch.cat([self.denoiser.time_tokens(timesteps), goals, scenes], dim=1)
        predicted = self.denoiser(noisy, self.denoiser.read(condition))
        errors = (predicted - noise).square().mean((-2, -1))
        return loss_over_frames(errors, num_frames_in_batch)

    def encode_views(self, rgb: Tensor, depth: Tensor | None = None) -> Tensor:
        """Features (B, T, N, C) of each frame by itself; see `ActionExpert`."""
        rgb, depth = self._check_views(rgb, depth)
        return self._encode(rgb.flatten(0, 1), depth.flatten(0, 1)).unflatten(0, rgb.shape[:2])

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
        num_inference_steps: int | None = None,
        step_noise: Tensor | None = None,
    ) -> Tensor:
        """Actions (B, num_samples, H, 3); see `ActionExpert`.

        Diffusion clips scaled actions to [-1, 1]: as published, steps of up to 0.25 m and 1 rad.
        `num_inference_steps` defaults to the number in training. `step_noise` (steps - 1, B,
        num_samples, H, 3) replaces the noise between the steps.
        """
        plan = _checked("plan", plan, self.config.plan_hidden_size)
        views = self.encode_views(rgb, depth) if views is None else views
        condition = self.read_condition(plan, views)
        if noise is None:
            shape = (len(plan), num_samples, self.config.action_horizon, NUM_ACTION_CHANNELS)
            noise = randn_tensor(shape, generator, condition.device, torch.float32)
        num_steps = self.config.num_diffusion_steps
        scaled = denoise(
            self.denoiser,
            self.denoiser.read(condition, start=1),
            noise,
            noise_schedule(num_steps),
            num_inference_steps if num_inference_steps is not None else num_steps,
            generator,
            step_noise,
        )
        return scaled / scaled.new_tensor(self.config.action_scale)

    def read_condition(self, plan: Tensor, views: Tensor) -> Tensor:
        """(B, 1 + R, C): the condition of `sample` without the time token; `views` (B, 2, N, C)."""
        return torch.cat([self._goal_tokens(plan), self._read_views(views)], dim=1)

    def _goal_tokens(self, plan: Tensor) -> Tensor:
        """Tokens (B, 1, C) of `plan` (B, Q, D)."""
        return self.plan_compressor(self.plan_projection(plan.to(self.dtype)))

    def _scene_tokens(self, rgb: Tensor | None, depth: Tensor | None, frame_mask: Tensor) -> Tensor:
        """Tokens (V, R, C) of each valid frame together with the view of its decision."""
        rgb, depth = self._check_views(rgb, depth)
        is_decision = torch.zeros_like(frame_mask)
        is_decision[:, 0] = True
        needed = frame_mask | is_decision
        frames = self._encode(rgb[needed], depth[needed])
        decisions = frames[is_decision[needed]]
        views = [decisions[frame_mask.nonzero()[:, 0]], frames[frame_mask[needed]]]
        return self._read_views(torch.stack(views, dim=1))

    def _encode(self, rgb: Tensor, depth: Tensor) -> Tensor:
        """Features (V, N, C) of `rgb` (V, 3, S, S) and `depth` (V, S, S)."""
        encoder = self.rgbd_encoder
        return torch.cat([encoder.encode_rgb(rgb), encoder.encode_depth(depth)], dim=1)

    def _read_views(self, views: Tensor) -> Tensor:
        """Tokens (B, R, C) of the features `views` (B, 2, N, C)."""
        num_rgb_tokens = (self.config.image_size // self.config.vision_config.patch_size) ** 2
        return self.rgbd_encoder(views[:, :, :num_rgb_tokens], views[:, :, num_rgb_tokens:])

    def _check_views(self, rgb: Tensor | None, depth: Tensor | None) -> tuple[Tensor, Tensor]:
        size = self.config.image_size
        return _checked("rgb", rgb, 3, size, size), _checked("depth", depth, size, size)

    def _scaled(self, actions: Tensor) -> Tensor:
        return actions.float() * actions.new_tensor(self.config.action_scale, dtype=torch.float32)

    def _draw(
        self, clean: Tensor, frame_mask: Tensor, noise: Tensor | None, timesteps: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Noise (V, H, 3) and diffusion steps (V,), the given ones or drawn."""
        # Seeded by the targets in evaluation, so that losses are comparable.
        draws = None if self.training else SteadyDraws(clean)
        if noise is None:
            noise = torch.randn_like(clean) if draws is None else draws.normal(*clean.shape[1:])
        else:
            noise = noise[frame_mask].to(clean)
        if timesteps is None:
            num_steps = self.config.num_diffusion_steps
            if draws is None:
                timesteps = torch.randint(num_steps, clean.shape[:1], device=clean.device)
            else:
                timesteps = draws.below(num_steps)
        else:
            timesteps = timesteps[frame_mask]
        return noise, timesteps.to(clean.device)

    @property
    def loss_weights(self) -> dict[str, float]:
        """Weight of each named loss in `loss`."""
        return {"action_loss": 1.0}

    @property
    def dummy_inputs(self) -> dict[str, Tensor]:
        """Two samples of three frames, the last of which is padding in the second."""
        config, generator = self.config, torch.Generator().manual_seed(0)
        size, horizon = config.image_size, config.action_horizon

        def randn(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator)

        inputs = {
            "plan": randn(2, 4, config.plan_hidden_size),
            "rgb": torch.rand(2, 3, 3, size, size, generator=generator),
            "depth": 5 * torch.rand(2, 3, size, size, generator=generator),
            "actions": 0.1 * randn(2, 3, horizon, NUM_ACTION_CHANNELS),
            "frame_mask": torch.tensor([[True, True, True], [True, True, False]]),
            "noise": randn(2, 3, horizon, NUM_ACTION_CHANNELS),
            "timesteps": torch.randint(config.num_diffusion_steps, (2, 3), generator=generator),
        }
        return {name: tensor.to(self.device) for name, tensor in inputs.items()}


def _checked(name: str, tensor: Tensor | None, *trailing: int) -> Tensor:
    """`tensor`. Raises ValueError if it is None or its shape does not end in `trailing`."""
    found = None if tensor is None else tuple(tensor.shape)
    if tensor is None or found[-len(trailing) :] != trailing:
        sizes = ", ".join(map(str, trailing))
        raise ValueError(f"NavDPActionExpert: {name}: found {found}, expected (..., {sizes}).")
    return tensor
