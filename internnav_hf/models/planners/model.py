"""iPlanner (arXiv 2302.11434) and ViPlanner (arXiv 2310.00982): a path to a point from one view.

A network answers a depth image, in ViPlanner also a semantic one or one of colours, and a goal with
a few keypoints and the fear that the path through them collides. It learns without labels: what the
path costs on a map is differentiable. Differs from the published code: maps come with each sample,
so that samples of all environments mix in a batch; `sample_mask`; two equal keypoints do not make
ViPlanner's loss NaN (`guard_equal_keypoints`).

Legend: B samples, V valid samples, H and W rows and columns of images, K keypoints, N points of a
path, X and Y cells of a map.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from internnav_hf.models.common.counted_losses import CountedLosses
from internnav_hf.models.planners.config import PlannerConfig, ViPlannerConfig, iPlannerConfig
from internnav_hf.models.planners.cost import (
    CostMap,
    PathCosts,
    fear_labels,
    measured_costs,
    path_costs,
)
from internnav_hf.models.planners.network import PlannerDecoder, PlannerEncoder
from internnav_hf.models.planners.released import released_fields, released_keys
from internnav_hf.models.planners.spline import PIECES, spline, straight_path
from internnav_hf.models.planners.training_settings import SETTINGS, fields_of
from internnav_hf.publishing.pushing import PushesWithCard
from internnav_hf.weights.bare_release import BareRelease

LOSSES = ("obstacle", "height", "motion", "goal", "fear")


@dataclass
class PlannerOutput(ModelOutput):
    """Output of `forward`. Each named loss is a mean over the valid samples, `loss` their weighted
    sum.

    `waypoints` (V, N, 3) are the paths in the robot's frame, `fear` (V,) the probability that they
    collide, `fear_label` (V,) whether they do. `mean_cost` and `largest_cost` (V,) are read from
    the map along the path, above the cost of ground to be used.
    """

    loss: Tensor | None = None
    obstacle_loss: Tensor | None = None
    height_loss: Tensor | None = None
    motion_loss: Tensor | None = None
    goal_loss: Tensor | None = None
    fear_loss: Tensor | None = None
    loss_counts: dict[str, Tensor] | None = None
    waypoints: Tensor | None = None
    fear: Tensor | None = None
    fear_label: Tensor | None = None
    mean_cost: Tensor | None = None
    largest_cost: Tensor | None = None


class PlannerPath(NamedTuple):
    """Output of `predict`, in metres in the robot's frame: x forward, y left, z up.

    `keypoints` (B, K, 3); `waypoints` (B, N, 3), the spline from the origin through them; `fear`
    (B,), the logit of a collision.
    """

    keypoints: Tensor
    waypoints: Tensor
    fear: Tensor


class PlannerModel(PushesWithCard, CountedLosses, BareRelease, PreTrainedModel):
    """What both planners have; see the module."""

    config: PlannerConfig
    base_model_prefix = ""
    main_input_name = "depth"
    loss_count_keys = {"sample_mask": "num_samples_in_batch"}
    _no_split_modules = ["ResNetConvLayer", "ResNetShortCut"]
    released_keys = staticmethod(released_keys)
    encoders: tuple[str, ...] = ("encoder",)
    """Names of the encoders, of depth first."""
    second_image: str | None = None
    """What else it sees, "semantics" or "rgb"."""
    statistics_are_frozen = False
    """Whether batch norm uses its stored statistics in training, too."""

    def __init__(self, config: PlannerConfig):
        super().__init__(config)
        for name in self.encoders:
            self.add_module(name, PlannerEncoder(config))
        self.decoder = PlannerDecoder(config, len(self.encoders) * config.hidden_sizes[-1])
        self.post_init()

    @classmethod
    def released_fields(cls, state_dict: Mapping[str, Tensor], source: Path) -> dict[str, Any]:
        """Those of a pair of a state dict or a pickled model and a loss, or of bare tensors."""
        return released_fields(cls.config_class, state_dict, source) | cls.settings_beside(source)

    @classmethod
    def settings_beside(cls, file: Path) -> dict[str, Any]:
        """Fields of the configuration that a file beside the released weights `file` names."""
        return {}

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Conv2d):
            module.reset_parameters()  # torch's own, as published
        else:
            super()._init_weights(module)

    def train(self, mode: bool = True):
        """As usual; see `statistics_are_frozen`."""
        super().train(mode)
        for module in self.modules():
            if self.statistics_are_frozen and isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    @property
    def loss_weights(self) -> dict[str, float]:
        """Weight of each named loss in `loss`."""
        config = self.config
        return {
            "obstacle_loss": config.obstacle_loss_weight,
            "height_loss": config.height_loss_weight,
            "motion_loss": config.motion_loss_weight,
            "goal_loss": config.goal_loss_weight,
            "fear_loss": config.fear_loss_weight,
        }

    def predict(
        self,
        depth: Tensor,
        goal_point: Tensor,
        semantics: Tensor | None = None,
        rgb: Tensor | None = None,
    ) -> PlannerPath:
        """The path to `goal_point` (B, 3) from `depth` (B, H, W) in metres, 0 where unknown, and
        for a model that uses them `semantics` (B, 3, H, W), the classes' colours, or `rgb`, those
        of the view, as bytes or floats in [0, 1].
        """
        images = self._images(depth, goal_point, {"semantics": semantics, "rgb": rgb})
        pairs = zip(self.encoders, images, strict=True)
        features = [self.get_submodule(name)(image) for name, image in pairs]
        keypoints, fear = self.decoder(torch.cat(features, dim=1), goal_point)
        keypoints = keypoints.float()
        return PlannerPath(keypoints, spline(keypoints), fear.float())

    def forward(
        self,
        depth: Tensor,
        goal_point: Tensor,
        T_world_robot: Tensor,
        cost_map: Tensor,
        map_origin: Tensor,
        map_resolution: Tensor,
        ground_map: Tensor | None = None,
        semantics: Tensor | None = None,
        rgb: Tensor | None = None,
        is_mirrored: Tensor | None = None,
        sample_mask: Tensor | None = None,
        num_samples_in_batch: Tensor | int | None = None,
    ) -> PlannerOutput:
        """Losses of the paths that `predict` gives.

        `T_world_robot` (B, 4, 4) is the robot's pose; `cost_map` (B, X, Y) costs, of which cell
        [0, 0] begins at `map_origin` (B, 2) and measures `map_resolution` (B,) metres; `ground_map`
        (B, X, Y) heights of the ground, level if not given. `is_mirrored` (B,): images were
        flipped left to right, so that the network is asked for the mirrored goal and its path
        mirrored back. Samples outside `sample_mask` (B,) do not count.
        """
        self.check_counts(num_samples_in_batch=num_samples_in_batch)
        mask = depth.new_ones(len(depth), dtype=torch.bool) if sample_mask is None else sample_mask
        batch = {"depth": depth, "goal": goal_point, "pose": T_world_robot, "costs": cost_map}
        batch |= {"origin": map_origin, "resolution": map_resolution, "ground": ground_map}
        batch |= {"semantics": semantics, "rgb": rgb, "mirrored": is_mirrored}
        batch = {name: None if value is None else value[mask] for name, value in batch.items()}
        side = torch.ones_like(batch["goal"])
        if batch["mirrored"] is not None:
            side[:, 1] -= 2 * batch["mirrored"].to(side)
        seen = batch["semantics"], batch["rgb"]
        path = self.predict(batch["depth"], batch["goal"] * side, *seen)
        waypoints = path.waypoints * side[:, None]
        costs = CostMap(batch["costs"], batch["origin"], batch["resolution"], batch["ground"])
        found = path_costs(waypoints, batch["goal"], batch["pose"], costs, self.config)
        output = self._judged(waypoints, found)
        label = output.fear_label
        fear = F.binary_cross_entropy_with_logits(path.fear, label, reduction="none")
        errors = {
            f"{name}_loss": term for name, term in zip(LOSSES, (*found[:4], fear), strict=True)
        }
        for name, value in self._losses(errors, mask.sum(), num_samples_in_batch).items():
            output[name] = value
        output.fear = path.fear.detach().sigmoid()
        return output

    def judge_straight(self, batch: dict[str, Tensor]) -> PlannerOutput:
        """Costs of the straight line to the goal for a `batch` of `forward`, without losses."""
        goal = batch["goal_point"]
        place = batch["map_origin"], batch["map_resolution"]
        costs = CostMap(batch["cost_map"], *place, batch.get("ground_map"))
        waypoints = straight_path(goal, PIECES * self.config.num_keypoints + 1)
        found = path_costs(waypoints, goal, batch["T_world_robot"], costs, self.config)
        return self._judged(waypoints, found)

    def _judged(self, waypoints: Tensor, found: PathCosts) -> PlannerOutput:
        """What the map says of paths, without gradients."""
        mean_cost, largest_cost = measured_costs(found.obstacles, self.config.traversable_cost)
        return PlannerOutput(
            waypoints=waypoints.detach(),
            fear_label=fear_labels(found.obstacles, waypoints.detach(), self.config),
            mean_cost=mean_cost.detach(),
            largest_cost=largest_cost.detach(),
        )

    def _losses(
        self, errors: dict[str, Tensor], count: Tensor, num_samples_in_batch: Tensor | int | None
    ) -> dict[str, Any]:
        """`loss` and its parts, of `errors` (V,) by name, of `count` samples."""
        sums = {name: error.sum() for name, error in errors.items()}
        total = torch.stack([self.loss_weights[name] * error for name, error in sums.items()]).sum()
        return {
            "loss": total / (count if num_samples_in_batch is None else num_samples_in_batch),
            **{name: error.detach() / count for name, error in sums.items()},
            "loss_counts": dict.fromkeys(errors, count),
        }

    def _images(
        self, depth: Tensor, goal_point: Tensor, others: dict[str, Tensor | None]
    ) -> tuple[Tensor, ...]:
        """Inputs (B, 3, H, W) of the encoders; ValueError for shapes other than the
        configuration's.
        """
        size = (self.config.image_height, self.config.image_width)
        given = {"depth": (depth, size), "goal_point": (goal_point, (3,))}
        second = None if self.second_image is None else others[self.second_image]
        if self.second_image is not None:
            given[self.second_image] = (second, (3, *size))
        for name, (tensor, expected) in given.items():
            if tensor is None or tuple(tensor.shape[1:]) != expected:
                found = None if tensor is None else tuple(tensor.shape)
                sizes = ", ".join(map(str, expected))
                model = type(self).__name__
                raise ValueError(f"{model}: {name}: found {found}, expected (B, {sizes}).")
        images = (depth[:, None].expand(-1, 3, -1, -1).to(self.dtype),)
        if second is None:
            return images
        scale = 1 if second.is_floating_point() else 255
        return (*images, second.to(self.dtype) / scale)

    @property
    def dummy_inputs(self) -> dict[str, Tensor]:
        """Two samples in a place with a wall ahead."""
        config, generator = self.config, torch.Generator().manual_seed(0)
        size = (config.image_height, config.image_width)
        costs = torch.zeros(2, 60, 50)
        costs[:, 40:] = 2 * torch.arange(1, 21)[:, None] / 20
        inputs = {
            "depth": 5 * torch.rand(2, *size, generator=generator),
            "goal_point": torch.tensor([[3.0, 1.0, 0.0], [2.0, -1.0, 0.0]]),
            "T_world_robot": torch.eye(4).expand(2, 4, 4).clone(),
            "cost_map": costs,
            "map_origin": torch.tensor([[-2.0, -2.5]]).expand(2, 2).clone(),
            "map_resolution": torch.full((2,), 0.1),
        }
        if self.second_image is not None:
            shape = (2, 3, *size)
            inputs[self.second_image] = torch.randint(256, shape, generator=generator).byte()
        return {name: tensor.to(self.device) for name, tensor in inputs.items()}


class iPlannerModel(PlannerModel):
    """iPlanner."""

    config_class = iPlannerConfig
    config: iPlannerConfig


class ViPlannerModel(PlannerModel):
    """ViPlanner, with semantic images, with colours, or without both."""

    config_class = ViPlannerConfig
    config: ViPlannerConfig

    def __init__(self, config: ViPlannerConfig):
        if config.use_semantics:
            self.encoders, self.second_image = ("encoder_depth", "encoder_sem"), "semantics"
        elif config.use_rgb:
            self.encoders, self.second_image = ("encoder_depth", "encoder_rgb"), "rgb"
        super().__init__(config)

    @classmethod
    def settings_beside(cls, file: Path) -> dict[str, Any]:
        """Those of `model.yaml`, if it is there."""
        settings = file.with_name(SETTINGS)
        return fields_of(settings) if settings.is_file() else {}
