"""Tiny Seq2Seq and CMA of the real classes: 32 px frames, 20 words, a state of 16."""

import torch

from internnav_hf.models.vln.cma import CMAModel
from internnav_hf.models.vln.config import CMAConfig, Seq2SeqConfig
from internnav_hf.models.vln.seq2seq import Seq2SeqModel

RGB = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}

SIZES = {
    "vocab_size": 20,
    "embedding_size": 6,
    "instruction_hidden_size": 8,
    "image_size": 32,
    "depth_size": 32,
    "rgb_config": RGB,
    "depth_base_planes": 4,
    "depth_num_blocks": (1, 1),
    "depth_feature_channels": 8,
    "rgb_hidden_size": 12,
    "depth_hidden_size": 10,
    "action_embedding_size": 4,
    "hidden_size": 16,
}


def tiny_seq2seq(**fields) -> Seq2SeqModel:
    """In evaluation mode."""
    torch.manual_seed(0)
    return Seq2SeqModel(Seq2SeqConfig(**(SIZES | fields))).eval()


def tiny_cma(**fields) -> CMAModel:
    """In evaluation mode."""
    torch.manual_seed(0)
    return CMAModel(CMAConfig(**(SIZES | fields))).eval()
