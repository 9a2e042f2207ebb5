"""CLIP's towers start from Long-CLIP's file or a CLIP in transformers' form, or say why not."""

import pytest
import torch
from torch.testing import assert_close
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig

from internnav_hf.models.common.clip import (
    ClipImageEncoder,
    ClipTextEncoder,
    load_clip,
    normalise_images,
)
from internnav_hf.models.common.clip_config import (
    CLIP_MEAN,
    CLIP_STD,
    LONG_CLIP_TEXT,
    LONG_CLIP_VISION,
)
from tests.tiny.rdp_golden import SMALL, SMALL_FIELDS, released_weights

TEXT, VISION = SMALL_FIELDS["text_config"], SMALL_FIELDS["vision_config"]
TEXT_PREFIX = "instruction_encoder.text_transformer."
IMAGE_PREFIX = "image_encoder.image_transformer."


def configs(**text_fields) -> tuple[CLIPTextConfig, CLIPVisionConfig]:
    vision = CLIPVisionConfig(**LONG_CLIP_VISION | VISION | {"image_size": 64})
    return CLIPTextConfig(**LONG_CLIP_TEXT | TEXT | text_fields), vision


def towers(**text_fields) -> tuple[ClipTextEncoder, ClipImageEncoder]:
    torch.manual_seed(0)
    text, vision = configs(**text_fields)
    return ClipTextEncoder(text).eval(), ClipImageEncoder(vision).eval()


def long_clip() -> dict[str, torch.Tensor]:
    """A small Long-CLIP's own file, of both towers, in half precision."""
    weights = released_weights(SMALL)
    kept = {
        key.removeprefix(prefix): value.half()
        for prefix in (TEXT_PREFIX, IMAGE_PREFIX)
        for key, value in weights.items()
        if key.startswith(prefix)
    }
    return kept


def test_long_clip_loads_with_its_two_tables_of_positions(tmp_path):
    weights = long_clip()
    torch.save(weights, tmp_path / "longclip-B.pt")
    text, vision = towers()
    load_clip(text, vision, tmp_path / "longclip-B.pt")
    table = text.embeddings.position_embedding.weight
    assert_close(table[19], weights["positional_embedding"][19].float())
    assert_close(table[20], weights["positional_embedding_res"][20].float())
    query = weights["visual.transformer.resblocks.1.attn.in_proj_weight"][:128].float()
    assert_close(vision.encoder.layers[1].self_attn.q_proj.weight, query)
    assert text.dtype == torch.float32


def clip_folder(tmp_path, num_positions: int) -> str:
    text, vision = (config.to_dict() for config in configs(max_position_embeddings=num_positions))
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision))
    model.save_pretrained(tmp_path / "clip")
    return str(tmp_path / "clip")


def test_a_clip_of_transformers_loads(tmp_path):
    source = clip_folder(tmp_path, 248)
    text, vision = towers()
    load_clip(text, None, source)
    load_clip(None, vision, source)
    model = CLIPModel.from_pretrained(source).eval()
    ids = torch.tensor([[5, 7, 9, 0]])
    expected = model.text_model(input_ids=ids).last_hidden_state
    assert_close(text(ids), expected[:, :3], atol=1e-5, rtol=0)
    image = torch.rand(1, 3, 64, 64)
    expected = model.vision_model(pixel_values=image).last_hidden_state
    found = vision(image)
    assert_close(found[:, 0], expected[:, 0], atol=1e-5, rtol=0)
    grid = expected[:, 1:].unflatten(1, (4, 4))
    assert_close(found[0, 2], grid[0, :2, 2:].mean((0, 1)), atol=1e-5, rtol=0)


def test_padding_changes_no_word():
    text, _ = towers()
    ids = torch.tensor([[5, 7, 9]])
    both = torch.tensor([[5, 7, 9, 0, 0, 0], [3, 4, 5, 6, 0, 0]])
    found = text(both)
    assert found.shape[1] == 4
    assert_close(found[:1, :3], text(ids), atol=1e-5, rtol=0)
    assert not found[0, 3].any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda tmp_path: clip_folder(tmp_path, 77), "77 tokens, expected 248"),
        (lambda tmp_path: str(tmp_path / "missing.pt"), "no such file"),
    ],
)
def test_what_does_not_fit_is_an_error(make, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        load_clip(*towers(), make(tmp_path))


def test_another_file_is_an_error(tmp_path):
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="expected a CLIP"):
        load_clip(*towers(), tmp_path / "other.pt")
    weights = long_clip()
    del weights["visual.ln_pre.bias"]
    torch.save(weights, tmp_path / "less.pt")
    with pytest.raises(ValueError, match=r"lacks 1 key.*pre_layrnorm\.bias"):
        load_clip(*towers(), tmp_path / "less.pt")


def test_images_are_normalised_as_clip_does():
    rgb = torch.full((1, 3, 2, 2), 51, dtype=torch.uint8)
    expected = [(0.2 - mean) / std for mean, std in zip(CLIP_MEAN, CLIP_STD, strict=True)]
    found = normalise_images(rgb, CLIP_MEAN, CLIP_STD)
    assert_close(found[0, :, 0, 0], torch.tensor(expected))
    assert_close(normalise_images(rgb, None, None), rgb / 255)


def test_no_images_have_no_tokens():
    _, vision = towers()
    assert vision(torch.zeros(0, 3, 64, 64)).shape == (0, 5, 128)
