"""CMA over CLIP encoders: a configuration of CMA, upstream's numbers, steps, errors."""

import json

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from internnav_hf.models.vln.cma import CMAModel
from internnav_hf.models.vln.cma_clip_released import released_cma_clip_keys
from internnav_hf.models.vln.config import CMAConfig
from internnav_hf.models.vln.seq2seq import Seq2SeqModel
from internnav_hf.models.vln.start import start_vln
from internnav_hf.weights.loading import check_fit
from tests.tiny.rdp import SIZES, tiny_cma_clip, tiny_rdp
from tests.tiny.rdp_golden import by_episode, by_row, frames, released_weights
from tests.tiny.vln_golden import GOLDEN, golden

NAME = "cma_clip_small_policy"
TOLERANCE = {"atol": 1e-5, "rtol": 0}
AS_GOLDEN = {"num_cross_modal_attention_heads": 4, "image_mean": None, "image_std": None}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    file = tmp_path_factory.mktemp("cma_clip") / "cma_clip.pth"
    torch.save(released_weights(NAME), file)
    return file


def batch() -> dict[str, Tensor]:
    given = golden(NAME)
    return {
        "instruction_ids": given["in.instruction"][:2].long(),
        "previous_actions": by_episode(given["in.prev_actions"], 2)[..., 0],
        "recurrent_state": given["in.rnn_states"],
        "reset_mask": torch.zeros(2, 2, dtype=torch.bool),
        **frames(given, 2, 8),
    }


@torch.no_grad()
def test_a_sequence_gives_upstreams_numbers(file):
    model, given = CMAModel.from_pretrained(file, **AS_GOLDEN), golden(NAME)
    output = model(**batch())
    assert_close(by_row(output.logits), given["out.log_probs"], **TOLERANCE)
    assert_close(by_row(output.progress), given["out.progress"][:, 0], **TOLERANCE)
    assert_close(output.recurrent_state, given["out.rnn_states"], **TOLERANCE)


def test_the_assumed_names_and_shapes_are_all_known():
    shapes = json.loads((GOLDEN / "keys_cma_clip_assumed.json").read_text())["keys"]
    assert len(shapes) == 662
    with torch.device("meta"):
        config = {"use_clip": True, "image_size": 224}
        model = CMAModel(CMAConfig(**config, rgb_hidden_size=512, depth_hidden_size=512))
        weights = {key: torch.empty(shape) for key, shape in shapes.items()}
        check_fit("keys_cma_clip", released_cma_clip_keys(weights), model)


@torch.no_grad()
def test_steps_one_by_one_are_the_whole_episode():
    model = tiny_cma_clip()
    inputs = model.dummy_inputs
    del inputs["step_mask"]
    whole, state = model(**inputs), None
    words = model.encode_instruction(inputs["instruction_ids"])
    for step in range(3):
        seen = (inputs[name][:, step] for name in ("rgb", "depth", "previous_actions"))
        acted = model.act(words, *seen, state)
        state = acted.recurrent_state
        assert_close(acted.logits, whole.logits[:, step], atol=1e-5, rtol=0)
    assert_close(state, whole.recurrent_state, atol=1e-5, rtol=0)


def test_it_starts_from_encoders_of_another_model(tmp_path):
    tiny_rdp().save_pretrained(tmp_path / "rdp")
    model, source = tiny_cma_clip(), str(tmp_path / "rdp")
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    start_vln(model, depth_encoder=source, rgb_encoder=source, text_encoder=source)
    expected = tiny_rdp()
    for name in ("text_encoder", "rgb_encoder", "depth_encoder"):
        found = model.get_submodule(name).state_dict()
        assert all(
            torch.equal(found[key], value)
            for key, value in expected.get_submodule(name).state_dict().items()
        )


@pytest.mark.parametrize("learns", [False, True])
def test_towers_learn_only_if_asked(learns):
    model = tiny_cma_clip(train_text_encoder=learns, train_rgb_encoder=learns).train()
    model(**model.dummy_inputs).loss.backward()
    for name in ("text_encoder", "rgb_encoder"):
        assert all((p.grad is not None) == learns for p in model.get_submodule(name).parameters())


def test_errors(file, tmp_path):
    with pytest.raises(ValueError, match="found a CMA over CLIP encoders, expected a Seq2Seq"):
        Seq2SeqModel.from_pretrained(file)
    with pytest.raises(ValueError, match="text_config"):
        CMAConfig(text_config={"vocab_size": 60})
    with pytest.raises(ValueError, match="hidden_size"):
        tiny_cma_clip(hidden_size=64)
    with pytest.raises(ValueError, match=r"vision_config\.image_size"):
        tiny_cma_clip(image_size=64, vision_config={"image_size": 32})


def test_towers_that_do_not_learn_do_not_drop_either():
    dropping = {"attention_dropout": 0.5}
    text, vision = ({**SIZES[name], **dropping} for name in ("text_config", "vision_config"))
    model = tiny_cma_clip(text_config=text, vision_config=vision).train()
    image, words = torch.rand(1, 3, 32, 32), model.dummy_inputs["instruction_ids"]
    assert torch.equal(model.encode_rgb(image), model.encode_rgb(image))
    assert torch.equal(model.encode_instruction(words), model.encode_instruction(words))
    learning = tiny_cma_clip(vision_config=vision, train_rgb_encoder=True).train()
    assert not torch.equal(learning.encode_rgb(image), learning.encode_rgb(image))
