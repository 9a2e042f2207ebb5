"""The published network, size and numbers; weights by the rule under the released names."""

import json
from pathlib import Path

import pytest
import torch
from einops import rearrange
from safetensors.torch import load_file
from torch import Tensor
from transformers.initialization import no_init_weights

from internnav_hf.models.nextdit.config import NextDiTConfig
from internnav_hf.models.nextdit.model import NextDiTActionExpert
from internnav_hf.models.nextdit.released import released_keys
from tests.tiny.seeded_weights import seeded_tensor

GOLDEN = Path(__file__).parents[2] / "golden"
SCALE = torch.tensor([4.0, 4.0, 1.0])  # the goldens' actions are in the network's unit


def golden(name: str) -> tuple[dict[str, Tensor], dict[str, list[int]]]:
    """Tensors, and names and shapes of the weights."""
    described = json.loads((GOLDEN / f"{name}.json").read_text())
    return load_file(GOLDEN / f"{name}.safetensors"), described.get("keys", {})


def weights(keys: dict[str, list[int]], prefix: str = "") -> dict[str, Tensor]:
    """By the rule under the golden's names; then `prefix` stands where it has "model."."""
    seeded = {key: seeded_tensor(key, tuple(shape)) for key, shape in keys.items()}
    return {prefix + key.removeprefix("model."): value for key, value in seeded.items()}


def bare(use_images: bool = True) -> NextDiTActionExpert:
    """The published sizes; weights are whatever lies in memory."""
    with no_init_weights():
        return NextDiTActionExpert(NextDiTConfig(use_images=use_images)).eval()


@pytest.fixture(scope="module")
def whole() -> NextDiTActionExpert:
    """Read only: hooks are removed again."""
    assert golden("flow_matching_loss")[1] == golden("nextdit_cfg_sampling")[1]
    return loaded(golden("flow_matching_loss")[1])


def loaded(keys: dict[str, list[int]], use_images: bool = True) -> NextDiTActionExpert:
    """The whole expert, strictly."""
    model = bare(use_images)
    released = weights(keys)
    released.pop("latent_queries")  # the dual system's
    model.load_state_dict(released_keys(released, model.config))
    return model


def part(name: str, prefix: str) -> tuple[NextDiTActionExpert, dict[str, Tensor]]:
    """An expert of which one part has the golden's weights, put under the released `prefix`."""
    tensors, keys = golden(name)
    model = bare()
    converted = released_keys(weights(keys, prefix), model.config)
    info = model.load_state_dict(converted, strict=False)
    assert not info.unexpected_keys
    return model, tensors


def images(pixels: Tensor) -> Tensor:
    return rearrange(pixels, "b t h w c -> b t c h w")


def assert_near(value: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(value, expected, atol=tolerance, rtol=0)


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


def test_denoiser():
    model, g = part("nextdit_denoiser", "traj_dit.model.")
    denoiser = model.denoiser
    tokens = denoiser.condition_projection(g["z_latents"])
    assert_near(tokens, g["caption_projected"])
    times = g["timestep"][:, None]
    assert_near(denoiser.embedding(tokens, times)[:, 0], g["temb"])
    context = denoiser.context(g["z_latents"], times)
    hidden = g["x"][:, None]
    assert_near(denoiser.layers[0](hidden, context.blocks[0], 0)[:, 0], g["block0_out"])
    assert_near(denoiser(hidden, context)[:, 0], g["out"])


def test_plan_projector():
    model, g = part("cond_projector", "cond_projector.")
    assert_near(model.plan_projector(g["x"]), g["out"])


def test_memory_encoder():
    model, g = part("memory_encoder", "memory_encoder.")
    assert_near(model.memory.encoder(g["memory"]), g["out"])


def test_query_resampler():
    model, g = part("qformer", "rgb_resampler.")
    assert_near(model.memory.resampler(g["visual_feats"]), g["out"])


def test_memory_of_two_images():
    model, g = part("rgb_memory_tokens", "")
    views = model.encode_views(images(g["images_u8"]))
    assert_near(views.flatten(1, 2), g["dino_tokens"])
    assert_near(model.memory(views), g["memory_tokens"])


def test_code_of_trajectory_steps():
    g, _ = golden("pos_encodings")
    assert_near(bare(use_images=False).step_code(), g["action_pos"][0], 1e-6)


def test_training_loss_of_the_reference(whole):
    g, _ = golden("flow_matching_loss")
    seen = {}
    valid = torch.arange(2) < g["video_frame_num"][:, None]
    with (
        whole.denoiser.register_forward_pre_hook(lambda _, args: seen.update(hidden=args[0])),
        whole.action_decoder.register_forward_hook(lambda *args: seen.update(velocity=args[2])),
        whole.plan_projector.register_forward_hook(lambda *args: seen.update(tokens=args[2])),
    ):
        output = whole(
            plan=g["hidden_states"],
            rgb=images(g["traj_images_u8"]),
            actions=g["traj_poses"] / SCALE,
            frame_mask=valid,
            noise=g["noise"].unflatten(0, (2, 2)),
            timesteps=g["timesteps"].unflatten(0, (2, 2)),
        )
    rows = valid.flatten()
    assert_near(seen["hidden"][:, 0], g["dit_input"][rows])
    assert_near(seen["tokens"], g["z_latents"][rows, -4:])
    assert_near(seen["velocity"][:, 0], g["velocity"][rows])
    assert_near(output.loss, g["loss"][0])
    assert output.loss_counts["action_loss"] == 3


def test_diffusion_times_are_the_reference_schedule():
    g, _ = golden("flow_matching_loss")
    assert_near(1000 - (g["u"] * 1000).floor(), g["timesteps"], 0)


@pytest.mark.parametrize("scale", [1, 3])
def test_sampling_of_the_reference(whole, scale):
    g, _ = golden("nextdit_cfg_sampling")
    seen = []
    with whole.action_encoder.register_forward_pre_hook(lambda _, args: seen.append(args[0])):
        sampled = whole.sample(
            g["traj_latents"],
            images(g["images_u8"]),
            noise=g["init_noise"][None],
            guidance_scale=float(scale),
        )
    assert_near(sampled[0] * SCALE, g[f"out_guidance{scale}"], 5e-5)
    if scale == 3:
        steps = torch.cat([step.flatten(0, 1)[None] for step in seen[::2]])
        assert_near(steps, g["steps_guidance3"][:-1], 5e-5)


def test_sampling_without_images():
    g, keys = golden("nextdit_plain_sampling")
    model = loaded(keys, use_images=False)
    sampled = model.sample(g["traj_latents"], noise=g["init_noise"][None])
    assert_near(sampled[0] * SCALE, g["out"], 5e-5)


@pytest.mark.parametrize("kind", ["nextdit", "nextdit_async"])
def test_the_released_key_list_fits_strictly(kind):
    listed = json.loads((GOLDEN / f"keys_{kind}.json").read_text())["tensors"]
    language_model = ("model.layers.", "model.embed_tokens.", "model.norm.", "model.latent_")
    released = {
        key.removeprefix("model."): torch.empty(shape, device="meta")
        for key, (_, shape) in listed.items()
        if key.startswith("model.") and not key.startswith(language_model)
    }
    with torch.device("meta"):
        model = bare(use_images=kind == "nextdit_async")
    ours, expected = released_keys(released, model.config), model.state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in expected.items()}


def test_exactly_what_no_loss_reaches_is_left_out():
    trainable = json.loads((GOLDEN / "trainable_dual.json").read_text())
    names = [key.removeprefix("model.") for key in trainable["nextdit_async"]]
    unused = trainable["nextdit_async_never_reached_by_the_loss"]
    config = NextDiTConfig()
    for name in names:
        kept = released_keys({name: torch.zeros(3, 3)}, config)
        assert bool(kept) == (f"model.{name}" not in unused), name
