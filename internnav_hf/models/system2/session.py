"""A batch of dialogues with System2 in progress, on one key-value cache.

`extend` appends text and images, `generate` decodes answers; no token of either is computed twice,
so that the second turn of a decision costs only its own tokens. Rows
are padded on the left of each segment; masks and M-RoPE positions are kept here, explicitly, and
equal those of one pass over the whole dialogue.

Legend: B dialogues, S tokens so far, L tokens of one segment, D width.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from internnav_hf.models.system2.image_tokens import ImageTokens
from internnav_hf.models.system2.model import System2Model


class System2Session:
    """Dialogues that `model` reads and answers; every row gets a segment at each `extend`."""

    def __init__(self, model: System2Model):
        self.model = model
        self.cache = DynamicCache(config=model.config.vlm_config.get_text_config())
        self.attention_mask = torch.zeros(0, 0, dtype=torch.long)  # (B, S)
        self.next_position = torch.zeros(0, 1, dtype=torch.long)  # (B, 1), M-RoPE's, of a next text
        self.last_hidden = torch.zeros(0, 0)  # (B, D), of each row's last token

    @torch.no_grad()
    def extend(self, segments: Sequence[dict[str, np.ndarray]]) -> ImageTokens | None:
        """Append one encoded segment (`System2Processor.encode_text`) per row.

        Returns the visual tokens of each row's last image when every row has one in this segment.
        """
        input_ids, mask = self._pad(segments)
        if not len(self.attention_mask):
            self.attention_mask = mask[:, :0]
            self.next_position = torch.zeros(len(mask), 1, dtype=torch.long, device=mask.device)
        grids = [segment["image_grid_thw"] for segment in segments if "image_grid_thw" in segment]
        image_inputs = {}
        if grids:
            patches = np.concatenate([s["pixel_values"] for s in segments if "pixel_values" in s])
            dtype = self.model.vlm.dtype
            image_inputs["pixel_values"] = torch.as_tensor(patches, device=mask.device).to(dtype)
            image_inputs["image_grid_thw"] = torch.as_tensor(
                np.concatenate(grids), device=mask.device
            )
        positions = self._positions(input_ids, mask, image_inputs.get("image_grid_thw"))
        hidden = self._forward(input_ids, mask, positions, **image_inputs)
        if len(grids) < len(segments):
            return None
        return self.model.last_image(hidden, input_ids, image_inputs["image_grid_thw"])

    @torch.no_grad()
    def generate(self, end_tokens: Collection[int], max_new_tokens: int) -> list[list[int]]:
        """The greedy answer of each row, without its end token. The whole answer enters the cache,
        the end token does not.
        """
        answers: list[list[int]] = [[] for _ in range(len(self.last_hidden))]
        active = torch.ones(len(answers), 1, dtype=torch.long, device=self.last_hidden.device)
        for _ in range(max_new_tokens):
            tokens = self.model.vlm.lm_head(self.last_hidden).argmax(-1)
            for row, token in enumerate(tokens.tolist()):
                if active[row] and token in end_tokens:
                    active[row] = 0
                elif active[row]:
                    answers[row].append(token)
            if not active.any():
                break
            still = self.last_hidden
            positions = self.next_position.expand(3, -1, -1)
            self.next_position = self.next_position + active
            self._forward(tokens[:, None], active, positions)
            self.last_hidden = torch.where(active.bool(), self.last_hidden, still)
        return answers

    @torch.no_grad()
    def peek(self, embeddings: Tensor) -> Tensor:
        """Final hidden states (B, Q, D) of tokens with `embeddings` (Q, D) after all tokens so far.

        These tokens are removed from the cache again: the session is unchanged.
        """
        num_rows, num_tokens = len(self.attention_mask), len(embeddings)
        mask = torch.cat(
            [self.attention_mask, self.attention_mask.new_ones(num_rows, num_tokens)], 1
        )
        steps = torch.arange(num_tokens, device=mask.device)
        hidden = self.model.vlm.model.language_model(
            inputs_embeds=embeddings.to(self.last_hidden.dtype).expand(num_rows, -1, -1),
            attention_mask=mask,
            position_ids=(self.next_position + steps).expand(3, -1, -1),
            past_key_values=self.cache,
            use_cache=True,
        ).last_hidden_state
        self.cache.crop(-num_tokens)
        return hidden

    def select(self, rows: Sequence[int]) -> "System2Session":
        """Keep only `rows`, in this order; returns itself."""
        index = torch.as_tensor(rows, dtype=torch.long, device=self.attention_mask.device)
        self.cache.batch_select_indices(index)
        self.attention_mask = self.attention_mask[index]
        self.next_position = self.next_position[index]
        self.last_hidden = self.last_hidden[index]
        return self

    @contextmanager
    def undone_on_error(self) -> Iterator[None]:
        """Context manager: if the block raises, as when memory runs out, the tokens that it added
        are removed. The block must keep all rows.
        """
        length = self.cache.get_seq_length()
        before = self.attention_mask, self.next_position, self.last_hidden
        try:
            yield
        except BaseException:
            for layer in self.cache.layers:
                if layer.get_seq_length() > length:
                    layer.crop(length - layer.get_seq_length())
            self.attention_mask, self.next_position, self.last_hidden = before
            raise

    def _forward(
        self, input_ids: Tensor, mask: Tensor, positions: Tensor, **image_inputs
    ) -> Tensor:
        self.attention_mask = torch.cat([self.attention_mask, mask], dim=1)
        hidden = self.model.vlm.model(
            input_ids=input_ids,
            attention_mask=self.attention_mask,
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
            **image_inputs,
        ).last_hidden_state
        self.last_hidden = hidden[:, -1]
        return hidden

    def _positions(self, input_ids: Tensor, mask: Tensor, grids: Tensor | None) -> Tensor:
        """(3, B, L) positions of a segment that follows the tokens so far; moves `next_position`
        behind it.
        """
        image_token = self.model.config.vlm_config.image_token_id
        if grids is None:
            local = (mask.cumsum(1) - 1).clamp(min=0).expand(3, -1, -1)
        else:
            local, _ = self.model.vlm.model.get_rope_index(
                input_ids,
                mm_token_type_ids=((input_ids == image_token) & mask.bool()).int(),
                image_grid_thw=grids,
                attention_mask=mask,
            )
            local = local * mask
        positions = local + self.next_position
        self.next_position = positions.amax(dim=(0, 2))[:, None] + 1
        return positions

    def _pad(self, segments: Sequence[dict[str, np.ndarray]]) -> tuple[Tensor, Tensor]:
        """Token ids and mask (B, L), padded on the left with token 0, which the mask hides."""
        length = max(len(segment["input_ids"]) for segment in segments)
        input_ids = np.zeros((len(segments), length), dtype=np.int64)
        mask = np.zeros((len(segments), length), dtype=np.int64)
        for row, segment in enumerate(segments):
            input_ids[row, length - len(segment["input_ids"]) :] = segment["input_ids"]
            mask[row, length - len(segment["input_ids"]) :] = 1
        device = self.model.device
        return torch.as_tensor(input_ids, device=device), torch.as_tensor(mask, device=device)
