"""Parts that NavDP and NavDP* share: tables, compressor and codes of the reference."""

import json

import pytest
import torch
from diffusers import DDPMScheduler
from safetensors.torch import load_file

from internnav_hf.models.common.diffusion import noise_schedule
from internnav_hf.models.navdp.trunk import Denoiser, RGBDEncoder, TokenCompressor
from tests.golden import GOLDEN
from tests.tiny.navdp import VISION, tiny_navdp_config
from tests.tiny.seeded_weights import seeded_tensor

COMPRESSOR_NAMES = {
    "target_embedding.weight": "queries.weight",
    "token_positional_encoding.position_embedding.weight": "token_positions.weight",
    "query_positional_encoding.position_embedding.weight": "query_positions.weight",
    "cross_attention.in_proj_weight": "attention.in_proj_weight",
    "cross_attention.in_proj_bias": "attention.in_proj_bias",
    "cross_attention.out_proj.weight": "attention.out_proj.weight",
    "cross_attention.out_proj.bias": "attention.out_proj.bias",
}


def test_compressed_tokens_of_the_reference():
    golden = load_file(GOLDEN / "token_compressor.safetensors")
    keys = json.loads((GOLDEN / "token_compressor.json").read_text())["keys"]
    compressor = TokenCompressor(384, 8).eval()
    compressor.load_state_dict(
        {ours: seeded_tensor(key, tuple(keys[key])) for key, ours in COMPRESSOR_NAMES.items()}
    )
    with torch.no_grad():
        whole, masked = compressor(golden["x"]), compressor(golden["x"], ~golden["padding_mask"])
    torch.testing.assert_close(whole, golden["out_nomask"], atol=1e-5, rtol=0)
    torch.testing.assert_close(masked, golden["out_masked"], atol=1e-5, rtol=0)


def test_time_code_of_the_reference():
    golden = load_file(GOLDEN / "pos_encodings.safetensors")
    config = tiny_navdp_config(
        hidden_size=384,
        vision_config=VISION | {"hidden_size": 384},
        depth_vision_config=VISION | {"hidden_size": 384},
    )
    code = Denoiser(config, num_condition_tokens=3).time_tokens(golden["ddpm_steps"])
    torch.testing.assert_close(code[:, 0], golden["ddpm_time"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("num_steps", [10, 20])
def test_noise_tables_of_the_reference(num_steps):
    table = json.loads((GOLDEN / "ddpm_tables.json").read_text())[f"ddpm{num_steps}"]
    schedule = noise_schedule(num_steps)
    for name in ("betas", "alphas_cumprod"):
        expected = torch.tensor(table[name])
        torch.testing.assert_close(getattr(schedule, name), expected, atol=1e-6, rtol=1e-6)


def test_the_schedule_is_the_published_one():
    """Whose every setting is in the golden, by the names of diffusers' DDPM."""
    published = json.loads((GOLDEN / "ddpm_tables.json").read_text())["config"]
    ours = noise_schedule(20).config
    shared = ours.keys() & published.keys()
    assert {"beta_schedule", "prediction_type", "clip_sample_range", "steps_offset"} <= shared
    assert {name: ours[name] for name in shared} == {name: published[name] for name in shared}
    assert DDPMScheduler(**published).config.variance_type == "fixed_small"


@pytest.mark.parametrize(("num_rgb_frames", "num_depth_frames"), [(2, 2), (8, 1)])
def test_rgbd_encoder_takes_any_number_of_frames(num_rgb_frames, num_depth_frames):
    config = tiny_navdp_config()
    encoder = RGBDEncoder(config, num_rgb_frames, num_depth_frames)
    rgb_tokens, depth_tokens = (
        torch.randn(3, num_rgb_frames, 4, 32),
        torch.randn(3, num_depth_frames, 4, 32),
    )
    assert encoder(rgb_tokens, depth_tokens).shape == (3, 5, 32)


def test_without_gradients_it_is_the_same():
    """Where a CPU multiplies in another way, from 16 rows on."""
    torch.manual_seed(0)
    denoiser = Denoiser(tiny_navdp_config(), num_condition_tokens=3).eval()
    noisy, tokens = torch.randn(20, 6, 3), torch.randn(4, 3, 32)
    with_gradients = denoiser(noisy, denoiser.read(tokens))
    with torch.no_grad():
        without = denoiser(noisy, denoiser.read(tokens))
    torch.testing.assert_close(without, with_gradients, atol=1e-5, rtol=0)
