"""The dual system: a slow System2 plans, a fast action expert makes trajectories (InternVLA-N1,
DualVLN: arXiv 2512.08186).

After its dialogue System2 reads a few query tokens; their final hidden states are the plan, from
which the expert makes trajectories. Differs from the published code in the computation, not in the
result: attention is causal, so a frozen System2 reads the dialogue without gradient into a
key-value cache, and only the query tokens run with gradient; loss and gradients are the same.
Visual features and the cache are made once per sample, not once per frame. No logits are computed.

Legend: B samples, L tokens, Q query tokens, K plans of a sample, D width of System2, P patches,
T frames, H horizon, S image size.
"""

import logging
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from transformers import AutoModel, DynamicCache, PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

from internnav_hf.models.common.counted_losses import CountedLosses
from internnav_hf.models.dual_system.action_expert import ActionExpertOutput
from internnav_hf.models.dual_system.config import DualSystemConfig, holds_dual_system
from internnav_hf.models.dual_system.released import dual_system_keys
from internnav_hf.models.system2.model import System2Model
from internnav_hf.models.system2.packing import read_in_a_row
from internnav_hf.models.system2.session import System2Session
from internnav_hf.publishing.pushing import PushesWithCard
from internnav_hf.weights.adapters import FRESH
from internnav_hf.weights.checkpoints import hub_arguments, no_weights, open_weights, stored_config
from internnav_hf.weights.loading import Release, StrictLoading

logger = logging.getLogger(__name__)


@dataclass
class DualSystemOutput(ActionExpertOutput):
    """`ActionExpertOutput`, and the `plan` (B, Q, D), or (B, K, Q, D) if K were requested."""

    plan: Tensor | None = None


class LatentQueries(nn.Module):
    """The query tokens' embeddings (Q, D): a module, so that PEFT can keep it trainable."""

    def __init__(self, num_queries: int, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_queries, width))


class DualSystemModel(PushesWithCard, CountedLosses, StrictLoading, PreTrainedModel):
    """System2, latent queries and an action expert.

    If no parameter of System2's language and vision model is trained, training uses the frozen
    prefix, which is cheaper; otherwise the whole dialogue runs with gradient.
    """

    config_class = DualSystemConfig
    config: DualSystemConfig
    released_keys = staticmethod(dual_system_keys)
    base_model_prefix = ""
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    loss_count_keys = {"frame_mask": "num_frames_in_batch"}
    loss_weights = {"action_loss": 1.0}
    """Weight of each named loss in `loss`."""
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True

    def __init__(
        self,
        config: DualSystemConfig,
        system2: System2Model | None = None,
        action_expert: PreTrainedModel | None = None,
    ):
        """A model with random weights, or those of the given parts."""
        super().__init__(config)
        if is_deepspeed_zero3_enabled():
            raise ValueError(
                "The dual system cannot be built under ZeRO-3, whose weights are shared out from "
                "the start: use ZeRO-2 (recipes/accelerate/zero2.yaml). A frozen System2 needs "
                "neither gradients nor optimiser states."
            )
        self.system2 = System2Model(config.system2_config) if system2 is None else system2
        self._no_split_modules = self.system2._no_split_modules
        width = config.get_text_config().hidden_size
        self.latent_queries = LatentQueries(config.num_queries, width)
        if action_expert is None:
            action_expert = AutoModel.from_config(config.action_expert_config)
        self.action_expert: PreTrainedModel = action_expert
        self._told_full_pass = False
        self.post_init()

    def _init_weights(self, module):
        if isinstance(module, LatentQueries):
            init.normal_(module.weight)

    @classmethod
    def from_parts(
        cls, system2: System2Model, action_expert: PreTrainedConfig | PreTrainedModel, **fields
    ) -> "DualSystemModel":
        """A trained System2 with an expert, fresh from its configuration or trained before.

        `fields` are those of `DualSystemConfig`. Raises ValueError for an expert that takes plans
        of another width.
        """
        model = action_expert if isinstance(action_expert, PreTrainedModel) else None
        config = DualSystemConfig(
            system2_config=system2.config,
            action_expert_config=action_expert if model is None else model.config,
            **fields,
        )
        if model is None:
            model = AutoModel.from_config(config.action_expert_config)
            model.to(device=system2.device, dtype=system2.dtype)
        dual = cls(config, system2, model)
        dual.name_or_path = system2.name_or_path  # an adapter's name for its base
        dual.latent_queries.to(device=system2.device, dtype=system2.dtype)
        return dual

    @classmethod
    def released(cls, path, **hub) -> Release | None:
        """InternVLA-N1 with System1, such as `InternRobotics/InternVLA-N1-DualVLN`."""
        stored = stored_config(path, **hub)
        is_ours = stored.get("model_type") == DualSystemConfig.model_type
        if is_ours or not holds_dual_system(stored, path, **hub):
            return None
        weights = open_weights(path, **hub)
        if weights is None:
            raise no_weights(path)
        return Release(
            path, None, lambda model: dual_system_keys(weights.mapped(), model.config), weights
        )

    @classmethod
    def open_base(cls, path, config: DualSystemConfig | None = None, **kwargs) -> Any:
        """The base of an adapter: a dual system, or a System2 that is made into one, whose expert
        and queries come from the adapter.
        """
        hub = hub_arguments(kwargs)
        if config is None or holds_dual_system(stored_config(path, **hub), path, **hub):
            return cls.from_pretrained(path, config=config, **kwargs)
        system2 = System2Model.from_pretrained(path, config=config.system2_config, **kwargs)
        expert, num_queries = config.action_expert_config, config.num_queries
        dual = cls.from_parts(system2, expert, num_queries=num_queries)
        setattr(dual, FRESH, ["latent_queries", "action_expert"])
        return dual

    @property
    def system2_is_frozen(self) -> bool:
        """Whether the plan depends on no trainable weights other than the queries."""
        return not any(parameter.requires_grad for parameter in self.system2.vlm.parameters())

    def drop_padding(self) -> None:
        """As `System2Model.drop_padding`, for System2."""
        self.system2.drop_padding()

    def get_input_embeddings(self):
        """The VLM's token embeddings."""
        return self.system2.get_input_embeddings()

    def set_input_embeddings(self, value):
        """Replace the VLM's token embeddings."""
        self.system2.set_input_embeddings(value)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        pixel_values: Tensor | None = None,
        image_grid_thw: Tensor | None = None,
        mm_token_type_ids: Tensor | None = None,
        rgb: Tensor | None = None,
        depth: Tensor | None = None,
        actions: Tensor | None = None,
        frame_mask: Tensor | None = None,
        plan_position: Tensor | None = None,
        num_frames_in_batch: Tensor | int | None = None,
        noise: Tensor | None = None,
        timesteps: Tensor | None = None,
    ) -> DualSystemOutput:
        """The plan after each dialogue and, given `actions`, the expert's loss for it.

        `input_ids, attention_mask, mm_token_type_ids` (B, L), padded on either side; `pixel_values`
        (P, C); `image_grid_thw` (images, 3); the others as in `ActionExpert.forward`.
        `plan_position` (B, K) requests several plans of a sample, each after that many columns of
        `input_ids`; then the expert's arguments have a dimension K after B.
        """
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        if mm_token_type_ids is None:
            image_token = self.config.system2_config.vlm_config.image_token_id
            mm_token_type_ids = (input_ids == image_token).long()
        images = {"pixel_values": pixel_values, "image_grid_thw": image_grid_thw}
        words = (input_ids, attention_mask, mm_token_type_ids)
        plan = self._latent_plan(*words, images, plan_position)
        if actions is None:
            return DualSystemOutput(plan=plan)
        self.check_counts(num_frames_in_batch=num_frames_in_batch)
        arguments = [plan, rgb, depth, actions, frame_mask]
        if plan_position is not None:
            arguments = [_flat(argument) for argument in arguments]
            noise, timesteps = _flat(noise), _flat(timesteps)
        output = self.action_expert(
            *arguments, num_frames_in_batch=num_frames_in_batch, noise=noise, timesteps=timesteps
        )
        return DualSystemOutput(**output, plan=plan)

    def _latent_plan(
        self, input_ids, attention_mask, mm_token_type_ids, images, plan_position
    ) -> Tensor:
        """The plan (B, Q, D), or (B, K, Q, D) for `plan_position` (B, K); see `forward`."""
        positions, _ = self.system2.vlm.model.get_rope_index(
            input_ids,
            mm_token_type_ids=mm_token_type_ids.int(),
            image_grid_thw=images["image_grid_thw"],
            attention_mask=attention_mask,
        )
        layout = _Layout(attention_mask, positions, plan_position, self.config.num_queries)
        queries = self.latent_queries.weight
        queries = queries.expand(*layout.ends.shape, -1, -1).flatten(1, 2)
        read = self._read_frozen if self.system2_is_frozen else self._read_whole
        hidden = read(input_ids, queries, layout, images)
        if plan_position is None:
            return hidden
        return rearrange(hidden, "b (k q) d -> b k q d", q=self.config.num_queries)

    def plan(self, session: System2Session) -> Tensor:
        """The plan (B, Q, D) after all tokens of `session` so far, from its key-value cache.

        The session is unchanged.
        """
        return session.peek(self.latent_queries.weight)

    def _read_frozen(self, input_ids, queries, layout: "_Layout", images) -> Tensor:
        """Run the dialogue into a cache without gradient, then the queries with gradient."""
        # Gradient checkpointing, active only in training mode, would drop the cache silently.
        self.system2.eval()
        vlm = self.system2.vlm.model
        cache = DynamicCache(config=self.config.get_text_config())
        words = {"input_ids": input_ids, "past_key_values": cache, **images}
        with torch.no_grad():
            if self.system2.drops_padding:
                read_in_a_row(vlm, layout.attention_mask, layout.positions, **words)
            else:
                mask = layout.attention_mask
                vlm(attention_mask=mask, position_ids=layout.positions, use_cache=True, **words)
        return vlm.language_model(
            inputs_embeds=queries,
            attention_mask=layout.mask(queries.dtype, whole=False),
            position_ids=layout.query_positions,
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state

    def _read_whole(self, input_ids, queries, layout: "_Layout", images) -> Tensor:
        """Run dialogue and queries as one sequence, with gradient."""
        if torch.is_grad_enabled() and not self._told_full_pass:
            logger.warning(
                "System2 learns too: every step runs the whole dialogue with gradient, which takes "
                "several times as long as with System2 frozen."
            )
            self._told_full_pass = True
        embeddings = torch.cat([self.get_input_embeddings()(input_ids), queries], dim=1)
        vlm, words = self.system2.vlm.model, {"inputs_embeds": embeddings, **images}
        positions = torch.cat([layout.positions, layout.query_positions], dim=2)
        mask = layout.mask(queries.dtype, whole=True)
        if self.system2.drops_padding and layout.plans_are_last:
            hidden = read_in_a_row(vlm, mask, positions, **words)
        else:
            hidden = vlm(
                attention_mask=mask, position_ids=positions, use_cache=False, **words
            ).last_hidden_state
        return hidden[:, -queries.shape[1] :]


class _Layout:
    """Positions and masks of K plans of Q query tokens after L tokens.

    The queries' columns follow all tokens of the batch, padding too; a query attends to the tokens
    before its plan's end and to the earlier queries of the same plan.
    """

    def __init__(self, attention_mask, positions, plan_position: Tensor | None, num_queries: int):
        """`attention_mask` (B, L), M-RoPE `positions` (3, B, L), `plan_position` (B, K) in columns;
        None is one plan after all of them.
        """
        self.attention_mask, self.positions = attention_mask, positions
        self.num_queries = num_queries
        self.plans_are_last = plan_position is None
        whole = torch.full_like(attention_mask[:, :1], attention_mask.shape[1])
        self.ends = whole if plan_position is None else plan_position  # (B, K)
        index = torch.arange(attention_mask.shape[1], device=attention_mask.device)
        visible = (index < self.ends[..., None]) & attention_mask[:, None].bool()
        self.visible = visible.repeat_interleave(num_queries, dim=1)  # (B, K Q, L)
        last = positions.amax(0)[:, None].masked_fill(~visible, -1).amax(-1)  # (B, K)
        steps = torch.arange(1, num_queries + 1, device=positions.device)
        self.query_positions = (last[..., None] + steps).flatten(1).expand(3, -1, -1)

    def mask(self, dtype: torch.dtype, whole: bool) -> Tensor:
        """Mask of the queries or the whole sequence: (B, L + Q) for one plan after each sample,
        else (B, 1, rows, L + K Q) to be added to the scores.
        """
        if self.plans_are_last:
            return torch.cat([self.attention_mask, self.attention_mask.new_ones(self._block)], 1)
        num_plans, device = self.ends.shape[1], self.attention_mask.device
        causal = torch.ones(self.num_queries, self.num_queries, device=device).tril()
        own = torch.block_diag(*[causal] * num_plans).bool().expand(len(self.ends), -1, -1)
        rows = torch.cat([self.visible, own], dim=2)
        if whole:
            length = self.attention_mask.shape[1]
            causal = torch.ones(length, length, device=device).tril().bool()
            tokens = causal & self.attention_mask[:, None].bool()
            none = tokens.new_zeros(len(tokens), length, own.shape[2])
            rows = torch.cat([torch.cat([tokens, none], dim=2), rows], dim=1)
        hidden = torch.finfo(dtype).min
        return torch.zeros_like(rows, dtype=dtype).masked_fill(~rows, hidden)[:, None]

    @property
    def _block(self) -> tuple[int, int]:
        return len(self.ends), self.num_queries


def _flat(argument: Tensor | None) -> Tensor | None:
    """(B, K, ...) as (B K, ...)."""
    return None if argument is None else argument.flatten(0, 1)
