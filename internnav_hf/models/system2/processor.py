"""System2's processor: dialogue and images in, model inputs out, the same for training and
inference.

It holds Qwen's tokenizer and image processor, and the settings that inference shares with training:
the number and size of history frames, the prompt style and the camera.

Legend: L tokens, P patches, C values of a patch, N images.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image
from transformers import ProcessorMixin

from internnav_hf.models.system2.dialogue import (
    IMAGE_TOKENS,
    JOINT,
    SYSTEM_PROMPT,
    PromptStyle,
    render_message,
    render_opening,
)
from internnav_hf.models.system2.patches import image_patches, patch_grid
from internnav_hf.publishing.pushing import PushesWithCard
from internnav_hf.weights.processor_files import ChecksFiles

IGNORE_INDEX = -100
IMAGE_PAD = "<|image_pad|>"
_NEEDED_TOKENS = ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", IMAGE_PAD)


class System2Processor(ChecksFiles, PushesWithCard, ProcessorMixin):
    """Qwen's tokenizer and image processor with System2's settings.

    Settings, saved in `processor_config.json`:
        num_history: largest number of past frames in a dialogue.
        history_size: (width, height) in pixels to which past and current frames are resized; the
            look-down view keeps its own size.
        prompt_style: "training" for models trained here, "inference" for the released ones (see
            `dialogue`).
        camera: `CameraSpec.to_dict()` of the training data, a list of different ones, or None.

    Raises ValueError for a tokenizer without Qwen-VL's special tokens.
    """

    def __init__(
        self,
        image_processor=None,
        tokenizer=None,
        chat_template=None,
        num_history: int = 8,
        history_size: Sequence[int] = (384, 384),
        prompt_style: PromptStyle = "training",
        camera: dict | list[dict] | None = None,
        **kwargs,
    ):
        super().__init__(image_processor, tokenizer, chat_template=chat_template)
        missing = [token for token in _NEEDED_TOKENS if token not in tokenizer.get_vocab()]
        if missing:
            raise ValueError(
                f"The tokenizer has no {', '.join(missing)}; "
                "System2 needs the tokenizer of a Qwen-VL."
            )
        self.num_history = num_history
        self.history_size = tuple(history_size)
        self.prompt_style = prompt_style
        self.camera = camera

    def __call__(self, *args, **kwargs):
        """Always ValueError: dialogues are encoded by the methods below."""
        raise ValueError(
            "System2Processor: call encode for a training dialogue, encode_text for a prompt, or "
            "let System2Policy ask the model: it knows the dialogue."
        )

    def encode(
        self, messages: Sequence[dict[str, str]], images: Sequence[Image.Image]
    ) -> dict[str, np.ndarray]:
        """One training dialogue: `input_ids, labels, mm_token_type_ids` (L,), `pixel_values` (P,
        C), `image_grid_thw`.

        Labels are -100 except for the assistant's answers: the text, `<|im_end|>` and the line
        break after it.
        """
        return self.encode_pieces(_pieces(messages), images)

    def num_tokens(self, messages: Sequence[dict[str, str]], sizes: Sequence[Sequence[int]]) -> int:
        """The length L of `encode` for images of `sizes` (width, height), without the images."""
        grids = [patch_grid(size, self.image_processor) for size in sizes]
        tokens = self._tokens(_pieces(messages))
        return len(self._expand_images(*tokens, np.array(grids, np.int64).reshape(-1, 3))[0])

    def encode_text(self, text: str, images: Sequence[Image.Image]) -> dict[str, np.ndarray]:
        """Rendered text with one image token per image, as at inference; like `encode` without
        labels.
        """
        encoded = self.encode_pieces([(text, False)], images)
        del encoded["labels"]
        return encoded

    def encode_pieces(
        self, pieces: Sequence[tuple[str, bool]], images: Sequence[Image.Image]
    ) -> dict[str, np.ndarray]:
        """Encode text pieces, each with a flag whether it is supervised, and the images for their
        image tokens in order.
        """
        patches, grids = self._patches(images)
        input_ids, supervised = self._expand_images(*self._tokens(pieces), grids)
        encoded = {
            "input_ids": input_ids,
            "labels": np.where(supervised, input_ids, IGNORE_INDEX),
            "mm_token_type_ids": (input_ids == self.image_token_id).astype(np.int64),
        }
        if len(grids):
            encoded |= {"pixel_values": patches, "image_grid_thw": grids}
        return encoded

    @property
    def image_token_id(self) -> int:
        """The token that stands for one merged patch of an image."""
        return self.tokenizer.convert_tokens_to_ids(IMAGE_PAD)

    @property
    def pad_token_id(self) -> int:
        """The tokenizer's padding token, or its end token when it has none."""
        padding = self.tokenizer.pad_token_id
        return padding if padding is not None else self.tokenizer.eos_token_id

    def _tokens(self, pieces: Sequence[tuple[str, bool]]) -> tuple[np.ndarray, np.ndarray]:
        """Token ids with one for each image, and whether each is supervised."""
        token_ids, supervised = [], []
        for text, is_supervised in pieces:
            parts = (self.tokenizer(part, add_special_tokens=False) for part in text.split(JOINT))
            ids = [token for part in parts for token in part["input_ids"]]
            token_ids += ids
            supervised += [is_supervised] * len(ids)
        return np.array(token_ids), np.array(supervised)

    def _patches(self, images: Sequence[Image.Image]) -> tuple[np.ndarray, np.ndarray]:
        converted = [image_patches(image, self.image_processor) for image in images]
        grids = np.array([grid for _, grid in converted], dtype=np.int64).reshape(-1, 3)
        patches = (
            np.concatenate([patches for patches, _ in converted])
            if converted
            else np.empty((0, 0), np.float32)
        )
        return patches, grids

    def _expand_images(
        self, token_ids: np.ndarray, supervised: np.ndarray, grids: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Repeat each image token once for every merged patch of its image."""
        is_image = token_ids == self.image_token_id
        if is_image.sum() != len(grids):
            raise ValueError(
                f"The text has {is_image.sum()} places for images ({IMAGE_TOKENS}), "
                f"but {len(grids)} came."
            )
        repeats = np.ones(len(token_ids), dtype=np.int64)
        repeats[is_image] = grids.prod(axis=1) // self.image_processor.merge_size**2
        return np.repeat(token_ids, repeats).astype(np.int64), np.repeat(supervised, repeats)


def _pieces(messages: Sequence[dict[str, str]]) -> list[tuple[str, bool]]:
    """Texts of the system turn and `messages`, and whether each is supervised."""
    pieces: list[tuple[str, bool]] = []
    for message in ({"role": "system", "content": SYSTEM_PROMPT}, *messages):
        opening, spoken = render_opening(message["role"]), message["role"] == "assistant"
        pieces += [(opening, False), (render_message(message)[len(opening) :], spoken)]
    return pieces
