"""Prompts equal the published ones; answers are read exactly or not at all."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from internnav_hf.models.system2.dialogue import (
    IMAGE_TOKENS,
    Answer,
    AnswerKind,
    first_user_message,
    look_down_message,
    parse_answer,
    render,
    render_continuation,
)
from tests.golden import GOLDEN, TRAIN, golden_messages

INFERENCE = json.loads((GOLDEN / "prompts_inference.json").read_text())


@pytest.mark.parametrize("name", TRAIN["samples"])
def test_training_text_equals_the_published_one(name):
    golden = TRAIN["samples"][name]
    assert render(golden_messages(golden)) == collapsed(golden["text"])


def collapsed(text: str) -> str:
    """Golden texts write {xN} behind an image token that stands for N."""
    for count in (196, 391):
        text = text.replace(f"<|image_pad|>{{x{count}}}", "<|image_pad|>")
    return text


@pytest.mark.parametrize("index", range(len(INFERENCE)))
def test_inference_text_equals_the_published_one(index):
    golden = INFERENCE[index]
    looks_down = golden["sizes"][-1] == [640, 480]
    num_history = len(golden["sizes"]) - 1 - looks_down
    first = first_user_message("Walk to the sofa and stop.", num_history, style="inference")
    text = render([first], add_generation_prompt=True)
    if looks_down:
        text += "↓" + render_continuation(look_down_message(style="inference"))
    assert text == golden["text"]
    assert text.count(IMAGE_TOKENS) == len(golden["sizes"])


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("258 332", Answer.of_pixel(258, 332)),
        ("(258, 332)", Answer.of_pixel(258, 332)),
        ("←←", Answer.of_actions([2, 2])),
        ("←STOP", Answer.of_actions([2, 0])),
        ("STOP", Answer.of_actions([0])),
        ("↓", Answer(AnswerKind.LOOK_DOWN, actions=(5,))),
        ("258", Answer(AnswerKind.UNPARSABLE)),
        ("", Answer(AnswerKind.UNPARSABLE)),
        ("stop there", Answer(AnswerKind.UNPARSABLE)),
    ],
)
def test_answers_are_read(text, answer):
    assert parse_answer(text) == answer


@given(st.integers(0, 2000), st.integers(0, 2000))
def test_a_pixel_goal_survives_its_text(u, v):
    assert parse_answer(Answer.of_pixel(u, v).text) == Answer.of_pixel(u, v)


@given(st.lists(st.sampled_from([0, 1, 2, 3, 5]), min_size=1, max_size=6))
def test_actions_survive_their_text(actions):
    assert parse_answer(Answer.of_actions(actions).text) == Answer.of_actions(actions)


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text):
    assert parse_answer(text).kind in AnswerKind


def test_unknown_and_missing_actions_are_refused():
    with pytest.raises(ValueError, match=r"Unknown actions \[7\]"):
        Answer.of_actions([2, 7])
    with pytest.raises(ValueError, match="at least one action"):
        Answer.of_actions([])


def test_a_kind_is_told_by_its_name():
    assert str(AnswerKind.PIXEL_GOAL) == "PIXEL_GOAL"
