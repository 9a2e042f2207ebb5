"""The base of every action expert, the fast half of the dual system.

An expert turns System2's latent plan and the robot's views into a short trajectory. Frames belong
to one decision, in time order: frame 0 is the look-down view in which System2 chose the goal pixel,
and each frame in turn is the current view. Actions are steps in the robot's frame at their view:
(dx, dy, dyaw) in metres and radians, x forward, y left, counter-clockwise.

Legend: B samples, T frames, V valid frames of all samples, Q query tokens of a plan, D width of
System2, H horizon, S image size, N tokens of a frame, C their width.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from internnav_hf.models.common.counted_losses import CountedLosses
from internnav_hf.models.common.diffusion import NUM_ACTION_CHANNELS
from internnav_hf.weights.loading import StrictLoading

NUM_VIEWS = 2  # the view of the decision, and the current one


@dataclass
class ActionExpertOutput(ModelOutput):
    """Output of `forward` of an expert or the dual system.

    `action_loss` is the mean over valid frames of the squared error of the diffusion model's
    prediction; `loss` is to be minimised. `loss_counts["action_loss"]` counts the valid frames.
    """

    loss: Tensor | None = None
    action_loss: Tensor | None = None
    loss_counts: dict[str, Tensor] | None = None


class ActionExpert(CountedLosses, StrictLoading, PreTrainedModel, ABC):
    """See the module. An expert of an `ActionExpertConfig` adds `encode`, `errors` and `denoise`.

    The dual system also takes another `PreTrainedModel` with `forward`, `encode_views`, `sample`.
    """

    config: Any
    base_model_prefix = ""
    main_input_name = "plan"
    loss_count_keys = {"frame_mask": "num_frames_in_batch"}
    loss_weights = {"action_loss": 1.0}
    """Weight of each named loss in `loss`."""

    @property
    def sees_views(self) -> bool:
        """Whether views are used; without them, features of views have no tokens."""
        return True

    @abstractmethod
    def encode(self, rgb: Tensor, depth: Tensor | None) -> Tensor:
        """Features (V, N, C) of the frames `rgb` (V, 3, S, S) and, if the configuration's
        `uses_depth`, `depth` (V, S, S).
        """

    @abstractmethod
    def errors(
        self,
        plan: Tensor,
        sample_of: Tensor,
        views: Tensor | None,
        target: Tensor,
        noise: Tensor | None,
        timesteps: Tensor | None,
    ) -> Tensor:
        """(V,): mean squared error of the prediction at each valid frame.

        `plan` (B, Q, D); `sample_of` (V,) is the sample of each frame; `views` (V, 2, N, C) are
        features of the view of its decision and of its own; `target` (V, H, 3) its actions, scaled;
        `noise` (V, H, 3) and `timesteps` (V,) are given, or to be drawn with `Draws`.
        """

    @abstractmethod
    def denoise(
        self,
        noise: Tensor,
        plan: Tensor,
        views: Tensor | None,
        generator: torch.Generator | list[torch.Generator] | None,
    ) -> Tensor:
        """Scaled actions (B, samples, H, 3) from `noise` (B, samples, H, 3), without gradient.

        Arguments as in `sample`, whose further settings are those of this method.
        """

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
        """Loss for `actions` (B, T, H, 3) at the frames in `frame_mask` (B, T), by default all.

        `plan` (B, Q, D); `rgb` (B, T, 3, S, S), uint8 or floats in [0, 1]; `depth` (B, T, S, S) in
        metres. `num_frames_in_batch` counts the valid frames of the whole optimisation step.
        `noise` (B, T, H, 3) and `timesteps` (B, T), in the expert's units, replace the random ones:
        in training those of torch's own generator, in evaluation always the same for the same
        actions. Raises ValueError for missing inputs, for shapes other than the configuration's,
        and if no frame is valid.
        """
        config = self.config
        plan = self._checked("plan", plan, config.plan_hidden_size)
        actions = self._checked("actions", actions, config.action_horizon, NUM_ACTION_CHANNELS)
        if frame_mask is None:
            frame_mask = torch.ones(actions.shape[:2], dtype=torch.bool, device=actions.device)
        self.check_counts(num_frames_in_batch=num_frames_in_batch)
        sample_of = frame_mask.nonzero()[:, 0]
        if not len(sample_of):
            raise ValueError(f"{type(self).__name__}: frame_mask: found no valid frame.")
        views = self._pairs(rgb, depth, frame_mask, sample_of) if self.sees_views else None
        target = actions[frame_mask].float()
        target = target * target.new_tensor(config.action_scale)
        noise = None if noise is None else noise[frame_mask].to(target)
        timesteps = None if timesteps is None else timesteps[frame_mask].to(target.device)
        errors = self.errors(plan, sample_of, views, target, noise, timesteps)
        count = torch.tensor(len(errors), device=errors.device)
        divisor = count if num_frames_in_batch is None else num_frames_in_batch
        return ActionExpertOutput(
            loss=errors.sum() / divisor,
            action_loss=errors.detach().mean(),
            loss_counts={"action_loss": count},
        )

    def encode_views(self, rgb: Tensor, depth: Tensor | None = None) -> Tensor:
        """Features (B, T, N, C) of each frame by itself, to be cached during an episode."""
        if not self.sees_views:
            return torch.zeros(*rgb.shape[:2], 0, 0, device=rgb.device)
        rgb, depth = self._checked_views(rgb, depth)
        frames = self.encode(rgb.flatten(0, 1), None if depth is None else depth.flatten(0, 1))
        return frames.unflatten(0, rgb.shape[:2])

    @torch.no_grad()
    def sample(
        self,
        plan: Tensor,
        rgb: Tensor | None = None,
        depth: Tensor | None = None,
        num_samples: int = 32,
        generator: torch.Generator | list[torch.Generator] | None = None,
        noise: Tensor | None = None,
        views: Tensor | None = None,
        **settings: Any,
    ) -> Tensor:
        """Actions (B, num_samples, H, 3) for the current view.

        `rgb` (B, 2, 3, S, S) and `depth` (B, 2, S, S) show the view of the decision and the current
        one; `views` (B, 2, N, C), their features from `encode_views`, replaces both. `noise`
        (B, num_samples, H, 3) replaces the initial noise; a list of generators has one per sample
        of the batch, so that the noise of a sample does not depend on the others. `settings` are
        those of the expert's `denoise`.
        """
        config = self.config
        plan = self._checked("plan", plan, config.plan_hidden_size)
        if views is None and self.sees_views:
            views = self.encode_views(rgb, depth)
        if views is not None and views.shape[1] != NUM_VIEWS:
            raise ValueError(
                f"There are {views.shape[1]} views; expected {NUM_VIEWS}, that of the decision and "
                "the current one."
            )
        if noise is None:
            shape = (len(plan), num_samples, config.action_horizon, NUM_ACTION_CHANNELS)
            noise = randn_tensor(shape, generator, plan.device, torch.float32)
        scaled = self.denoise(noise.float(), plan, views, generator, **settings)
        return scaled / scaled.new_tensor(config.action_scale)

    def _pairs(
        self, rgb: Tensor | None, depth: Tensor | None, frame_mask: Tensor, sample_of: Tensor
    ) -> Tensor:
        """Features (V, 2, N, C) of the view of the decision and of each valid frame, each encoded
        once.
        """
        rgb, depth = self._checked_views(rgb, depth)
        is_decision = torch.zeros_like(frame_mask)
        is_decision[:, 0] = True
        needed = frame_mask | is_decision
        frames = self.encode(rgb[needed], None if depth is None else depth[needed])
        decisions = frames[is_decision[needed]]
        return torch.stack([decisions[sample_of], frames[frame_mask[needed]]], dim=1)

    def _checked_views(
        self, rgb: Tensor | None, depth: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        size = self.config.image_size
        depth = self._checked("depth", depth, size, size) if self.config.uses_depth else None
        return self._checked("rgb", rgb, 3, size, size), depth

    def _checked(self, name: str, tensor: Tensor | None, *trailing: int) -> Tensor:
        """`tensor`. Raises ValueError if it is None or its shape does not end in `trailing`."""
        found = None if tensor is None else tuple(tensor.shape)
        if tensor is None or found[-len(trailing) :] != trailing:
            sizes = ", ".join(map(str, trailing))
            expected = f"expected (..., {sizes})"
            raise ValueError(f"{type(self).__name__}: {name}: found {found}, {expected}.")
        return tensor

    @property
    def dummy_inputs(self) -> dict[str, Tensor]:
        """Two samples of three frames, the last of which is padding in the second."""
        config, generator = self.config, torch.Generator().manual_seed(0)
        size, steps = config.image_size, (config.action_horizon, NUM_ACTION_CHANNELS)
        inputs = {
            "plan": torch.randn(2, 4, config.plan_hidden_size, generator=generator),
            "rgb": torch.rand(2, 3, 3, size, size, generator=generator),
            "depth": 5 * torch.rand(2, 3, size, size, generator=generator),
            "actions": 0.1 * torch.randn(2, 3, *steps, generator=generator),
            "frame_mask": torch.tensor([[True, True, True], [True, True, False]]),
        }
        return {name: tensor.to(self.device) for name, tensor in inputs.items()}
