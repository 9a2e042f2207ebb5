"""A panoptic Mask2Former makes ViPlanner's semantic images."""

import numpy as np
import pytest
import torch
from transformers import (
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
    Mask2FormerImageProcessorPil,
    SwinConfig,
)

from internnav_hf.models.planners.semantics import class_colours, class_named, coco_to_class
from internnav_hf.policies import PointGoal
from internnav_hf.policies.segmenter import Mask2FormerSegmenter
from tests.tiny.planners import viplanner_policy

NAMES = ("person", "floor-wood", "cabinet-merged", "wall-brick")


def write_model(folder, names=NAMES):
    torch.manual_seed(0)
    swin = SwinConfig(
        image_size=64,
        embed_dim=8,
        depths=[1, 1, 1, 1],
        num_heads=[1, 1, 1, 1],
        window_size=2,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    config = Mask2FormerConfig(
        backbone_config=swin,
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        encoder_feedforward_dim=16,
        encoder_layers=1,
        decoder_layers=2,
        num_attention_heads=2,
        dim_feedforward=16,
        num_queries=6,
        id2label=dict(enumerate(names)),
        label2id={name: number for number, name in enumerate(names)},
    )
    model = Mask2FormerForUniversalSegmentation(config)
    torch.nn.init.normal_(model.class_predictor.weight, std=20.0)  # sure of what it says
    model.save_pretrained(folder)
    size = {"height": 64, "width": 64}
    Mask2FormerImageProcessorPil(size=size, num_labels=len(names)).save_pretrained(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mask2former")
    write_model(folder)
    return folder


def test_views_become_colours_of_classes(folder):
    segmenter = Mask2FormerSegmenter(str(folder))
    rgb = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    colours = segmenter(rgb)
    assert colours.shape == (48, 64, 3)
    allowed = {class_named(coco_to_class()[name]).colour for name in NAMES} | {(0, 0, 0)}
    assert {tuple(colour) for colour in colours.reshape(-1, 3).tolist()} <= allowed
    seen = {"rgb": rgb, "depth": np.full((48, 64), 2.0, np.float32)}
    step = viplanner_policy(segmenter=segmenter).act(seen, PointGoal((2.0, 0.0)))
    assert np.isfinite(step.path).all()


def test_the_table_is_the_meant_or_the_published_one(folder):
    names = {c: Mask2FormerSegmenter(str(folder), by_substring=c).colours[2] for c in (True, False)}
    assert tuple(names[True]) == class_named("dynamic").colour
    assert tuple(names[False]) == class_named("furniture").colour
    assert (class_colours() == names[True]).all(1).any()


def test_a_model_of_other_classes_is_refused(tmp_path):
    write_model(tmp_path, ("person", "lamp"))
    with pytest.raises(ValueError, match="1 classes that are none of COCO's, such as 'lamp'"):
        Mask2FormerSegmenter(str(tmp_path))
    with pytest.raises(ValueError, match="segmenter: .*no such folder"):
        Mask2FormerSegmenter("./nowhere")
