"""System2: decisions on the cache equal those of whole passes, for any batch."""

import numpy as np
import pytest
import torch
from PIL import Image

from internnav_hf.models.dialogue import (
    AnswerKind,
    first_user_message,
    look_down_message,
    render,
    render_continuation,
)
from internnav_hf.policies import System2Policy
from tests.tiny import FAMILIES, tiny_processor, tiny_system2


def _frames(count: int, size=(56, 56), seed: int = 0) -> list[Image.Image]:
    rng = np.random.default_rng(seed)
    return [
        Image.fromarray(rng.integers(0, 256, (*size[::-1], 3), dtype=np.uint8))
        for _ in range(count)
    ]


def _tensors(encoded: dict) -> dict:
    return {
        key: torch.as_tensor(value)
        if key in ("pixel_values", "image_grid_thw")
        else torch.as_tensor(value)[None]
        for key, value in encoded.items()
    }


def _scripted(policy: System2Policy, *texts: str) -> None:
    """Make `policy` say `texts`, one turn after the other; everything else stays real."""
    said = iter(texts)
    policy._generate = lambda session: [next(said) for _ in range(len(session.last_hidden))]


@pytest.fixture(params=FAMILIES)
def policy(request) -> System2Policy:
    return System2Policy(tiny_system2(request.param), tiny_processor(request.param))


def test_second_turn_on_the_cache_equals_one_pass_over_the_whole_dialogue(policy):
    frames, view = _frames(3), _frames(1, (112, 84), seed=1)[0]
    decision = policy.decide(
        frames[-1], "Go to the sofa.", frames[:-1], look_down=view, force_look_down=True
    )
    text = render([first_user_message("Go to the sofa.", 2)], add_generation_prompt=True) + "↓"
    text += render_continuation(look_down_message())
    output = policy.model(**_tensors(policy.processor.encode_text(text, [*frames, view])))
    np.testing.assert_allclose(decision.goal_pixel, output.goal_pixel[0].tolist(), atol=1e-3)
    np.testing.assert_allclose(decision.heatmap, output.heatmap[0].detach(), atol=1e-5)


def test_generated_text_equals_greedy_decoding_without_a_cache(policy):
    frames = _frames(2)
    policy.max_new_tokens = 5
    decision = policy.decide(frames[1], "Turn left.", frames[:1])
    text = render([first_user_message("Turn left.", 1)], add_generation_prompt=True)
    inputs = _tensors(policy.processor.encode_text(text, frames))
    prompt = inputs["input_ids"].shape[1]
    for _ in range(5):
        token = policy.model(**inputs).logits[:, -1].argmax(-1, keepdim=True)
        if token.item() == policy.processor.tokenizer.eos_token_id:
            break
        inputs["input_ids"] = torch.cat([inputs["input_ids"], token], dim=1)
        inputs["mm_token_type_ids"] = torch.cat(
            [inputs["mm_token_type_ids"], torch.zeros_like(token)], dim=1
        )
    expected = policy.processor.tokenizer.decode(
        inputs["input_ids"][0, prompt:], skip_special_tokens=True
    )
    assert decision.text == expected


def test_a_batch_decides_like_its_members_alone(policy):
    frames, views = _frames(6), _frames(3, (112, 84), seed=1)
    instructions = ["Go to the sofa.", "Turn around and leave the kitchen, then stop.", "Stop."]
    histories = [frames[:2], [], frames[2:3]]
    together = policy.decide(
        frames[3:], instructions, histories, look_down=views, force_look_down=True
    )
    for row in range(3):
        alone = policy.decide(
            frames[3 + row],
            instructions[row],
            histories[row],
            look_down=views[row],
            force_look_down=True,
        )
        np.testing.assert_allclose(together[row].goal_pixel, alone.goal_pixel, atol=1e-3)
        np.testing.assert_allclose(together[row].heatmap, alone.heatmap, atol=1e-5)
    policy.max_new_tokens = 4
    texts = [decision.text for decision in policy.decide(frames[3:], instructions, histories)]
    assert texts == [
        policy.decide(*inputs).text
        for inputs in zip(frames[3:], instructions, histories, strict=True)
    ]


def test_only_rows_that_ask_are_shown_the_look_down_view():
    policy = System2Policy(tiny_system2(), tiny_processor())
    _scripted(policy, "STOP", "↓", "←←", "tell me more", "↓")
    shown = []

    def look_down(rows):
        shown.extend(rows)
        return _frames(len(rows), (112, 84))

    decisions = policy.decide(_frames(5), ["Go."] * 5, look_down=look_down)
    assert shown == [1, 4]
    kinds = [decision.kind for decision in decisions]
    goal = AnswerKind.PIXEL_GOAL
    assert kinds == [AnswerKind.STOP, goal, AnswerKind.TURN, AnswerKind.UNPARSABLE, goal]
    assert decisions[2].actions == (2, 2)
    assert decisions[3].text == "tell me more"
    u, v = decisions[1].goal_pixel
    assert 0 <= u <= 112
    assert 0 <= v <= 84
    assert 0 < decisions[1].goal_confidence <= 1


def test_acting_in_two_calls_equals_deciding_in_one():
    frames, view = _frames(3), _frames(1, (112, 84), seed=1)[0]
    policy = System2Policy(tiny_system2(), tiny_processor())
    policy.reset("Go to the sofa.")
    policy.observe(frames[0])
    policy.observe(frames[1])
    _scripted(policy, "↓", "↓")
    asked = policy.act({"rgb": frames[2]})
    assert asked.kind == AnswerKind.LOOK_DOWN
    goal = policy.act({"rgb_look_down": view})
    decided = policy.decide(frames[2], "Go to the sofa.", frames[:2], look_down=view)
    assert goal.goal_pixel == pytest.approx(decided.goal_pixel)
    _scripted(policy, "STOP")
    assert policy.act({"rgb": frames[0]}).kind == AnswerKind.STOP


def test_text_goals_are_read_and_goals_outside_the_image_are_no_answer():
    policy = System2Policy(tiny_system2(), tiny_processor(), answer_with="text")
    view = _frames(1, (112, 84))[0]
    _scripted(policy, "↓", "50 40", "↓", "50 400")
    inside = policy.decide(view, "Go.", look_down=view)
    assert (inside.kind, inside.goal_pixel) == (AnswerKind.PIXEL_GOAL, (50, 40))
    outside = policy.decide(view, "Go.", look_down=view)
    assert (outside.kind, outside.text) == (AnswerKind.UNPARSABLE, "↓ 50 400")


def test_a_pixel_before_the_look_down_view_is_no_answer():
    policy = System2Policy(tiny_system2(), tiny_processor())
    _scripted(policy, "12 30")
    decision = policy.decide(_frames(1)[0], "Go.", look_down=_frames(1, (112, 84))[0])
    assert (decision.kind, decision.text) == (AnswerKind.UNPARSABLE, "12 30")


def test_a_look_down_view_of_another_size_is_refused():
    policy = System2Policy(tiny_system2(), tiny_processor())
    with pytest.raises(ValueError, match="is 56x56, but this System2 was trained for 112x84"):
        policy.decide(_frames(1)[0], "Go.", look_down=_frames(1)[0], force_look_down=True)


def test_a_headless_model_answers_with_text_only():
    model = tiny_system2(use_pixel_goal_head=False)
    assert System2Policy(model, tiny_processor()).answer_with == "text"
    with pytest.raises(ValueError, match="no pixel-goal head"):
        System2Policy(model, tiny_processor(), answer_with="head")


def test_misfitting_inputs_are_refused():
    policy = System2Policy(tiny_system2(), tiny_processor())
    with pytest.raises(ValueError, match="2 images, 1 instructions"):
        policy.decide(_frames(2), ["Go."])
    assert policy.decide([], []) == []


def test_released_models_are_asked_in_the_published_words(tmp_path):
    model = tiny_system2()
    for folder, save in (("ours", model.save_pretrained), ("released", model.save_vlm)):
        save(tmp_path / folder)
        tiny_processor().save_pretrained(tmp_path / folder)
    assert System2Policy.from_pretrained(tmp_path / "ours").processor.prompt_style == "training"
    released = System2Policy.from_pretrained(tmp_path / "released")
    assert (released.processor.prompt_style, released.answer_with) == ("inference", "text")
