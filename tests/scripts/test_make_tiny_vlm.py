"""The small VLM is an ordinary folder that the recipe takes, made for the dataset's words."""

from pathlib import Path

import pytest
from transformers import AutoConfig, AutoModelForImageTextToText

from internnav_hf import System2Model, System2Processor
from internnav_hf.models.system2.dialogue import (
    CONJUNCTIONS,
    Answer,
    first_user_message,
    parse_answer,
    render,
)
from scripts import make_tiny_vlm
from tests.data.vln_ce import golden, write_scene


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    data, out = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("vlm")
    write_scene(data / "r2r" / "scene0", golden()["episodes"], images=False)
    arguments = make_tiny_vlm.TinyVLMArguments(str(out), str(data), hidden_size=64)
    make_tiny_vlm.main(arguments)
    return out


def test_it_loads_as_a_plain_vlm_and_as_a_system2(folder):
    plain = AutoModelForImageTextToText.from_pretrained(folder)
    assert plain.config.model_type == "qwen2_5_vl"
    assert plain.config.text_config.hidden_size == 64
    assert not System2Model.from_pretrained(folder).config.use_pixel_goal_head


def test_fixed_sentences_digits_and_symbols_are_one_token_each(folder):
    tokenizer = System2Processor.from_pretrained(folder).tokenizer
    config = AutoConfig.from_pretrained(folder)
    assert len(tokenizer) == config.text_config.vocab_size
    for text in ("↓", "←", "STOP", "7", CONJUNCTIONS[3]):
        assert len(tokenizer(text, add_special_tokens=False)["input_ids"]) == 1, text
    prompt = render([first_user_message("Go past the table.", 0)], add_generation_prompt=True)
    assert len(tokenizer(prompt, add_special_tokens=False)["input_ids"]) < 35


@pytest.mark.parametrize("answer", [Answer.of_pixel(12, 95), Answer.of_actions([2, 2, 0])])
def test_answers_survive_the_tokenizer(folder, answer):
    tokenizer = System2Processor.from_pretrained(folder).tokenizer
    ids = tokenizer(answer.text, add_special_tokens=False)["input_ids"]
    assert parse_answer(tokenizer.decode(ids)) == answer
