"""DD-PPO's point-goal agent (arXiv 1911.00357): views, a goal and the last action into an LSTM.

It chooses the next step and estimates its value. Trained by PPO in a simulator, or here also by
cloning an expert's actions over whole episodes. Differs from the published code: batch first, and
padded steps are not read.

Legend: B episodes, T steps, F valid steps, H and W rows and columns of images, A actions, L layers
of the LSTM, C its width.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, Independent, Normal
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from internnav_hf.models.common.counted_losses import CountedLosses
from internnav_hf.models.common.depth_resnet import GroupNormResNet
from internnav_hf.models.common.dino import to_unit
from internnav_hf.models.common.recurrent import LSTMStateEncoder
from internnav_hf.models.ddppo.config import DDPPOConfig
from internnav_hf.models.ddppo.released import find_released, released_fields, released_keys
from internnav_hf.publishing.pushing import PushesWithCard
from internnav_hf.weights.inert_pickle import read_tensors
from internnav_hf.weights.loading import Release, StrictLoading

NUM_VISUAL_FEATURES = 2048
"""of an image, about: divided over its grid, they give the channels."""
_GAIN = 0.01  # of the first actions, so that they are about equally likely


@dataclass
class DDPPOOutput(ModelOutput):
    """Output of `forward`.

    `logits` (B, T, A) of discrete actions, or (B, T, 2 * A), a Gaussian's mean before the tanh and
    its logarithmic deviation before it is bounded: see `DDPPOModel.distribution`. `state_values`
    (B, T), None without that head. `hidden_states` (B, 2 * L, C), after the last step. With
    `actions`, `action_loss`: the mean over episodes of the weighted mean over steps of -log p;
    `loss` is the same.
    """

    loss: Tensor | None = None
    action_loss: Tensor | None = None
    loss_counts: dict[str, Tensor] | None = None
    logits: Tensor | None = None
    state_values: Tensor | None = None  # as `values` it would hide a dictionary's, which DDP calls
    hidden_states: Tensor | None = None


class DDPPOModel(PushesWithCard, CountedLosses, StrictLoading, PreTrainedModel):
    """See the module."""

    config_class = DDPPOConfig
    config: DDPPOConfig
    base_model_prefix = ""
    main_input_name = "pointgoal"
    loss_count_keys = {"episode_mask": "num_episodes_in_batch"}
    loss_weights = {"action_loss": 1.0}
    _no_split_modules = ["_Block"]
    opens_files = True
    release_options = ("unused",)

    def __init__(self, config: DDPPOConfig):
        super().__init__(config)
        width, embedded = config.hidden_size, config.embedding_size
        inputs = 2 * embedded
        if config.views:
            cells = config.grid_size[0] * config.grid_size[1]
            channels = round(NUM_VISUAL_FEATURES / cells)
            self.visual_encoder = GroupNormResNet(
                config.num_channels,
                config.base_planes,
                tuple(config.num_blocks),
                channels,
                config.block_type,
                config.squeeze_excite,
                normalise="rgb" in config.views,
            )
            self.visual_projection = nn.Linear(channels * cells, width)
            inputs += width
        self.goal_projection = nn.Linear(3, embedded)
        self.previous_action_embedding = (
            nn.Embedding(config.num_actions + 1, embedded)  # the first is for none
            if config.is_discrete
            else nn.Linear(config.num_actions, embedded)
        )
        self.state_encoder = LSTMStateEncoder(inputs, width, config.num_recurrent_layers)
        num_outputs = config.num_actions if config.is_discrete else 2 * config.num_actions
        self.action_head = nn.Linear(width, num_outputs)
        self.value_head = nn.Linear(width, 1) if config.has_value_head else None
        self.post_init()

    @classmethod
    def released(cls, path, unused=(), **hub) -> Release | None:
        """A file of 2019 or of VLFM, or a folder with one and no configuration; names in it that
        start with one of `unused` are dropped.
        """
        file = find_released(path)
        if file is None:
            return None
        weights = read_tensors(file)
        fields = released_fields(weights, file)
        return Release(file, fields, lambda model: released_keys(weights, unused))

    def _init_weights(self, module: nn.Module) -> None:
        """As published: torch's own but for the heads and the LSTM."""
        if module is self.action_head or module is self.value_head:
            init.orthogonal_(module.weight, gain=_GAIN if module is self.action_head else 1.0)
            init.zeros_(module.bias)
        elif isinstance(module, nn.Linear | nn.Embedding | nn.Conv2d | nn.GroupNorm):
            module.reset_parameters()

    def forward(
        self,
        pointgoal: Tensor,
        depth: Tensor | None = None,
        rgb: Tensor | None = None,
        previous_actions: Tensor | None = None,
        masks: Tensor | None = None,
        hidden_states: Tensor | None = None,
        actions: Tensor | None = None,
        inflection_weights: Tensor | None = None,
        step_mask: Tensor | None = None,
        episode_mask: Tensor | None = None,
        num_episodes_in_batch: Tensor | int | None = None,
    ) -> DDPPOOutput:
        """Actions and values at all steps and, if the expert's `actions` are given, the loss.

        `pointgoal` (B, T, 2): distance in m and angle in rad, left positive, in the robot's frame;
        `depth` (B, T, H, W, 1) in 0..1, see `scaled_depth`; `rgb` (B, T, H, W, 3) bytes, or floats
        in 0..1; `previous_actions` and `actions` (B, T) numbers of actions, or (B, T, A).
        `masks` (B, T) is False at the first step of an episode, before which the state is zeros and
        no action precedes; by default the first of all if no `hidden_states` (B, 2 * L, C) are
        given. `inflection_weights` (B, T), ones by default; `step_mask` (B, T) is True where there
        is a step, which padding follows; `episode_mask` (B,) for episodes that count, and
        `num_episodes_in_batch` its sum over the whole optimisation step. Raises ValueError for
        missing or misshapen inputs.
        """
        shape = pointgoal.shape[:2]
        if step_mask is None:
            step_mask = torch.ones(shape, dtype=torch.bool, device=pointgoal.device)
        if masks is None:
            masks = torch.ones(shape, dtype=torch.bool, device=pointgoal.device)
            masks[:, 0] = hidden_states is not None
        given = {"depth": depth, "rgb": rgb, "previous_actions": previous_actions}
        self._check(pointgoal, given | {"masks": masks, "hidden_states": hidden_states})
        continues = masks.bool() & step_mask
        parts = [] if not self.config.views else [self._see(depth, rgb, step_mask)]
        parts += [self._goal(pointgoal, step_mask), self._previous(previous_actions, continues)]
        if hidden_states is None:
            size = (2 * self.config.num_recurrent_layers, self.config.hidden_size)
            hidden_states = pointgoal.new_zeros(len(pointgoal), *size)
        resets = ~masks.bool() & step_mask
        features, state = self.state_encoder(
            torch.cat(parts, dim=-1), hidden_states.to(self.dtype), resets
        )
        output = DDPPOOutput(logits=self.action_head(features).float(), hidden_states=state)
        if self.value_head is not None:
            output.state_values = self.value_head(features)[..., 0].float()
        if actions is not None:
            self.check_counts(num_episodes_in_batch=num_episodes_in_batch)
            if episode_mask is not None:
                step_mask = step_mask & episode_mask.bool()[:, None]
            targets = (actions, inflection_weights)
            losses = self._losses(output.logits, *targets, step_mask, num_episodes_in_batch)
            if output.state_values is not None:
                # no expert tells values; processes that share gradients expect one of every weight
                losses["loss"] = losses["loss"] + 0 * output.state_values.sum()
            output = DDPPOOutput(**(dict(output) | losses))
        return output

    def distribution(self, logits: Tensor) -> Distribution:
        """The distribution of actions that `logits` (..., A) of `forward` describe."""
        if self.config.is_discrete:
            return Categorical(logits=logits.float())
        mean, deviation = logits.float().chunk(2, dim=-1)
        bounded = deviation.clamp(self.config.min_log_std, self.config.max_log_std)
        return Independent(Normal(mean.tanh(), bounded.exp()), 1)

    def _see(self, depth: Tensor | None, rgb: Tensor | None, step_mask: Tensor) -> Tensor:
        """(B, T, C), zeros at padding."""
        given = {"depth": depth, "rgb": rgb}
        views = []
        for name in self.config.views:
            view: Any = given[name]
            views.append(to_unit(view[step_mask].permute(0, 3, 1, 2)).to(self.dtype))
        features = self.visual_encoder(torch.cat(views, dim=1)).flatten(1)
        features = self.visual_projection(features).relu()
        steps = features.new_zeros(*step_mask.shape, features.shape[-1])
        return steps.masked_scatter(step_mask[..., None], features)

    def _goal(self, pointgoal: Tensor, step_mask: Tensor) -> Tensor:
        known = pointgoal.float().where(step_mask[..., None], 0)
        distance, angle = known.unbind(-1)
        told = torch.stack([distance, torch.cos(-angle), torch.sin(-angle)], dim=-1)
        return self.goal_projection(told.to(self.dtype))

    def _previous(self, actions: Tensor | None, continues: Tensor) -> Tensor:
        """The embedded last action, none where an episode does not continue."""
        if actions is None:
            size = () if self.config.is_discrete else (self.config.num_actions,)
            actions = continues.new_zeros(*continues.shape, *size, dtype=torch.long)
            continues = torch.zeros_like(continues)
        if self.config.is_discrete:
            return self.previous_action_embedding((actions.long() + 1).where(continues, 0))
        known = actions.to(self.dtype).where(continues[..., None], 0)
        return self.previous_action_embedding(known)

    def _losses(
        self,
        logits: Tensor,
        actions: Tensor,
        weights: Tensor | None,
        step_mask: Tensor,
        num_episodes: Tensor | int | None,
    ) -> dict[str, Any]:
        filled = step_mask if self.config.is_discrete else step_mask[..., None]
        errors = -self.distribution(logits).log_prob(actions.where(filled, 0))
        weights = torch.ones_like(errors) if weights is None else weights.float()
        weights = weights.where(step_mask, 0)
        of_steps = weights / weights.sum(1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
        total = (of_steps * errors.where(step_mask, 0)).sum()
        count = step_mask.any(1).sum()
        here = count.clamp(min=1)
        return {
            "loss": total / (here if num_episodes is None else num_episodes),
            "action_loss": total.detach() / here,
            "loss_counts": {"action_loss": count},
        }

    def _check(self, pointgoal: Tensor, given: dict[str, Tensor | None]) -> None:
        """Raise ValueError for a missing view and for shapes other than the configuration's."""
        config, steps = self.config, tuple(pointgoal.shape[:2])
        size = (config.image_height, config.image_width)
        each = () if config.is_discrete else (config.num_actions,)
        states = (2 * config.num_recurrent_layers, config.hidden_size)
        expected = {
            "pointgoal": (*steps, 2),
            "depth": (*steps, *size, 1),
            "rgb": (*steps, *size, 3),
            "previous_actions": (*steps, *each),
            "masks": steps,
            "hidden_states": (len(pointgoal), *states),
        }
        for name, tensor in {"pointgoal": pointgoal, **given}.items():
            is_view = name in ("depth", "rgb")
            needed = name in config.views if is_view else False
            found = None if tensor is None else tuple(tensor.shape)
            if (found is None and needed) or (found is not None and found != expected[name]):
                place = f"{type(self).__name__}: {name}"
                raise ValueError(f"{place}: found {found}, expected {expected[name]}.")

    @property
    def dummy_inputs(self) -> dict[str, Tensor]:
        """Two episodes of three steps, the second of one step less."""
        config, generator = self.config, torch.Generator().manual_seed(0)
        size, steps = (config.image_height, config.image_width), (2, 3)
        inputs = {"pointgoal": torch.rand(*steps, 2, generator=generator)}
        if "depth" in config.views:
            inputs["depth"] = torch.rand(*steps, *size, 1, generator=generator)
        if "rgb" in config.views:
            inputs["rgb"] = torch.rand(*steps, *size, 3, generator=generator)
        if config.is_discrete:
            actions = torch.randint(config.num_actions, steps, generator=generator)
        else:
            actions = torch.rand(*steps, config.num_actions, generator=generator)
        step_mask = torch.tensor([[True, True, True], [True, True, False]])
        inputs |= {"actions": actions, "previous_actions": actions.roll(1, 1)}
        inputs |= {"masks": torch.tensor([[False, True, True]] * 2), "step_mask": step_mask}
        inputs["inflection_weights"] = 1 + torch.rand(steps, generator=generator)
        return {name: tensor.to(self.device) for name, tensor in inputs.items()}
