"""NavDP (arXiv 2505.08712): trajectories to a point, image or pixel, or to explore, and a critic.

Colour memory, depth and a goal condition a diffusion model of trajectories; a critic, which does
not see the goal, rates the safety of a trajectory, and the safest is executed. Shares its trunk
with the action expert of the dual system. Differs from the published code: one pass of the denoiser
for both draws, whose keys and values of the scene the critic uses too; frames missing from the
memory are encoded once; goals of different kinds in one batch; `sample_mask`.

Legend: B samples, M memory frames, H horizon, S image size, P patch tokens of a
frame, C width, R tokens of a scene, N trajectories of a sample.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from diffusers.utils.torch_utils import randn_tensor
from einops import rearrange
from torch import Tensor, nn

from internnav_hf.models.common.counted_losses import CountedLosses, masked
from internnav_hf.models.common.diffusion import NUM_ACTION_CHANNELS, noise_schedule
from internnav_hf.models.common.draws import Draws
from internnav_hf.models.navdp.config import NavDPConfig
from internnav_hf.models.navdp.goals import NUM_POINT_CHANNELS, NUM_SLOTS, Goal, GoalEncoder
from internnav_hf.models.navdp.losses import DRAWS, NavDPOutput, loss_weights, navdp_losses
from internnav_hf.models.navdp.released import released_fields, released_keys
from internnav_hf.models.navdp.trunk import Denoiser, RGBDEncoder, TrunkModel, denoise
from internnav_hf.publishing.pushing import PushesWithCard
from internnav_hf.weights.bare_release import BareRelease

_GOAL_KEYS = {"point": "goal_point", "image": "goal_image", "pixel": "goal_pixel_map"}
_AUXILIARY_KINDS = ("image", "pixel")


class NavDPSamples(NamedTuple):
    """Output of `NavDPModel.sample`, the best trajectory first.

    `trajectories` (B, N, H, 3): x, y, yaw in metres and radians in the robot frame, after each
    step. `values` (B, N): the critic's. `actions` (B, N, H, 3): the steps.
    """

    trajectories: Tensor
    values: Tensor
    actions: Tensor


class NavDPModel(PushesWithCard, CountedLosses, BareRelease, TrunkModel):
    """See the module."""

    config_class = NavDPConfig
    config: NavDPConfig
    base_model_prefix = ""
    main_input_name = "rgb"
    loss_count_keys = {"sample_mask": "num_samples_in_batch"}
    released_keys = staticmethod(released_keys)

    def __init__(self, config: NavDPConfig):
        super().__init__(config)
        width = config.hidden_size
        self.rgbd_encoder = RGBDEncoder(config, config.num_memory_frames, 1)
        self.goal_encoder = GoalEncoder(config)
        self.denoiser = Denoiser(config, 1 + NUM_SLOTS + config.num_rgbd_queries)
        self.critic_head = nn.Linear(width, 1)
        kinds = [kind for kind in _AUXILIARY_KINDS if kind in config.goal_kinds]
        kinds = kinds if config.has_auxiliary_heads else []
        self.auxiliary_heads = nn.ModuleDict(
            {kind: nn.Linear(width, NUM_POINT_CHANNELS) for kind in kinds}
        )
        self.post_init()
        self.train(self.training)  # freezes the parts that the configuration freezes

    @classmethod
    def released_fields(cls, state_dict: Mapping[str, Tensor], source: Path) -> dict[str, Any]:
        """Those of a bare state dict."""
        return released_fields(state_dict, source)

    def forward(
        self,
        rgb: Tensor,
        depth: Tensor,
        actions: Tensor,
        perturbed_actions: Tensor,
        value: Tensor,
        perturbed_value: Tensor,
        goal_point: Tensor | None = None,
        goal_image: Tensor | None = None,
        goal_pixel_map: Tensor | None = None,
        goal_slots: Tensor | None = None,
        sample_mask: Tensor | None = None,
        num_samples_in_batch: Tensor | int | None = None,
        noise: Tensor | None = None,
        timesteps: Tensor | None = None,
    ) -> NavDPOutput:
        """Losses for `actions` and `perturbed_actions` (B, H, 3): dx, dy, dyaw in m, m, rad.

        `rgb` (B, M, 3, S, S), oldest first, zeros where there was no frame; `depth` (B, S, S) in
        metres, 0 where unknown; `goal_point` (B, 3); `goal_image` (B, 6, S, S), the view at the
        goal and the current one; `goal_pixel_map` (B, 4 or 7, S, S), the view in which the pixel
        was marked, the mask and, of 7, the current view; images as bytes or floats in [0, 1].
        `value` and `perturbed_value` (B,) are the critic's targets. Goals of all kinds in
        `config.goal_kinds` are needed; the point is also the auxiliary heads' target.

        `goal_slots` (B, 3) are the kinds in the mixed goal: 0 point, 1 image, 2 pixel. By default
        row b of the batch has the published pattern, which depends on b alone: 27 patterns follow
        each other, so that with batches of 16 the last 11 never occur, and a batch in parts has
        other patterns than the whole. Draw them with the data if either matters.

        `sample_mask` (B,) is True at valid samples, `num_samples_in_batch` its sum over the whole
        optimisation step. `noise` (B, 2, H, 3) and `timesteps` (B, 2), first without goal, then
        with, replace the random ones, which come from torch's own generator in training and in
        evaluation are always the same for the same paths. Raises ValueError for missing or
        misshapen inputs.
        """
        goals = {"goal_point": goal_point, "goal_image": goal_image}
        goals |= {"goal_pixel_map": goal_pixel_map}
        paths = {"actions": actions, "perturbed_actions": perturbed_actions}
        values = {"value": value, "perturbed_value": perturbed_value}
        batch = self._checked(rgb=rgb, depth=depth, **paths, **values, **goals)
        self.check_counts(num_samples_in_batch=num_samples_in_batch)
        noise, timesteps = self._draw(actions, noise, timesteps)
        batch |= {"noise": noise, "timesteps": timesteps}
        if sample_mask is None:
            sample_mask = torch.ones(len(rgb), dtype=torch.bool, device=rgb.device)
        else:
            batch = {name: masked(tensor, sample_mask) for name, tensor in batch.items()}
        batch["sample_mask"] = sample_mask
        if self.goal_encoder.encoders:
            published = self.goal_encoder.published_slots(len(actions), actions.device)
            slots = published if goal_slots is None else goal_slots
            batch["goal_slots"] = slots.where(sample_mask[:, None], published)
        scene = self.denoiser.read(self._scene_tokens(batch["rgb"], batch["depth"]), 1 + NUM_SLOTS)
        goal_tokens = {
            kind: self.goal_encoder(kind, batch[_GOAL_KEYS[kind]])
            for kind in self.goal_encoder.encoders
        }
        noises = self._predict_noise(scene, goal_tokens, batch)
        both = torch.stack([batch["actions"], batch["perturbed_actions"]], dim=1)
        predicted_values = self._values(self._scaled(both), scene)
        points = {
            kind: head(goal_tokens[kind]).float() for kind, head in self.auxiliary_heads.items()
        }
        return navdp_losses(
            self.config, batch, noises, predicted_values, points, num_samples_in_batch
        )

    def encode_rgb(self, rgb: Tensor) -> Tensor:
        """Tokens (F, P, C) of each frame of `rgb` (F, 3, S, S), to be cached during an episode.

        Frames that are all zero, missing from a memory, are encoded once.
        """
        is_frame = rgb.flatten(1).any(1).bool()  # of bytes, any gives bytes
        if is_frame.all():
            return self.rgbd_encoder.encode_rgb(rgb)
        frames = torch.cat([torch.zeros_like(rgb[:1]), rgb[is_frame]])
        return self.rgbd_encoder.encode_rgb(frames)[is_frame.cumsum(0) * is_frame]

    def encode_depth(self, depth: Tensor) -> Tensor:
        """Tokens (F, P, C) of `depth` (F, S, S) in metres."""
        return self.rgbd_encoder.encode_depth(depth)

    @torch.no_grad()
    def sample(
        self,
        goal: Sequence[Goal],
        rgb: Tensor | None = None,
        depth: Tensor | None = None,
        num_samples: int = 32,
        generator: torch.Generator | list[torch.Generator] | None = None,
        noise: Tensor | None = None,
        step_noise: Tensor | None = None,
        rgb_tokens: Tensor | None = None,
        num_inference_steps: int | None = None,
    ) -> NavDPSamples:
        """Trajectories from the robot's pose, for goals of any kinds; see `GoalEncoder.embed`.

        `rgb` and `depth` as in `forward`; `rgb_tokens` (B, M, P, C), the memory's features from
        `encode_rgb`, replaces `rgb`. A list of generators has one for each sample of the batch, so
        that the noise of a sample does not depend on the others. `noise` (B, N, H, 3) replaces the
        initial noise, `step_noise` (steps - 1, B, N, H, 3) that between the steps;
        `num_inference_steps` defaults to the number in training. Diffusion clips scaled actions to
        [-1, 1]: as published, steps of up to 0.25 m and 0.25 rad.
        """
        config = self.config
        condition = self.denoiser.read(self.read_condition(goal, rgb, depth, rgb_tokens), start=1)
        if isinstance(generator, list) and len(generator) != len(goal):
            raise ValueError(f"generator: found {len(generator)}, expected {len(goal)}.")
        if noise is None:
            shape = (len(goal), num_samples, config.action_horizon, NUM_ACTION_CHANNELS)
            noise = randn_tensor(shape, generator, self.device, torch.float32)
        steps = config.num_diffusion_steps, num_inference_steps
        scaled = denoise(self.denoiser, condition, noise, *steps, generator, step_noise)
        values = self._values(scaled, condition[..., NUM_SLOTS:, :])
        values, order = values.sort(dim=1, descending=True, stable=True)
        actions = scaled / scaled.new_tensor(config.action_scale)
        actions = actions.gather(1, order[..., None, None].expand_as(actions))
        return NavDPSamples(actions.cumsum(2), values, actions)

    @torch.no_grad()
    def values_of(
        self,
        actions: Tensor,
        rgb: Tensor | None = None,
        depth: Tensor | None = None,
        rgb_tokens: Tensor | None = None,
    ) -> Tensor:
        """(B, N): the critic's values of `actions` (B, N, H, 3) in metres and radians."""
        scene = self._scene_tokens(rgb, depth, rgb_tokens)
        return self._values(self._scaled(actions), self.denoiser.read(scene, 1 + NUM_SLOTS))

    def read_condition(
        self,
        goal: Sequence[Goal],
        rgb: Tensor | None = None,
        depth: Tensor | None = None,
        rgb_tokens: Tensor | None = None,
    ) -> Tensor:
        """(B, 3 + R, C): the condition of `sample` without the time token; same arguments."""
        scene = self._scene_tokens(rgb, depth, rgb_tokens)
        if len(goal) != len(scene):
            raise ValueError(f"NavDPModel: goal: found {len(goal)}, expected {len(scene)} goals.")
        return torch.cat([self.goal_encoder.embed(goal, like=scene), scene], dim=1)

    def _scene_tokens(
        self, rgb: Tensor | None, depth: Tensor | None, rgb_tokens: Tensor | None = None
    ) -> Tensor:
        """Tokens (B, R, C) of memory and depth."""
        depth = self._checked(depth=depth)["depth"]
        if rgb_tokens is None:
            rgb = self._checked(rgb=rgb)["rgb"]
            rgb_tokens = self.encode_rgb(rgb.flatten(0, 1)).unflatten(0, rgb.shape[:2])
        return self.rgbd_encoder(rgb_tokens, self.encode_depth(depth)[:, None])

    def _predict_noise(
        self, scene: Tensor, goals: dict[str, Tensor], batch: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Noise (B, H, 3) by name of the draw; all draws in one pass."""
        slots = {}
        if "none" in self.config.goal_kinds:
            slots["no_goal"] = scene.new_zeros(scene.shape[2], NUM_SLOTS, self.config.hidden_size)
        if goals:
            slots["mixed_goal"] = self.goal_encoder.mix(goals, batch["goal_slots"])
        draws = [DRAWS.index(name) for name in slots]
        noise, timesteps = (
            torch.cat([batch[key][:, draw] for draw in draws]) for key in ("noise", "timesteps")
        )
        clean = self._scaled(batch["actions"]).repeat(len(draws), 1, 1)
        noisy = noise_schedule(self.config.num_diffusion_steps).add_noise(clean, noise, timesteps)
        front = torch.cat(
            [self.denoiser.time_tokens(timesteps), torch.cat(list(slots.values()))], dim=1
        )
        scene = scene.repeat(1, 1, len(draws), 1, 1, 1)
        predicted = self.denoiser(noisy, torch.cat([self.denoiser.read(front), scene], dim=-2))
        return dict(zip(slots, predicted.chunk(len(draws)), strict=True))

    @property
    def loss_weights(self) -> dict[str, float]:
        """Weight of each named loss in `loss`."""
        has_both = "none" in self.config.goal_kinds and bool(self.goal_encoder.encoders)
        return loss_weights(self.config, only_one_draw=not has_both)

    def _values(self, scaled: Tensor, scene: Tensor) -> Tensor:
        """Values (B, N) of scaled actions (B, N, H, 3). The critic sees the scene, not the goal."""
        rows = rearrange(scaled, "b n h c -> (b n) h c")
        values = self.critic_head(self.denoiser.summarise(rows, scene))
        return rearrange(values, "(b n) 1 -> b n", n=scaled.shape[1]).float()

    def _scaled(self, actions: Tensor) -> Tensor:
        return actions.float() * actions.new_tensor(self.config.action_scale, dtype=torch.float32)

    def _draw(
        self, actions: Tensor, noise: Tensor | None, timesteps: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Noise (B, 2, H, 3) and diffusion steps (B, 2), the given ones or drawn."""
        draws, device = Draws(actions, self.training), actions.device
        if noise is None:
            noise = draws.normal(len(DRAWS), *actions.shape[1:])
        if timesteps is None:
            timesteps = draws.below(self.config.num_diffusion_steps, len(DRAWS))
        return noise.to(device), timesteps.to(device)

    def _checked(self, **tensors: Tensor | None) -> dict[str, Tensor]:
        """`tensors` without goals that the model does not use.

        Raises ValueError for missing tensors and for shapes other than the configuration's.
        """
        config, size = self.config, self.config.image_size
        steps = (config.action_horizon, NUM_ACTION_CHANNELS)
        goals = {_GOAL_KEYS[kind]: shape for kind, shape in self.goal_encoder.shapes.items()}
        shapes = {"rgb": (config.num_memory_frames, 3, size, size), "depth": (size, size)}
        shapes |= {"actions": steps, "perturbed_actions": steps, "value": (), **goals}
        read = {_GOAL_KEYS[kind] for kind in self.goal_encoder.encoders}
        read |= {"goal_point"} if self.auxiliary_heads else set()
        checked = {}
        for name, tensor in tensors.items():
            if name in goals and name not in read:
                continue
            expected = shapes.get(name, ())
            if tensor is None or tuple(tensor.shape[1:]) != expected:
                found = None if tensor is None else tuple(tensor.shape)
                sizes = "".join(f", {length}" for length in expected) or ","
                raise ValueError(f"NavDPModel: {name}: found {found}, expected (B{sizes}).")
            checked[name] = tensor
        return checked

    @property
    def dummy_inputs(self) -> dict[str, Tensor]:
        """Two samples, one of which has a memory of one frame only."""
        config, size = self.config, self.config.image_size
        generator = torch.Generator().manual_seed(0)
        steps = (config.action_horizon, NUM_ACTION_CHANNELS)

        def rand(*shape: int) -> Tensor:
            return torch.rand(2, *shape, generator=generator)

        inputs = {
            "rgb": rand(config.num_memory_frames, 3, size, size),
            "depth": 5 * rand(size, size),
            "actions": 0.4 * rand(*steps) - 0.2,
            "perturbed_actions": 0.4 * rand(*steps) - 0.2,
            "value": rand(),
            "perturbed_value": -rand(),
            "noise": 2 * rand(2, *steps) - 1,
            "timesteps": torch.randint(config.num_diffusion_steps, (2, 2), generator=generator),
        }
        inputs["rgb"][1, :-1] = 0
        for kind, shape in self.goal_encoder.shapes.items():
            inputs[_GOAL_KEYS[kind]] = rand(*shape)
        return {name: tensor.to(self.device) for name, tensor in inputs.items()}
