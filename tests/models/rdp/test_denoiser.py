"""RDP's denoiser is the published one, and computes once what diffusion steps share."""

import json

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from internnav_hf.models.common.diffusion import noise_schedule
from internnav_hf.models.rdp.config import RDPConfig
from internnav_hf.models.rdp.denoiser import RDPDenoiser, denoise_guided
from internnav_hf.models.rdp.released import released_rdp_keys
from tests.tiny.rdp import tiny_rdp_config
from tests.tiny.seeded_weights import seeded_tensor
from tests.tiny.vln_golden import GOLDEN, golden

EXACT = {"atol": 1e-5, "rtol": 0}
NUM_TOKENS = 13


def golden_denoiser(name: str, guidance_mask: str = "additive") -> RDPDenoiser:
    told = json.loads((GOLDEN / f"{name}.json").read_text())
    sizes = told["constructor"]
    config = RDPConfig(
        text_config={"hidden_size": sizes["cond_dim"], "num_hidden_layers": 1},
        vision_config={"num_hidden_layers": 1},
        hidden_size=sizes["cond_dim"],
        denoiser_hidden_size=sizes["n_emb"],
        num_denoiser_attention_heads=sizes["n_emb"] // 64,
        num_denoiser_layers=sizes["n_layer"],
        use_diffusion=sizes["use_dp"],
        guidance_mask=guidance_mask,
    )
    denoiser = RDPDenoiser(config, NUM_TOKENS).eval()
    prefix = "action_dp_pred_net."
    weights = {prefix + key: seeded_tensor(key, tuple(s)) for key, s in told["keys"].items()}
    ours = released_rdp_keys(weights)
    denoiser.load_state_dict({key.removeprefix("denoiser."): v for key, v in ours.items()})
    return denoiser


@pytest.mark.parametrize("name", ["tfd_small", "tfd_default"])
@pytest.mark.parametrize(
    ("mask", "expected"),
    [("additive", "float_mask"), ("drop", "bool_mask_for_contrast"), ("additive", "no_mask")],
)
@torch.no_grad()
def test_noise_of_the_reference(name, mask, expected):
    denoiser, given = golden_denoiser(name, mask), golden(name)
    steps = given["in.timestep"][:, None]
    condition = (given["in.cond"], given["in.type_embeds"], steps)
    assert_close(denoiser.encode(*condition), given["out.memory"], **EXACT)
    dropped = None if expected == "no_mask" else given["in.cond_mask"].bool()
    found = denoiser(given["in.sample"], denoiser.read(*condition), dropped)
    assert_close(found, given[f"out.{expected}"], **EXACT)


@torch.no_grad()
def test_displacements_of_the_reference_without_diffusion():
    denoiser, given = golden_denoiser("tfd_regress"), golden("tfd_regress")
    memory = denoiser.read(given["in.cond"], given["in.type_embeds"], None)
    assert_close(denoiser(None, memory), given["out.no_mask"], **EXACT)


def test_the_schedule_of_the_reference():
    given, schedule = golden("rdp_small_sample_cfg"), noise_schedule(20)
    schedule.set_timesteps(20)
    assert_close(schedule.alphas_cumprod, given["out.sched.alphas_cumprod"], atol=1e-6, rtol=0)
    assert_close(schedule.betas, given["out.sched.betas"], atol=1e-6, rtol=0)
    assert_close(schedule.timesteps, given["out.sched.timesteps"])


def parts(**fields) -> tuple[RDPConfig, RDPDenoiser, dict[str, Tensor]]:
    """A tiny denoiser with random weights, and what it denoises for two rows."""
    config = tiny_rdp_config(**fields)
    torch.manual_seed(0)
    denoiser = RDPDenoiser(config, NUM_TOKENS).eval()
    inputs = {
        "condition": torch.randn(2, NUM_TOKENS, 32),
        "kinds": torch.randn(NUM_TOKENS, 32),
        "droppable": torch.arange(1 + NUM_TOKENS) % 3 == 1,
        "noise": torch.randn(2, 8, 3),
        "step_noise": torch.randn(9, 1, 2, 8, 3),
    }
    return config, denoiser, inputs


@torch.no_grad()
def test_all_diffusion_steps_at_once_are_as_one_by_one():
    _, denoiser, inputs = parts()
    condition, times = (inputs["condition"], inputs["kinds"]), torch.arange(10).expand(2, -1)
    together = denoiser.read(*condition, times).unflatten(2, (2, 10))
    for step in range(10):
        alone = denoiser.read(*condition, times[:, step : step + 1])
        assert_close(together[:, :, :, step], alone, atol=1e-6, rtol=0)


@torch.no_grad()
def test_guidance_of_a_scale_of_one_is_none():
    config, denoiser, inputs = parts(guidance_scale=1.0)
    plain = denoise_guided(denoiser, **inputs, config=config)
    config.guidance_scale = 1 + 1e-6
    guided = denoise_guided(denoiser, **inputs, config=config)
    assert_close(guided, plain, atol=1e-4, rtol=0)
    config.guidance_scale = 3.0
    assert (denoise_guided(denoiser, **inputs, config=config) - plain).abs().max() > 1e-3


@torch.no_grad()
def test_what_is_dropped_is_not_seen():
    _, denoiser, inputs = parts()
    times = torch.zeros(2, 1, dtype=torch.long)
    memory = denoiser.read(inputs["condition"], inputs["kinds"], times)
    changed = memory.clone()
    changed[..., inputs["droppable"], :] += 1
    dropped = inputs["droppable"].expand(2, -1)
    noise = inputs["noise"]
    assert_close(denoiser(noise, changed, dropped), denoiser(noise, memory, dropped))
    assert not torch.allclose(denoiser(noise, changed), denoiser(noise, memory))
