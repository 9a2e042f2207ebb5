"""Common base of GNM, ViNT and NoMaD.

Legend: B samples, M memory frames, H horizon, A channels of a waypoint, V valid samples.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from internnav_hf.models.common.counted_losses import CountedLosses
from internnav_hf.models.gnm.config import ImageGoalConfig
from internnav_hf.models.gnm.losses import Counts, WaypointOutput, mean_square, weighted
from internnav_hf.models.gnm.released import released_fields, released_keys
from internnav_hf.publishing.pushing import PushesWithCard
from internnav_hf.weights.bare_release import BareRelease

_OWN_RESET = (nn.Linear, nn.Conv1d, nn.ConvTranspose1d, nn.Conv2d, nn.LayerNorm, nn.GroupNorm)
_OWN_RESET = (*_OWN_RESET, nn.BatchNorm2d)


class ImageGoalModel(PushesWithCard, CountedLosses, BareRelease, PreTrainedModel):
    """Inputs, initial weights and released files, which all three share."""

    config_class = ImageGoalConfig
    config: Any
    base_model_prefix = ""
    main_input_name = "rgb"
    loss_count_keys = {
        "sample_mask": "num_samples_in_batch",
        "action_mask": "num_actions_in_batch",
    }
    released_keys = staticmethod(released_keys)
    action_loss_name = "action_loss"
    """Name of the loss that `config.action_loss_weight` weighs."""

    @classmethod
    def released_fields(cls, state_dict: Mapping[str, Tensor], source: Path) -> dict[str, Any]:
        """Those of a pickled module or a state dict."""
        return released_fields(state_dict, cls.config_class, source)

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.MultiheadAttention):
            module._reset_parameters()  # torch's own, as published
        elif isinstance(module, _OWN_RESET):
            module.reset_parameters()

    def checked(self, **tensors: Tensor | None) -> dict[str, Tensor]:
        """`tensors`; ValueError for missing ones and for shapes other than the configuration's."""
        config = self.config
        size = (config.image_height, config.image_width)
        shapes = {"rgb": (config.num_memory_frames, 3, *size), "goal_image": (3, *size)}
        shapes |= {"actions": (config.action_horizon, config.num_waypoint_channels)}
        for name, tensor in tensors.items():
            expected = shapes.get(name, ())
            if tensor is None or tuple(tensor.shape[1:]) != expected:
                found = None if tensor is None else tuple(tensor.shape)
                sizes = "".join(f", {length}" for length in expected) or ","
                place = f"{type(self).__name__}: {name}"
                raise ValueError(f"{place}: found {found}, expected (B{sizes}).")
        return tensors  # pyright: ignore[reportReturnType]

    @property
    def loss_weights(self) -> dict[str, float]:
        """Weight of each named loss in `loss`."""
        config = self.config
        return {
            self.action_loss_name: config.action_loss_weight,
            "distance_loss": config.distance_loss_weight,
        }

    @property
    def dummy_inputs(self) -> dict[str, Tensor]:
        """Two samples, of whose goals the second is too far away for an action."""
        config, generator = self.config, torch.Generator().manual_seed(0)
        size = (config.image_height, config.image_width)
        steps = (config.action_horizon, config.num_waypoint_channels)
        inputs = {
            "rgb": torch.rand(2, config.num_memory_frames, 3, *size, generator=generator),
            "goal_image": torch.rand(2, 3, *size, generator=generator),
            "actions": torch.rand(2, *steps, generator=generator).cumsum(1),
            "distance": torch.tensor([4.0, 20.0]),
            "action_mask": torch.tensor([True, False]),
        }
        return {name: tensor.to(self.device) for name, tensor in inputs.items()}


class WaypointModel(ImageGoalModel):
    """GNM and ViNT: regression of waypoints and of the distance to the goal.

    A subclass has `read`, which encodes the memory, a row for each of `rgb` (B, M, 3, h, w), and
    `features`, the inputs of the heads (B, C) for encoded memories, `rgb` and goal images.
    """

    read: Callable[[Tensor], Tensor]
    features: Callable[[Tensor, Tensor, Tensor], Tensor]
    waypoint_head: nn.Linear
    distance_head: nn.Linear

    def forward(
        self,
        rgb: Tensor,
        goal_image: Tensor,
        actions: Tensor,
        distance: Tensor,
        action_mask: Tensor,
        sample_mask: Tensor | None = None,
        num_samples_in_batch: Tensor | int | None = None,
        num_actions_in_batch: Tensor | int | None = None,
    ) -> WaypointOutput:
        """Losses for the waypoints `actions` (B, H, A): x, y in `waypoint_spacing_m`, the cosine
        and sine of the heading; and for `distance` (B,), frames to the goal.

        `rgb` (B, M, 3, h, w), oldest first, and `goal_image` (B, 3, h, w) are bytes or floats in
        [0, 1]. `action_mask` (B,) is True if the waypoints count, `sample_mask` (B,) at valid
        samples; `num_..._in_batch` are their sums over the whole optimisation step. Raises
        ValueError for missing or misshapen inputs.
        """
        given = {"distance": distance, "action_mask": action_mask, "actions": actions}
        batch = self.checked(rgb=rgb, goal_image=goal_image, **given)
        counts = {"num_samples_in_batch": num_samples_in_batch}
        self.check_counts(**counts, num_actions_in_batch=num_actions_in_batch)
        if sample_mask is not None:
            batch = {name: tensor[sample_mask] for name, tensor in batch.items()}
        waypoints, predicted = self.predict(batch["rgb"], batch["goal_image"])
        mask = batch["action_mask"]
        here = Counts(mask.new_tensor(len(mask), dtype=torch.float32), mask.sum())
        whole = here.given(num_samples_in_batch, num_actions_in_batch)
        errors = mean_square(waypoints - batch["actions"]) * mask
        sums = {
            "action_loss": errors.sum(),
            "distance_loss": (predicted - batch["distance"].float()).square().sum(),
        }
        divisors = [
            {"action_loss": of.masked(of.actions), "distance_loss": of.samples}
            for of in (here, whole)
        ]
        return WaypointOutput(
            **weighted(self.loss_weights, sums, *divisors),
            waypoints=waypoints.detach(),
            distance=predicted.detach(),
        )

    def predict(
        self, rgb: Tensor, goal_image: Tensor, memory: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Waypoints (B, H, A) and distances (B,) in frames, float32; images as in `forward`.

        `memory` are rows of `read`, so that several goals share the views.
        """
        config = self.config
        memory = self.read(rgb) if memory is None else memory
        features = self.features(memory, rgb, goal_image)
        steps = self.waypoint_head(features).float().unflatten(1, (config.action_horizon, -1))
        waypoints = steps[..., :2].cumsum(1)
        if config.predicts_heading:
            heading = nn.functional.normalize(steps[..., 2:], dim=-1)
            waypoints = torch.cat([waypoints, heading], dim=-1)
        return waypoints, self.distance_head(features)[:, 0].float()

    def build_heads(self, size: int) -> None:
        """Layers that read `size` features."""
        config = self.config
        self.waypoint_head = nn.Linear(size, config.action_horizon * config.num_waypoint_channels)
        self.distance_head = nn.Linear(size, 1)


def layers(size: int, *sizes: int) -> nn.Sequential:
    """Linear layers from `size` to each of `sizes`, a ReLU after each."""
    pairs = zip((size, *sizes), sizes, strict=False)
    return nn.Sequential(*(part for a, b in pairs for part in (nn.Linear(a, b), nn.ReLU())))
