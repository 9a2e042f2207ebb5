"""RDP is the published network: losses, what lies between, and sampling."""

import pytest
import torch
from torch.testing import assert_close

from internnav_hf.models.rdp.config import RDPConfig
from internnav_hf.models.rdp.displacements import discrete_actions, unscale
from internnav_hf.models.rdp.losses import RDPOutput, rdp_losses
from internnav_hf.models.rdp.model import RDPModel
from tests.tiny.rdp_golden import (
    DEFAULT,
    GOLDEN_FIELDS,
    LIMITS,
    SMALL,
    SMALL_FIELDS,
    batch,
    by_episode,
    by_row,
    frames,
    golden_model,
)
from tests.tiny.vln_golden import golden

EXACT = {"atol": 1e-5, "rtol": 0}
NOISY = {"atol": 5e-5, "rtol": 0}  # states, and what comes of them; as any second implementation
# GroupNorm blows up the rounding of frames without variance, those that were dropped.
BLANK = {"atol": 2e-4, "rtol": 0}
SHIFTED = {"atol": 1e-4, "rtol": 0}  # upstream adds -10000 to all logits of some rows
MASKED = "rdp_small_loss_masked"


@pytest.fixture(scope="module")
def model() -> RDPModel:
    return golden_model(SMALL, SMALL_FIELDS)


@torch.no_grad()
def forward(model: RDPModel, name: str) -> RDPOutput:
    return model(**batch(name, 3), **frames(golden(SMALL), 3, 8))


def check_predictions(output: RDPOutput, name: str, tolerance: dict) -> None:
    given = golden(name)
    assert_close(by_row(output.predicted_noise), given["out.noise_pred"], **tolerance)
    assert_close(by_row(output.progress), given["out.progress"][:, 0], **EXACT)
    assert_close(by_row(output.stop_progress), given["out.stop_progress"][:, 0], **EXACT)
    assert_close(output.recurrent_state, given["out.rnn_states"], **NOISY)


def test_losses_of_the_reference(model):
    output, given = forward(model, SMALL), golden(SMALL)
    check_predictions(output, SMALL, NOISY)
    assert_close(output.loss, given["out.loss"], **EXACT)
    assert_close(output.action_loss, given["out.diffusion_loss"], **EXACT)
    assert_close(output.progress_loss, given["out.progress_loss"], **EXACT)
    assert_close(10 * output.stop_loss, given["out.stop_loss_times_10"], **EXACT)


def test_states_are_reset_as_in_the_reference(model):
    check_predictions(forward(model, MASKED), MASKED, SHIFTED)


def test_steps_are_left_out_of_losses_as_in_the_reference():
    given = golden(MASKED)
    steps = {key: by_episode(value, 3) for key, value in given.items() if value.shape[:1] == (6,)}
    output = rdp_losses(
        RDPConfig(**SMALL_FIELDS),
        {
            "action": steps["out.noise_pred"],
            "progress": steps["out.progress"][..., 0],
            "stop": steps["out.stop_progress"][..., 0],
        },
        {
            "action": steps["in.noise"],
            "progress": steps["in.progress"],
            "stop": steps["in.stop_progress"],
        },
        steps["in.masks"][..., 0].bool(),
    )
    assert_close(output.loss, given["out.loss"], **EXACT)
    assert_close(output.action_loss, given["out.diffusion_loss"], **EXACT)


@torch.no_grad()
def test_what_lies_between_is_the_references(model):
    given, inputs = golden(SMALL), batch(SMALL, 3)
    text = model.encode_instruction(inputs["instruction_ids"])
    is_word = inputs["instruction_ids"][:, :45] != 0
    assert_close(text, given["out.mid.text"] * is_word[..., None], **EXACT)
    seen = frames(given, 3, 8)
    shown = {name: by_row(value) for name, value in seen.items()}
    dropped = by_row(inputs["image_drop"])
    for value in shown.values():
        value[dropped] = 0
    features = (
        by_episode(model.encode_rgb(shown["rgb"]), 3),
        by_episode(model.encode_depth(shown["depth"]), 3),
    )
    way = (inputs["previous_displacements"], inputs["relative_pose"])
    scene = model.advance(*features, *way, reset_mask=inputs["reset_mask"])
    found, expected = by_row(scene.image_tokens), given["out.mid.rgb_depth_tokens"]
    assert_close(found[~dropped], expected[~dropped], **NOISY)
    assert_close(found[dropped], expected[dropped], **BLANK)
    assert_close(by_row(scene.states), given["out.mid.gru_out"], **NOISY)
    tokens = torch.cat([scene.image_tokens, scene.states[:, :, None]], dim=2)
    fused = model.image_reader.read_text(tokens, text, is_word)
    assert_close(by_row(fused), given["out.mid.img_txt"], **NOISY)
    episodes = torch.tensor([0, 1] * 3)
    summary = model.text_reader.summarise_text(text, is_word, by_row(tokens), episodes)
    assert_close(summary, given["out.mid.txt_img_token0"], **NOISY)


@pytest.mark.parametrize(("name", "scale"), [("cfg", 1.5), ("nocfg", 1.0)])
def test_samples_of_the_reference(model, name, scale):
    given = golden(f"rdp_small_sample_{name}")
    guided = RDPModel(RDPConfig(**SMALL_FIELDS | {"guidance_scale": scale})).eval()
    guided.load_state_dict(model.state_dict())
    scene = guided.advance(
        given["in.stack_rgb"][:, None],
        given["in.stack_depth"][:, None],
        unscale(given["in.prev_actions"], *LIMITS)[:, None],
        given["in.imu"][:, None],
        given["in.rnn_states"],
    )
    ids, step_noise = given["in.instruction"].long(), given["in.step_noise"]
    step_noise = step_noise.unflatten(1, (-1, 2))[:, :, :, None]  # (steps, chains, B, T, H, 3)
    noise = given["in.init_noise"][:, None]
    found = guided.sample(ids, scene, noise=noise, step_noise=step_noise)
    assert_close(found.displacements[:, 0], given["out.deltas"], **EXACT)
    assert_close(found.progress, given["out.progress"], **EXACT)
    assert_close(found.stop_progress, given["out.stop_progress"], **EXACT)
    assert_close(scene.states, given["out.rnn_states"], **EXACT)
    actions = discrete_actions(found.displacements[:, 0], found.stop_progress[:, 0])
    assert_close(actions, given["out.discrete_actions"])


@pytest.mark.slow
def test_the_published_size():
    released, given = golden_model("keys_rdp", GOLDEN_FIELDS), golden(DEFAULT)
    inputs = batch(DEFAULT, 2)
    with torch.no_grad():
        output = released(**inputs, **frames(given, 2, 28))
        text = released.encode_instruction(inputs["instruction_ids"][:1])
    check_predictions(output, DEFAULT, NOISY)
    assert_close(output.loss, given["out.loss"], **EXACT)
    assert_close(text[0], given["out.mid.text_row0"], **NOISY)
