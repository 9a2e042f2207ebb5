"""Tiny models of the real classes, for tests: every Qwen-VL family, a small genuine tokenizer, a
processor.
"""

import torch
from transformers import AutoConfig, PreTrainedConfig
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from internnav_hf.models.system2.config import System2Config
from internnav_hf.models.system2.model import System2Model
from internnav_hf.models.system2.processor import System2Processor
from tests.tiny.qwen_tokenizer import qwen_tokenizer

FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
PATCH_SIZE = {"qwen2_vl": 14, "qwen2_5_vl": 14, "qwen3_vl": 16}


def tiny_tokenizer():
    return qwen_tokenizer(2048)


def tiny_vlm_config(
    family: str = "qwen2_5_vl", tie_word_embeddings: bool = True
) -> PreTrainedConfig:
    """A two-layer VLM of `family`, hidden size 64, with the tiny tokenizer's ids."""
    tokenizer = tiny_tokenizer()
    ids = {
        f"{name}_id": tokenizer.convert_tokens_to_ids(f"<|{token}|>")
        for name, token in [
            ("image_token", "image_pad"),
            ("video_token", "video_pad"),
            ("vision_start_token", "vision_start"),
            ("vision_end_token", "vision_end"),
        ]
    }
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10_000.0,
            "mrope_section": [2, 3, 3],
        },
        "tie_word_embeddings": tie_word_embeddings,
    }
    vision = {"depth": 2, "num_heads": 2, "in_channels": 3, "patch_size": PATCH_SIZE[family]}
    vision |= {
        "qwen2_vl": {"embed_dim": 32, "hidden_size": 64, "mlp_ratio": 2},
        "qwen2_5_vl": {
            "hidden_size": 32,
            "intermediate_size": 64,
            "out_hidden_size": 64,
            "fullatt_block_indexes": [1],
        },
        "qwen3_vl": {
            "hidden_size": 32,
            "intermediate_size": 64,
            "out_hidden_size": 64,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0],
        },
    }[family]
    return AutoConfig.for_model(
        family,
        text_config=text,
        vision_config=vision,
        tie_word_embeddings=tie_word_embeddings,
        **ids,
    )


def tiny_processor(family: str = "qwen2_5_vl", **settings) -> System2Processor:
    """A processor with the tiny tokenizer whose images may be as small as one cell."""
    image_processor = Qwen2VLImageProcessorPil(
        patch_size=PATCH_SIZE[family], size={"shortest_edge": 28 * 28, "longest_edge": 12_845_056}
    )
    settings = {"num_history": 2, "history_size": (56, 56)} | settings
    return System2Processor(image_processor, tiny_tokenizer(), **settings)


def tiny_system2(
    family: str = "qwen2_5_vl", seed: int = 0, tie_word_embeddings: bool = True, **fields
) -> System2Model:
    """A System2 with random weights from `seed`."""
    torch.manual_seed(seed)
    fields = {"head_hidden_size": 32, "image_width": 112, "image_height": 84} | fields
    config = System2Config(vlm_config=tiny_vlm_config(family, tie_word_embeddings), **fields)
    return System2Model(config).eval()
