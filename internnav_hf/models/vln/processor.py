"""The processor of Seq2Seq, CMA and RDP: instructions and views in, model inputs out, the same for
training and inference.

It holds a tokenizer, and the settings that inference shares with training: the sizes of views, how
they are resized, the length of an instruction and the camera. Colours stay uint8 and depth stays in
metres: the model normalises.

Two kinds of tokenizer are published. `word_tokenizer` is that of VLN-CE's 2504 words; CLIP's is any
`CLIPTokenizer`. Padding is 0 with both, whatever the tokenizer's own padding id.

Legend: B instructions, L tokens, H, W height and width of a view, S image size, D depth size.
"""

import functools
import logging
import re
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from PIL import Image
from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast, ProcessorMixin

from internnav_hf.publishing.pushing import PushesWithCard
from internnav_hf.weights.processor_files import ChecksFiles

PADDING, UNKNOWN = "<pad>", "<unk>"
WORD_LENGTH = 200
"""Published length of an instruction in words; Long-CLIP's is 248 tokens."""

logger = logging.getLogger(__name__)


class VLNProcessor(ChecksFiles, PushesWithCard, ProcessorMixin):
    """A tokenizer with the sizes of a VLN model's inputs.

    Settings, saved in `processor_config.json`:
        image_size, depth_size: sides of the square views in pixels.
        resize: "bilinear" squeezes a view into the square. "clip" is CLIP's: bicubic by the shorter
            side, then a centre crop. Depth is cropped alike, with the nearest pixel.
        max_length: tokens of an instruction; longer ones are cut.
        camera: `CameraSpec.to_dict()` of the training data, a list of different ones, or None.
    """

    attributes = ["tokenizer"]
    tokenizer_class = "AutoTokenizer"

    def __init__(
        self,
        tokenizer=None,
        chat_template=None,
        image_size: int = 256,
        depth_size: int = 256,
        resize: Literal["bilinear", "clip"] = "bilinear",
        max_length: int = WORD_LENGTH,
        camera: dict | list[dict] | None = None,
        **kwargs,
    ):
        super().__init__(tokenizer, chat_template=chat_template)
        if resize not in ("bilinear", "clip"):
            raise ValueError(f"resize: found {resize!r}, expected 'bilinear' or 'clip'.")
        self.image_size = image_size
        self.depth_size = depth_size
        self.resize = resize
        self.max_length = max_length
        self.camera = camera

    def encode_instructions(self, texts: Sequence[str]) -> np.ndarray:
        """Ids (B, L) int64, padded with 0 to the longest.

        Raises ValueError for a text without a word in the vocabulary.
        """
        rows = [self._encoded(text) for text in texts]
        ids = np.zeros((len(rows), max(map(len, rows), default=0)), np.int64)
        for row, encoded in zip(ids, rows, strict=True):
            row[: len(encoded)] = encoded
        return ids

    def encode_rgb(self, rgb: Image.Image | np.ndarray) -> np.ndarray:
        """(..., 3, S, S) uint8 from a picture, or from (..., H, W, 3) uint8."""
        views = np.asarray(rgb.convert("RGB") if isinstance(rgb, Image.Image) else rgb)
        if views.dtype != np.uint8 or views.ndim < 3 or views.shape[-1] != 3:
            raise ValueError(
                f"rgb: found {views.dtype} of shape {views.shape}, expected uint8 (..., H, W, 3)."
            )
        before, size = views.shape[:-3], self.image_size
        if views.shape[-3:-1] != (size, size):
            frames = views.reshape(-1, *views.shape[-3:])
            views = np.stack([self._resized(frame) for frame in frames])
        channels_first = np.moveaxis(views.reshape(*before, size, size, 3), -1, -3)
        return np.ascontiguousarray(channels_first)

    def encode_depth(self, depth: np.ndarray) -> np.ndarray:
        """(..., D, D) float32 metres from (..., H, W); negative or non-finite depth becomes 0."""
        metres = np.asarray(depth, np.float32)
        if metres.ndim < 2:
            raise ValueError(f"depth: found shape {metres.shape}, expected (..., H, W).")
        height, width = metres.shape[-2:]
        if (height, width) != (self.depth_size, self.depth_size):
            (rows, columns), (top, left) = self._window(height, width, self.depth_size)
            row = _nearest(height, rows)[top : top + self.depth_size]
            column = _nearest(width, columns)[left : left + self.depth_size]
            metres = metres[..., row[:, None], column]
        return np.where((metres > 0) & (metres < np.inf), metres, np.float32(0))

    def _encoded(self, text: str) -> list[int]:
        text = _without_tokens(text, self.tokenizer)
        words = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        if all(word == self.tokenizer.unk_token_id for word in words):
            raise ValueError(
                f"instruction: found {text[:80]!r}, expected words that the model knows."
            )
        encoded = self.tokenizer(text, truncation=True, max_length=self.max_length)["input_ids"]
        if len(words) + self.tokenizer.num_special_tokens_to_add() > self.max_length:
            _warn_of_cut(self.max_length)
        return encoded

    def _resized(self, frame: np.ndarray) -> np.ndarray:
        """(S, S, 3) from (H, W, 3)."""
        (height, width), (top, left) = self._window(frame.shape[0], frame.shape[1], self.image_size)
        is_clip = self.resize == "clip"
        filtering = Image.Resampling.BICUBIC if is_clip else Image.Resampling.BILINEAR
        resized = np.asarray(Image.fromarray(frame).resize((width, height), filtering))
        return resized[top : top + self.image_size, left : left + self.image_size]

    def _window(
        self, height: int, width: int, size: int
    ) -> tuple[tuple[int, int], tuple[int, int]]:
        """Height and width to resize to, and the first row and column of the square in it."""
        if self.resize == "bilinear":
            return (size, size), (0, 0)
        shorter = min(height, width)
        resized = (size * height // shorter, size * width // shorter)
        return resized, (round((resized[0] - size) / 2), round((resized[1] - size) / 2))


def word_tokenizer(words: Sequence[str], max_length: int = WORD_LENGTH) -> PreTrainedTokenizerFast:
    """VLN-CE's: lower-case, no ',' and '?', split at all but letters, digits and underscores.

    `words` in the order of their ids; `<pad>` and `<unk>` get 0 and 1, also if both are missing.
    Any other position of theirs, in capitals or not, is a ValueError: all ids would shift.
    Punctuation marks are tokens if they are in the list, and left out otherwise.
    """
    special = [PADDING, UNKNOWN]
    places = {word.lower(): i for i, word in enumerate(words) if word.lower() in special}
    if places and list(places.items()) != [(PADDING, 0), (UNKNOWN, 1)]:
        raise ValueError(f"words: found {places}, expected {PADDING} at 0 and {UNKNOWN} at 1.")
    known = [*special, *(word for word in words if word.lower() not in special)]
    if len(set(known)) < len(known):
        repeated = next(word for word in known if known.count(word) > 1)
        raise ValueError(f"words: found {repeated!r} twice, expected each once.")
    marks = any(re.fullmatch(r"\W+", word) for word in known)
    tokenizer = Tokenizer(
        WordLevel({word: index for index, word in enumerate(known)}, unk_token=UNKNOWN)
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Lowercase(), normalizers.Replace(Regex("[,?]"), "")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Split(Regex(r"\W+"), behavior="isolated" if marks else "removed"),
        ]
    )
    names: dict[str, Any] = {"unk_token": UNKNOWN, "pad_token": PADDING}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=max_length, padding_side="right", **names
    )


def _without_tokens(text: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """`text` as plain words: one of the tokenizer's own tokens in it, such as the end token, is
    split by a blank.
    """
    names = _names(tuple(str(token) for token in tokenizer.added_tokens_decoder.values()))
    while names is not None and (found := names.search(text)):
        text = f"{text[: found.start() + 1]} {text[found.start() + 1 :]}"
    return text


@functools.cache
def _names(tokens: tuple[str, ...]) -> re.Pattern | None:
    """Pattern of those `tokens` that a blank can split."""
    longer = sorted((token for token in tokens if len(token) > 1), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longer)), re.IGNORECASE) if longer else None


@functools.cache
def _warn_of_cut(max_length: int) -> None:
    """Warn once, not for every instruction."""
    logger.warning("Instructions are cut after %d tokens.", max_length)


def _nearest(length: int, resized: int) -> np.ndarray:
    """(resized,) index of the one of `length` pixels at each resized pixel's centre."""
    return ((np.arange(resized) + 0.5) * length / resized).astype(int)
