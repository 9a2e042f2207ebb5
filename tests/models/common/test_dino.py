import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    CLIPVisionConfig,
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    Dinov2Config,
)
from transformers.models.dinov2.modeling_dinov2 import Dinov2Model

from internnav_hf.models.common.dino import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    DinoEncoder,
    load_dino,
    released_dino_keys,
    to_unit,
)
from tests.tiny.seeded_weights import seeded_tensor

GOLDEN = Path(__file__).parents[2] / "golden"
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}


def vit_small() -> DinoEncoder:
    """Of the golden, weights by the rule under the original names."""
    config = Dinov2Config(
        hidden_size=384, num_hidden_layers=12, num_attention_heads=6, image_size=518
    )
    encoder = DinoEncoder(config, normalise=False).eval()
    keys = json.loads((GOLDEN / "dinov2_vits.json").read_text())["keys"]
    original = {key: seeded_tensor(key, tuple(shape)) for key, shape in keys.items()}
    encoder.load_state_dict(released_dino_keys(original))
    return encoder


def tiny(**fields) -> DinoEncoder:
    torch.manual_seed(0)
    return DinoEncoder(Dinov2Config(**SIZES, image_size=70, **fields)).eval()


def original_names(encoder: DinoEncoder) -> dict[str, torch.Tensor]:
    """A tiny encoder's weights as an original DINOv2 file holds them."""
    ours, renamed = encoder.state_dict(), {"mask_token": torch.zeros(1, 16)}
    pairs = {
        "cls_token": "embeddings.cls_token",
        "pos_embed": "embeddings.position_embeddings",
        "patch_embed.proj.weight": "embeddings.patch_embeddings.projection.weight",
        "patch_embed.proj.bias": "embeddings.patch_embeddings.projection.bias",
        "norm.weight": "layernorm.weight",
        "norm.bias": "layernorm.bias",
    }
    for layer in range(2):
        block, ours_block = f"blocks.{layer}.", f"encoder.layer.{layer}."
        for number in (1, 2):
            pairs[f"{block}ls{number}.gamma"] = f"{ours_block}layer_scale{number}.lambda1"
        for part in ("weight", "bias"):
            for name in ("norm1", "norm2", "mlp.fc1", "mlp.fc2"):
                pairs[f"{block}{name}.{part}"] = f"{ours_block}{name}.{part}"
            pairs[f"{block}attn.proj.{part}"] = f"{ours_block}attention.o_proj.{part}"
            split = [ours[f"{ours_block}attention.{letter}_proj.{part}"] for letter in "qkv"]
            renamed[f"{block}attn.qkv.{part}"] = torch.cat(split)
    return renamed | {original: ours[name] for original, name in pairs.items()}


def test_tokens_of_the_reference():
    golden = load_file(GOLDEN / "dinov2_vits.safetensors")
    with torch.no_grad():
        tokens = vit_small()(golden["x"])
    torch.testing.assert_close(tokens, golden["out"], atol=1e-5, rtol=0)


def test_position_table_of_the_reference():
    golden = load_file(GOLDEN / "dinov2_pos224.safetensors")
    config = Dinov2Config(
        hidden_size=384, num_hidden_layers=1, num_attention_heads=6, image_size=518
    )
    encoder = DinoEncoder(config)
    encoder.embeddings.position_embeddings.data = golden["pos_embed_518"]
    torch.testing.assert_close(encoder.positions(16), golden["pos_embed_224"], atol=1e-6, rtol=0)


def test_equals_transformers_where_the_table_needs_no_resizing():
    encoder = tiny()
    model = Dinov2Model(encoder.config).eval()
    model.load_state_dict(encoder.state_dict(), strict=False)
    images = torch.rand(2, 3, 70, 70)
    mean, std = (torch.tensor(v)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD))
    expected = model((images - mean) / std).last_hidden_state[:, 1:]
    torch.testing.assert_close(encoder(images), expected)


def test_every_parameter_is_reached_also_through_the_resized_table():
    encoder = tiny().train()
    assert encoder(torch.rand(2, 3, 42, 42)).square().mean().backward() is None
    assert not [name for name, value in encoder.named_parameters() if value.grad is None]


@pytest.mark.parametrize("size", [(70, 56), (71, 71)])
def test_images_that_patches_do_not_tile_are_refused(size):
    with pytest.raises(ValueError, match=r"patch_size=14 pixels wide; these are \d+x\d+"):
        tiny()(torch.rand(1, 3, *size))


def test_bytes_and_floats_are_the_same_picture():
    rgb = torch.randint(256, (1, 3, 4, 4), dtype=torch.uint8)
    torch.testing.assert_close(to_unit(to_unit(rgb)), rgb / 255)


def test_bfloat16_runs():
    assert tiny().bfloat16()(torch.rand(1, 3, 42, 42)).dtype == torch.bfloat16


@pytest.mark.parametrize("prefix", ["", "pretrained."])
def test_starts_from_an_original_file(prefix, tmp_path):
    source, target = tiny(), tiny()
    torch.nn.init.normal_(source.layernorm.weight)
    weights = {prefix + key: value for key, value in original_names(source).items()}
    if prefix:
        weights["depth_head.scratch.weight"] = torch.zeros(1)
    torch.save(weights, tmp_path / "vits.pth")
    load_dino(target, tmp_path / "vits.pth")
    torch.testing.assert_close(target.state_dict(), source.state_dict())


def test_starts_from_a_dinov2_folder(tmp_path):
    source, target = Dinov2Model(tiny().config), tiny()
    source.save_pretrained(tmp_path)
    load_dino(target, tmp_path)
    expected = {k: v for k, v in source.state_dict().items() if "mask_token" not in k}
    torch.testing.assert_close(target.state_dict(), expected)


def test_starts_from_a_depth_anything_folder(tmp_path):
    backbone = Dinov2Config(
        **SIZES,
        image_size=70,
        out_indices=[1, 2],
        apply_layernorm=True,
        reshape_hidden_states=False,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=16,
        reassemble_factors=[1, 1],
        neck_hidden_sizes=[8, 8],
        fusion_hidden_size=8,
        head_hidden_size=8,
    )
    source, target = DepthAnythingForDepthEstimation(config), tiny()
    source.save_pretrained(tmp_path)
    load_dino(target, tmp_path)
    expected = source.backbone.state_dict()
    torch.testing.assert_close(
        target.state_dict(), {k: v for k, v in expected.items() if "mask_token" not in k}
    )


def test_weights_that_do_not_fit_are_refused(tmp_path):
    weights = original_names(tiny())
    del weights["norm.weight"]
    weights["blocks.0.stranger"] = torch.zeros(1)
    torch.save(weights, tmp_path / "vits.pth")
    with pytest.raises(ValueError, match=r"lacks 1 .*layernorm.weight.*unexpected 1 .*stranger"):
        load_dino(tiny(), tmp_path / "vits.pth")
    CLIPVisionConfig().save_pretrained(tmp_path / "clip")
    with pytest.raises(
        ValueError, match="found a 'clip_vision_model', expected 'depth_any.*' or 'dino"
    ):
        load_dino(tiny(), tmp_path / "clip")
