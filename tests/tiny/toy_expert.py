"""The smallest action expert: a linear map of the plan and of the current view's mean colour."""

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel

from internnav_hf.models.dual_system.action_expert import ActionExpertOutput


class ToyExpertConfig(PreTrainedConfig):
    model_type = "toy_action_expert"
    uses_depth = False

    plan_hidden_size: int = 64
    action_horizon: int = 4
    image_size: int = 8


class ToyExpert(PreTrainedModel):
    config_class = ToyExpertConfig

    def __init__(self, config):
        super().__init__(config)
        self.from_plan = nn.Linear(config.plan_hidden_size, 3 * config.action_horizon)
        self.from_view = nn.Linear(3, 3 * config.action_horizon)
        self.post_init()

    def forward(
        self,
        plan,
        rgb=None,
        depth=None,
        actions=None,
        frame_mask=None,
        num_frames_in_batch=None,
        noise=None,
        timesteps=None,
    ):
        """The squared error of a regression; `noise` and `timesteps` are not used."""
        predicted = self.predict(plan, rgb.mean((-2, -1)))
        errors = (predicted - actions).square().mean((-2, -1)) * frame_mask
        count = frame_mask.sum()
        loss = errors.sum() / (count if num_frames_in_batch is None else num_frames_in_batch)
        return ActionExpertOutput(loss, errors.sum() / count, {"action_loss": count})

    def predict(self, plan, colours):
        steps = self.from_plan(plan.mean(1))[:, None] + self.from_view(colours)
        return steps.unflatten(-1, (self.config.action_horizon, 3))

    @torch.no_grad()
    def sample(
        self, plan, rgb=None, depth=None, num_samples=32, generator=None, noise=None, views=None
    ):
        """The same for every sample."""
        views = self.encode_views(rgb) if views is None else views
        steps = self.predict(plan, views[:, -1:, 0])
        return steps.expand(-1, num_samples, -1, -1)

    def encode_views(self, rgb, depth=None):
        return rgb.float().mean((-2, -1))[:, :, None]


AutoConfig.register(ToyExpertConfig.model_type, ToyExpertConfig)
AutoModel.register(ToyExpertConfig, ToyExpert)
