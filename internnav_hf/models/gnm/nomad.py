"""NoMaD (arXiv 2310.07896): diffusion of waypoints to the place of an image, or to explore.

Views and goal are encoded to one condition, from which the goal may be hidden; a U-Net denoises the
steps between waypoints, and layers predict the distance to the goal. Differs from the published
code: by default samples without a goal are not in the distance loss (`NoMaDConfig.distance_mask`).

Legend: B samples, M memory frames, H horizon, N trajectories, C width, h, w image size.
"""

from typing import NamedTuple

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor, nn

from internnav_hf.models.common.diffusion import ancestral_step, noise_schedule
from internnav_hf.models.common.draws import Draws
from internnav_hf.models.gnm.base import ImageGoalModel, layers
from internnav_hf.models.gnm.config import NoMaDConfig
from internnav_hf.models.gnm.denoiser import NUM_CHANNELS, Denoiser
from internnav_hf.models.gnm.encoders import TokenEncoder, efficientnet, normalised
from internnav_hf.models.gnm.losses import Counts, NoMaDOutput, mean_square, weighted


class NoMaDSamples(NamedTuple):
    """Output of `NoMaDModel.sample`: `waypoints` (B, N, H, 2) in `waypoint_spacing_m`, `distance`
    (B,) in frames.
    """

    waypoints: Tensor
    distance: Tensor


class NoMaDModel(ImageGoalModel):
    """See the module."""

    config_class = NoMaDConfig
    config: NoMaDConfig
    action_loss_name = "diffusion_loss"
    loss_count_keys = ImageGoalModel.loss_count_keys | {"goal_mask": "num_goals_in_batch"}

    def __init__(self, config: NoMaDConfig):
        super().__init__(config)
        width, vision, group = config.hidden_size, config.vision_config, config.channels_per_group
        self.rgb_encoder = efficientnet(vision, 1, group)
        self.goal_encoder = efficientnet(vision, 2, group)
        self.rgb_projection = nn.Linear(self.rgb_encoder.size, width)
        self.goal_projection = nn.Linear(self.goal_encoder.size, width)
        self.token_encoder = TokenEncoder(config)
        self.denoiser = Denoiser(config)
        sizes = config.distance_head_sizes
        self.distance_layers = layers(width, *sizes)
        self.distance_head = nn.Linear(sizes[-1], 1)
        self.post_init()

    def forward(
        self,
        rgb: Tensor,
        goal_image: Tensor,
        actions: Tensor,
        distance: Tensor,
        action_mask: Tensor,
        goal_mask: Tensor | None = None,
        sample_mask: Tensor | None = None,
        num_samples_in_batch: Tensor | int | None = None,
        num_actions_in_batch: Tensor | int | None = None,
        num_goals_in_batch: Tensor | int | None = None,
        noise: Tensor | None = None,
        timesteps: Tensor | None = None,
    ) -> NoMaDOutput:
        """Losses for the waypoints `actions` (B, H, 2): x, y in `waypoint_spacing_m`; and for
        `distance` (B,), frames to the goal.

        `rgb` (B, M, 3, h, w), oldest first, and `goal_image` (B, 3, h, w) are bytes or floats in
        [0, 1]. `goal_mask` (B,) is False if the goal is hidden (the published mask is 1 there), by
        default nowhere; `action_mask` (B,) is True if the waypoints count, `sample_mask` (B,) at
        valid samples; `num_..._in_batch` are their sums over the whole optimisation step. `noise`
        (B, H, 2) and `timesteps` (B,) replace the random ones, which in evaluation are always the
        same for the same waypoints. Raises ValueError for missing or misshapen inputs.
        """
        goal_mask = torch.ones_like(action_mask) if goal_mask is None else goal_mask
        given = {"distance": distance, "action_mask": action_mask, "actions": actions}
        batch = self.checked(rgb=rgb, goal_image=goal_image, goal_mask=goal_mask, **given)
        given = (num_samples_in_batch, num_actions_in_batch, num_goals_in_batch)
        self.check_counts(**dict(zip(self.loss_count_keys.values(), given, strict=True)))
        noise, timesteps = self.draw(actions, noise, timesteps)
        batch |= {"noise": noise, "timesteps": timesteps}
        if sample_mask is not None:
            batch = {name: tensor[sample_mask] for name, tensor in batch.items()}
        condition = self.condition(batch["rgb"], batch["goal_image"], batch["goal_mask"])
        given_noise = (batch["actions"], batch["noise"], batch["timesteps"])
        predicted = self.predict_noise(condition, *given_noise)
        distances = self.distance(condition)
        errors = {"diffusion_loss": mean_square(predicted - batch["noise"]) * batch["action_mask"]}
        errors["distance_loss"] = (distances - batch["distance"].float()).square()
        return NoMaDOutput(
            **self._losses(errors, batch, given),
            noise=predicted.detach(),
            distance=distances.detach(),
        )

    def read(self, rgb: Tensor) -> Tensor:
        """(B, M, C) of `rgb` (B, M, 3, h, w)."""
        frames = normalised(rgb.flatten(0, 1), self.dtype)
        return self.rgb_projection(self.rgb_encoder(frames)).unflatten(0, rgb.shape[:2])

    def condition(
        self, rgb: Tensor, goal_image: Tensor, goal_mask: Tensor, memory: Tensor | None = None
    ) -> Tensor:
        """(B, C): the views, and the goal where `goal_mask` (B,) is True; arguments as in
        `forward`.

        `memory` are rows of `read`, so that several goals share the views.
        """
        memory = self.read(rgb) if memory is None else memory
        both = [normalised(images, self.dtype) for images in (rgb[:, -1], goal_image)]
        goal = self.goal_projection(self.goal_encoder(torch.cat(both, dim=1)))
        shown = torch.ones(memory.shape[:2], dtype=torch.bool, device=memory.device)
        shown = torch.cat([shown, goal_mask[:, None]], dim=1)
        tokens = self.token_encoder(torch.cat([memory, goal[:, None]], dim=1), ~shown)
        tokens = tokens * shown[..., None]
        return tokens.sum(1) / shown.sum(1, keepdim=True)

    def predict_noise(
        self, condition: Tensor, actions: Tensor, noise: Tensor, timesteps: Tensor
    ) -> Tensor:
        """The predicted noise (B, H, 2), float32, for `condition` (B, C); other arguments as in
        `forward`.
        """
        schedule = noise_schedule(self.config.num_diffusion_steps)
        noisy = schedule.add_noise(self.scaled(actions), noise, timesteps)
        return self.denoiser(noisy, timesteps, condition)

    def distance(self, condition: Tensor) -> Tensor:
        """Frames (B,) to the goal, float32, for `condition` (B, C)."""
        return self.distance_head(self.distance_layers(condition))[:, 0].float()

    @torch.no_grad()
    def sample(
        self,
        rgb: Tensor,
        goal_image: Tensor,
        goal_mask: Tensor,
        num_samples: int = 8,
        generator: torch.Generator | list[torch.Generator] | None = None,
        noise: Tensor | None = None,
        step_noise: Tensor | None = None,
    ) -> NoMaDSamples:
        """Trajectories; images and `goal_mask` as in `forward`.

        `generator` may be a list with one for each sample of the batch, so that its noise does not
        depend on the others. `noise` (B, N, H, 2) replaces the initial noise, `step_noise`
        (steps - 1, B, N, H, 2) that between the steps.
        """
        condition = self.condition(rgb, goal_image, goal_mask)
        waypoints = self.denoise(condition, num_samples, generator, noise, step_noise)
        return NoMaDSamples(waypoints, self.distance(condition))

    @torch.no_grad()
    def denoise(
        self,
        condition: Tensor,
        num_samples: int = 8,
        generator: torch.Generator | list[torch.Generator] | None = None,
        noise: Tensor | None = None,
        step_noise: Tensor | None = None,
    ) -> Tensor:
        """Waypoints (B, N, H, 2) for `condition` (B, C); other arguments as in `sample`."""
        if isinstance(generator, list) and len(generator) != len(condition):
            raise ValueError(f"generator: found {len(generator)}, expected {len(condition)}.")
        if noise is None:
            shape = (len(condition), num_samples, self.config.action_horizon, NUM_CHANNELS)
            noise = randn_tensor(shape, generator, self.device, torch.float32)
        rows = condition.repeat_interleave(noise.shape[1], dim=0)
        schedule = noise_schedule(self.config.num_diffusion_steps)
        schedule.set_timesteps(self.config.num_diffusion_steps, device=noise.device)
        steps = noise
        for index, timestep in enumerate(schedule.timesteps.tolist()):
            times = schedule.timesteps[index].expand(len(rows))
            predicted = self.denoiser(steps.flatten(0, 1), times, rows).view_as(steps)
            if index == len(schedule.timesteps) - 1:
                between = torch.zeros_like(steps)
            elif step_noise is not None:
                between = step_noise[index]
            else:
                between = randn_tensor(steps.shape, generator, steps.device, steps.dtype)
            steps = ancestral_step(schedule, predicted, timestep, steps, between)
        low, high = self._range(steps)
        return ((steps + 1) / 2 * (high - low) + low).cumsum(-2)

    def scaled(self, waypoints: Tensor) -> Tensor:
        """The steps (B, H, 2) between `waypoints` (B, H, 2), from the origin, in [-1, 1]."""
        waypoints = waypoints.float()
        steps = waypoints.diff(dim=1, prepend=torch.zeros_like(waypoints[:, :1]))
        low, high = self._range(steps)
        return (steps - low) / (high - low) * 2 - 1

    def _range(self, like: Tensor) -> tuple[Tensor, Tensor]:
        return like.new_tensor(self.config.step_min), like.new_tensor(self.config.step_max)

    def _losses(self, errors: dict[str, Tensor], batch: dict[str, Tensor], given: tuple) -> dict:
        """The losses of `NoMaDOutput` for `errors` (V,); `given` are counts of the whole step."""
        actions, goals = batch["action_mask"], batch["goal_mask"]
        number = torch.tensor(float(len(actions)), device=actions.device)
        here = Counts(number, actions.sum(), goals.sum())
        whole, divisors = here.given(*given), []
        masks_samples = self.config.distance_mask == "sample"
        if masks_samples:
            errors["distance_loss"] = errors["distance_loss"] * goals
        for of in (here, whole):
            assert of.goals is not None
            divisor = of.masked(of.goals)
            if not masks_samples:
                divisor = of.samples * divisor / of.goals
            divisors.append({"diffusion_loss": of.masked(of.actions), "distance_loss": divisor})
        sums = {name: error.sum() for name, error in errors.items()}
        return weighted(self.loss_weights, sums, *divisors)

    def draw(
        self, actions: Tensor, noise: Tensor | None = None, timesteps: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Noise (B, H, 2) and diffusion steps (B,) of `forward`, the given ones or drawn."""
        draws, device = Draws(actions, self.training), actions.device
        noise = draws.normal(*actions.shape[1:]) if noise is None else noise
        if timesteps is None:
            timesteps = draws.below(self.config.num_diffusion_steps)
        return noise.to(device), timesteps.to(device)

    @property
    def dummy_inputs(self) -> dict[str, Tensor]:
        """Two samples, the goal of the second hidden."""
        inputs = super().dummy_inputs
        generator = torch.Generator().manual_seed(1)
        steps = self.config.num_diffusion_steps
        drawn = {
            "goal_mask": torch.tensor([True, False]),
            "noise": torch.randn(inputs["actions"].shape, generator=generator),
            "timesteps": torch.randint(steps, (2,), generator=generator),
        }
        return inputs | {name: tensor.to(self.device) for name, tensor in drawn.items()}
