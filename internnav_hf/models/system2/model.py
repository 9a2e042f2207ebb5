"""System2: any Qwen-VL trained on the look-down dialogue, with a pixel-goal head.

From InternVLA-N1 / DualVLN (arXiv 2512.08186): instruction, past frames and the current frame in;
turns, STOP or "↓" out; after the look-down view, the pixel to walk to. Differs from there: the
language model is held by composition, so one class serves Qwen2-VL, Qwen2.5-VL and Qwen3-VL; logits
are computed only at labels; a head also predicts the goal from the visual tokens, in addition to
the digits. With `use_pixel_goal_head=False` it is exactly the published model.

Legend: B batch, L tokens, D width, V vocabulary, N cells (merged patches) of an image, P patches.
"""

from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor
from transformers import AutoModelForImageTextToText, PreTrainedModel
from transformers.utils import SAFE_WEIGHTS_NAME

from internnav_hf.models.common.counted_losses import CountedLosses
from internnav_hf.models.system2.config import System2Config
from internnav_hf.models.system2.dialogue import AnswerKind
from internnav_hf.models.system2.image_tokens import ImageTokens
from internnav_hf.models.system2.landmark_head import LandmarkHead
from internnav_hf.models.system2.output import System2Output
from internnav_hf.models.system2.packing import attend_by_sample, read_in_a_row
from internnav_hf.models.system2.pixel_goal_head import (
    PixelGoalHead,
    cell_centres,
    pixel_goal_losses,
    read_goal,
)
from internnav_hf.models.system2.released import system2_keys
from internnav_hf.publishing.pushing import PushesWithCard
from internnav_hf.weights.checkpoints import is_bare_adapter, stored_config
from internnav_hf.weights.loading import REPORTED, Release, StrictLoading
from internnav_hf.weights.weight_files import share_weights

IGNORE_INDEX = -100


class System2Model(PushesWithCard, CountedLosses, StrictLoading, PreTrainedModel):
    """System2. `from_pretrained` takes our checkpoints and plain Qwen-VL ones, and fails on any key
    that does not fit.
    """

    config_class = System2Config
    config: System2Config
    released_keys = staticmethod(system2_keys)
    base_model_prefix = ""
    supports_gradient_checkpointing = True
    # batch key -> forward argument: its count over the whole optimisation step, for exact
    # accumulation
    loss_count_keys = {
        "goal_mask": "num_goals_in_batch",
        "num_landmark_images": "num_landmarks_in_batch",
    }
    drops_padding = False
    """Whether samples are computed in one row; see `drop_padding`."""
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True

    def __init__(self, config: System2Config, vlm: PreTrainedModel | None = None):
        """Random weights, or those of `vlm`, a model of `config.vlm_config`, with a fresh head."""
        super().__init__(config)
        if vlm is None:
            # not the dtype stored in the configuration: `dtype` sets one for the whole model
            dtype = torch.get_default_dtype()
            vlm = AutoModelForImageTextToText.from_config(config.vlm_config, dtype=dtype)
        self.vlm = vlm
        self._no_split_modules = self.vlm._no_split_modules
        width = config.vlm_config.get_text_config().hidden_size
        if config.use_pixel_goal_head:
            self.pixel_goal_head = PixelGoalHead(width, config.head_hidden_size)
        if config.landmark_loss_weight > 0:
            self.landmark_head = LandmarkHead(width)
        self.post_init()

    @classmethod
    def released(cls, path, **hub) -> Release | None:
        """A plain Qwen-VL such as `InternRobotics/InternVLA-N1-System2` or
        `Qwen/Qwen2.5-VL-7B-Instruct`, whose keys transformers renames.
        """
        return Release(path) if is_plain_vlm(path, **hub) else None

    @classmethod
    def optional_parts(cls, path, config, **hub):
        """A head that the configuration has and the checkpoint lacks starts fresh. The landmark
        head may be left out: only training uses it.
        """
        stored, _ = System2Config.get_config_dict(path, **hub)
        fresh = () if stored.get("use_pixel_goal_head", True) else ("pixel_goal_head.",)
        fresh += () if stored.get("landmark_loss_weight", 0.0) > 0 else ("landmark_head.",)
        return fresh, () if config.landmark_loss_weight > 0 else ("landmark_head.",)

    @classmethod
    def load_weights(cls, source, release, *args, config, **kwargs):
        """As for every model; a plain Qwen-VL is loaded by its own class."""
        if release is None:
            return super().load_weights(source, release, *args, config=config, **kwargs)
        if source is None:
            raise ValueError(
                f"{release.source}: expected {SAFE_WEIGHTS_NAME}, or shards and their list."
            )
        loaded: Any = AutoModelForImageTextToText.from_pretrained(
            source, *args, config=config.vlm_config, **REPORTED, **kwargs
        )
        model = cls(config, vlm=loaded[0])
        for name, head in model.named_children():
            if name != "vlm":  # the VLM's rotary frequencies stay in float32
                head.to(device=model.vlm.device, dtype=model.vlm.dtype)
        return model, loaded[1]

    def save_vlm(self, save_directory, **kwargs) -> None:
        """Save the vision-language model alone, as a plain Qwen-VL that other tools load."""
        self.vlm.save_pretrained(save_directory, **kwargs)
        share_weights(save_directory)

    @property
    def loss_weights(self) -> dict[str, float]:
        """Weight of each named loss in `loss`."""
        config = self.config
        weights = {"pixel_goal_loss": config.pixel_goal_loss_weight}
        return {"language_loss": 1.0, **weights, "landmark_loss": config.landmark_loss_weight}

    def get_input_embeddings(self):
        """The VLM's token embeddings."""
        return self.vlm.get_input_embeddings()

    def set_input_embeddings(self, value):
        """Replace the VLM's token embeddings."""
        self.vlm.set_input_embeddings(value)

    def get_output_embeddings(self):
        """The VLM's language-model head."""
        return self.vlm.get_output_embeddings()

    def set_output_embeddings(self, new_embeddings):
        """Replace the VLM's language-model head."""
        self.vlm.set_output_embeddings(new_embeddings)

    def drop_landmark_head(self) -> None:
        """Remove the head that only System2's own training uses, if there is one."""
        if self.config.landmark_loss_weight > 0:
            del self.landmark_head
            self.config.landmark_loss_weight = 0.0

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        pixel_values: Tensor | None = None,
        image_grid_thw: Tensor | None = None,
        mm_token_type_ids: Tensor | None = None,
        goal_pixel: Tensor | None = None,
        goal_mask: Tensor | None = None,
        answer_class: Tensor | None = None,
        landmark_mask: Tensor | None = None,
        num_landmark_images: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        num_goals_in_batch: Tensor | int | None = None,
        num_landmarks_in_batch: Tensor | int | None = None,
    ) -> System2Output:
        """Losses for a batch with `labels`, else logits everywhere; the head's goal in both cases.

        `input_ids, attention_mask, labels, mm_token_type_ids` (B, L); `pixel_values` (P, C);
        `image_grid_thw` (images, 3); `goal_pixel` (B, 2) as (u, v) px where `goal_mask` (B,);
        `answer_class` (B,) of `AnswerKind`; `landmark_mask` (B, rows, columns) in [0, 1]: the share
        of each area that shows the named object, in the last `num_landmark_images` (B,) images
        (0 to 2) of each sample.
        `num_*_in_batch` are the counts over the whole optimisation step that the losses are divided
        by; without them, those of this batch.
        """
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        if mm_token_type_ids is None:
            mm_token_type_ids = (input_ids == self.config.vlm_config.image_token_id).long()
        images = {"pixel_values": pixel_values, "image_grid_thw": image_grid_thw}
        hidden = self._read(input_ids, attention_mask, mm_token_type_ids, images)
        output: dict = {}
        if labels is None:
            output["logits"] = self.vlm.lm_head(hidden)
        else:
            self._add_language_loss(output, hidden, labels, answer_class, num_items_in_batch)
        if image_grid_thw is not None and self.config.use_pixel_goal_head:
            image = self.last_image(hidden, input_ids, image_grid_thw)
            row = torch.arange(len(hidden), device=hidden.device)
            answer = hidden[row, answer_position(attention_mask, labels)]
            self._add_goal(output, answer, image, goal_pixel, goal_mask, num_goals_in_batch)
        if labels is not None and self.config.landmark_loss_weight > 0:
            images = []
            if landmark_mask is not None:
                images = [self.last_image(hidden, input_ids, image_grid_thw, b) for b in (0, 1)]
            self._add_landmark_loss(
                output, images, landmark_mask, num_landmark_images, num_landmarks_in_batch
            )
        return System2Output(**output)

    def drop_padding(self) -> None:
        """From now on compute the samples of a batch in one row, without padding (`packing`).

        Losses and gradients stay the same. Raises ValueError for an attention that cannot.
        """
        attend_by_sample(self.vlm.model.language_model)
        self.drops_padding = True

    def _read(self, input_ids, attention_mask, mm_token_type_ids, images) -> Tensor:
        """Hidden states (B, L, D) of the language model."""
        inputs = {"input_ids": input_ids, **images}
        vlm = self.vlm.model
        if self.drops_padding:
            positions, _ = vlm.get_rope_index(
                input_ids,
                mm_token_type_ids=mm_token_type_ids.int(),
                image_grid_thw=images["image_grid_thw"],
                attention_mask=attention_mask,
            )
            return read_in_a_row(vlm, attention_mask, positions, **inputs)
        return vlm(
            attention_mask=attention_mask,
            mm_token_type_ids=mm_token_type_ids,
            use_cache=False,
            **inputs,
        ).last_hidden_state

    def last_image(
        self, hidden: Tensor, input_ids: Tensor, image_grid_thw: Tensor, back: int = 0
    ) -> ImageTokens:
        """The visual tokens of the last image of each sample, or of the image `back` before it.

        If a sample has no such image, its mask is False everywhere.
        """
        starts = input_ids == self.config.vlm_config.vision_start_token_id
        exists = starts.sum(1) > back
        grid = image_grid_thw[(starts.sum(1).cumsum(0) - 1 - back).clamp(min=0)]
        merge = self.config.vlm_config.vision_config.spatial_merge_size
        rows, columns = grid[:, 1] // merge, grid[:, 2] // merge
        num_cells = int((rows * columns).max())
        centres, mask = cell_centres(rows, columns, num_cells)
        position = torch.arange(input_ids.shape[1], device=input_ids.device)
        first = (starts * position).topk(back + 1, dim=1).values[:, back] + 1
        index = first[:, None] + torch.arange(num_cells, device=hidden.device)
        index = index.clamp(max=input_ids.shape[1] - 1)
        cells = hidden.gather(1, index[..., None].expand(-1, -1, hidden.shape[-1]))
        return ImageTokens(cells, centres, mask & exists[:, None], rows, columns)

    def goal_from(
        self, answer: Tensor, image: ImageTokens
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Goal (B, 2) px, confidence (B,), heatmap (B, rows, columns), and the head's logits and
        offsets.
        """
        logits, offsets = self.pixel_goal_head(answer, image.cells, image.centres, image.mask)
        goal, confidence = read_goal(
            logits.detach(), offsets.detach(), image.centres, image.rows, image.columns
        )
        return (
            goal * self._image_size(goal),
            confidence,
            _heatmap(logits.detach(), image),
            logits,
            offsets,
        )

    def _image_size(self, like: Tensor) -> Tensor:
        return like.new_tensor([self.config.image_width, self.config.image_height])

    def _add_language_loss(self, output, hidden, labels, answer_class, num_items) -> None:
        targets = labels[:, 1:]
        supervised = targets != IGNORE_INDEX
        output["logits"] = self.vlm.lm_head(hidden[:, :-1][supervised])
        losses = F.cross_entropy(output["logits"].float(), targets[supervised], reduction="none")
        if not self.training:
            predicted = output["logits"].argmax(-1)
            spread = torch.full_like(labels, IGNORE_INDEX)
            spread[:, 1:][supervised] = predicted
            output["predicted_ids"] = spread
        output["loss_counts"] = {}
        output["language_loss"] = _mean(output, "language_loss", losses.sum(), supervised.sum())
        divisor = output["loss_counts"]["language_loss"] if num_items is None else num_items
        output["loss"] = losses.sum() / _at_least_one(divisor, losses)
        if answer_class is not None:
            classes = answer_class[:, None].expand_as(targets)[supervised]
            for name, kind in _CLASS_LOSSES.items():
                chosen = classes == int(kind)
                output[name] = _mean(output, name, (losses.detach() * chosen).sum(), chosen.sum())

    def _add_goal(self, output, answer, image, goal_pixel, goal_mask, num_goals) -> None:
        goal, confidence, heatmap, logits, offsets = self.goal_from(answer, image)
        output |= {"goal_pixel": goal, "goal_confidence": confidence, "heatmap": heatmap}
        if goal_pixel is None or "loss" not in output:
            return
        if self.config.pixel_goal_loss_weight > 0:
            self.check_counts(num_goals_in_batch=num_goals)
        chosen = (
            torch.ones_like(confidence, dtype=torch.bool) if goal_mask is None else goal_mask.bool()
        )
        wanted = torch.where(chosen[:, None], goal_pixel.float() / self._image_size(logits), 0.5)
        losses = pixel_goal_losses(logits, offsets, wanted, image.rows, image.columns) * chosen
        output["pixel_goal_loss"] = _mean(output, "pixel_goal_loss", losses.sum(), chosen.sum())
        divisor = chosen.sum() if num_goals is None else num_goals
        output["loss"] = output[
            "loss"
        ] + self.config.pixel_goal_loss_weight * losses.sum() / _at_least_one(divisor, losses)

    def _add_landmark_loss(self, output, images, landmark_mask, num_images, num_landmarks) -> None:
        if not images:  # run the head anyway, or data-parallel training would wait for it
            output["loss"] = output["loss"] + 0 * sum(
                p.sum() for p in self.landmark_head.parameters()
            )
            return
        self.check_counts(num_landmarks_in_batch=num_landmarks)
        losses = sum(
            self.landmark_head(image, landmark_mask) * (num_images > back)
            for back, image in enumerate(images)
        )
        output["landmark_loss"] = _mean(output, "landmark_loss", losses.sum(), num_images.sum())
        divisor = num_images.sum() if num_landmarks is None else num_landmarks
        weighted = self.config.landmark_loss_weight * losses.sum()
        output["loss"] = output["loss"] + weighted / _at_least_one(divisor, losses)


_CLASS_LOSSES = {
    "pixel_text_loss": AnswerKind.PIXEL_GOAL,
    "turn_loss": AnswerKind.TURN,
    "stop_loss": AnswerKind.STOP,
}


def answer_position(attention_mask: Tensor, labels: Tensor | None = None) -> Tensor:
    """(B,) index of the token from which the last answer is predicted: the one before its first
    label, or the last token.
    """
    position = torch.arange(attention_mask.shape[1], device=attention_mask.device)
    if labels is None:
        return (attention_mask * position).amax(1)
    supervised = labels != IGNORE_INDEX
    starts = supervised & ~F.pad(supervised, (1, 0))[:, :-1]
    return ((starts * position).amax(1) - 1).clamp(min=0)


def _mean(output: dict, name: str, total: Tensor, count: Tensor) -> Tensor:
    output["loss_counts"][name] = count.detach()
    return total / _at_least_one(count, total)


def _at_least_one(count, like: Tensor) -> Tensor:
    return torch.as_tensor(count, device=like.device, dtype=like.dtype).clamp(min=1)


def _heatmap(logits: Tensor, image: ImageTokens) -> Tensor:
    """(B, most rows, most columns): each sample's probabilities in the top left corner."""
    rows, columns = int(image.rows.max()), int(image.columns.max())
    heatmap = logits.new_zeros(len(logits), rows * columns)
    row = torch.div(
        torch.arange(logits.shape[1], device=logits.device),
        image.columns[:, None],
        rounding_mode="floor",
    )
    column = torch.arange(logits.shape[1], device=logits.device) % image.columns[:, None]
    index = (row * columns + column).clamp(max=rows * columns - 1)
    heatmap.scatter_add_(1, index, logits.softmax(-1) * image.mask)
    return rearrange(heatmap, "b (row column) -> b row column", row=rows)


def is_plain_vlm(path, **hub) -> bool:
    """Whether `path`, a folder or Hub name, holds a plain Qwen-VL, as released System2s are, or
    an adapter of one.
    """
    if is_bare_adapter(path, **hub):
        return False
    return stored_config(path, **hub).get("model_type") != System2Config.model_type
