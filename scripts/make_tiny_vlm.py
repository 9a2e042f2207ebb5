"""Write a small Qwen2.5-VL with random weights, to train from scratch on a laptop.

    python scripts/make_tiny_vlm.py --out outputs/demo/vlm --data_root outputs/demo/data --datasets
    r2r_125cm_30_30

It is an ordinary Qwen2.5-VL folder (the recipe's `--vlm` takes it like the 7B) with about a million
parameters and a tokenizer made for the dataset's instructions. The fixed sentences of System2's
prompt are one token each, so that no time is spent on words that never change.
"""

import logging
import sys
from dataclasses import dataclass, field

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    PreTrainedTokenizerFast,
    set_seed,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from internnav_hf.arguments.training import option, parse_arguments
from internnav_hf.command_line import ends_in_one_line, output_folder
from internnav_hf.data import read_lerobot
from internnav_hf.files import give_umask, writing
from internnav_hf.models.system2.dialogue import (
    ACTION_OF_SYMBOL,
    CONJUNCTIONS,
    HISTORY_PROMPT,
    SYSTEM_PROMPT,
    TASK_PROMPT,
)
from internnav_hf.models.system2.processor import System2Processor

SPECIAL_TOKENS = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>",
    "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip

CARD = "---\nlicense: cc0-1.0\n---\n# A Qwen2.5-VL with random weights\n"


@dataclass
class TinyVLMArguments:
    """Sizes of the small Qwen2.5-VL."""

    out: str = field(metadata={"help": "Folder to write."})
    data_root: str = field(
        metadata={"help": "Dataset with the instructions that the tokenizer is made for."}
    )
    seed: int = option(0, "Seed of the weights.")
    vocab_size: int = option(1000, "Largest size of the tokenizer's vocabulary.", low=512)
    hidden_size: int = option(128, "Width of the language model.", low=64)
    num_hidden_layers: int = option(3, "Layers of the language model.", low=1)
    vision_hidden_size: int = option(96, "Width of the vision tower.", low=12)
    vision_depth: int = option(2, "Layers of the vision tower.", low=1)
    patch_size: int = option(16, "Side of a visual token, in pixels.", low=4)
    initializer_range: float = option(
        0.08, "Standard deviation of the random weights; with 0.02 learning starts slowly.", above=0
    )

    def __post_init__(self) -> None:
        for name, factor in (("hidden_size", 64), ("vision_hidden_size", 12)):
            if getattr(self, name) % factor:
                found = getattr(self, name)
                raise ValueError(f"--{name}: found {found}, expected a multiple of {factor}.")


def make_tokenizer(instructions: list[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE over the instructions; digits, symbols, fixed sentences are one token each."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*instructions, "user", "assistant", "system"], trainer)
    before, after = TASK_PROMPT.split("{instruction}")
    fixed = [SYSTEM_PROMPT, before, after, HISTORY_PROMPT, *CONJUNCTIONS, *ACTION_OF_SYMBOL]
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in fixed])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )


def make_config(arguments: TinyVLMArguments, tokenizer: PreTrainedTokenizerFast):
    """The configuration of the small Qwen2.5-VL: every visual token attends to its whole image."""
    names = ("image_pad", "video_pad", "vision_start", "vision_end")
    image, video, start, end = (tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in names)
    hidden = arguments.hidden_size
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": arguments.num_hidden_layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "max_position_embeddings": 4096,
        "initializer_range": arguments.initializer_range,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10_000.0,
            "mrope_section": [hidden // 32, 3 * hidden // 64, 3 * hidden // 64],
        },
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {
        "depth": arguments.vision_depth,
        "hidden_size": arguments.vision_hidden_size,
        "intermediate_size": 2 * arguments.vision_hidden_size,
        "num_heads": 3,
        "patch_size": arguments.patch_size,
        "spatial_merge_size": 1,
        "temporal_patch_size": 1,
        "out_hidden_size": hidden,
        "fullatt_block_indexes": list(range(arguments.vision_depth)),
        "initializer_range": arguments.initializer_range,
    }
    return AutoConfig.for_model(
        "qwen2_5_vl",
        text_config=text,
        vision_config=vision,
        tie_word_embeddings=True,
        image_token_id=image,
        video_token_id=video,
        vision_start_token_id=start,
        vision_end_token_id=end,
    )


def main(arguments: TinyVLMArguments) -> None:
    """Write the folder."""
    out = output_folder("--out", arguments.out)
    set_seed(arguments.seed)
    instructions = sorted(
        {text for episode in read_lerobot(arguments.data_root) for text in episode.instructions}
    )
    tokenizer = make_tokenizer(instructions, arguments.vocab_size)
    model = AutoModelForImageTextToText.from_config(
        make_config(arguments, tokenizer), dtype=torch.float32
    )
    image_processor = Qwen2VLImageProcessorPil(
        patch_size=arguments.patch_size,
        merge_size=1,
        temporal_patch_size=1,
        size={"shortest_edge": arguments.patch_size**2, "longest_edge": 12_845_056},
    )
    out.mkdir(parents=True, exist_ok=True)
    with writing(out):
        model.save_pretrained(out)
        System2Processor(image_processor, tokenizer).save_pretrained(out)
        (out / "README.md").write_text(CARD, encoding="utf-8")
        give_umask(out)
    size = sum(parameter.numel() for parameter in model.parameters())
    logging.info("%s: %d parameters, %d tokens", arguments.out, size, len(tokenizer))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with ends_in_one_line():
        main(*parse_arguments([TinyVLMArguments], sys.argv[1:], __doc__))
