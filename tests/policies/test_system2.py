"""System2: decisions on the cache equal those of whole passes, for any batch."""

import numpy as np
import pytest
import torch
from PIL import Image

from internnav_hf.models.dual_system.model import DualSystemModel
from internnav_hf.models.system2.dialogue import (
    AnswerKind,
    first_user_message,
    look_down_message,
    render,
    render_continuation,
)
from internnav_hf.models.system2.session import System2Session
from internnav_hf.policies import Decision, FrameHistory, System2Policy
from tests.policies.cases import CASES, assert_same
from tests.tiny.system2 import FAMILIES, tiny_processor, tiny_system2
from tests.tiny.toy_expert import ToyExpertConfig


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


def _dual(family: str = "qwen2_5_vl", **fields) -> DualSystemModel:
    system2 = tiny_system2(family, **fields)
    torch.manual_seed(1)
    return DualSystemModel.from_parts(system2, ToyExpertConfig(), num_queries=3).eval()


def _plan_of_whole_pass(model, processor, text, images, answer=(), closing="") -> torch.Tensor:
    """(Q, D) of one pass without a cache over `text`, `answer` (ids), `closing` and the queries."""
    inputs = _tensors(processor.encode_text(text, images))
    more = torch.tensor([*answer, *processor.tokenizer(closing)["input_ids"]], dtype=torch.long)
    inputs["input_ids"] = torch.cat([inputs["input_ids"], more[None]], dim=1)
    del inputs["mm_token_type_ids"]
    assert not model.system2_is_frozen
    with torch.no_grad():
        return model(**inputs).plan[0]


@pytest.mark.parametrize("style", ["training", "inference"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_plan_on_the_cache_equals_a_whole_pass_over_the_goals_words(family, style):
    model, processor = _dual(family), tiny_processor(family, prompt_style=style)
    policy = System2Policy(model.system2, processor, planner=model.plan)
    frames, views = _frames(4), _frames(2, (112, 84), seed=1)
    instructions, histories = ["Go to the sofa", "Leave the kitchen, then stop"], [frames[:2], []]
    together = policy.decide(frames[2:], instructions, histories, views, force_look_down=True)
    for row, decision in enumerate(together):
        question = first_user_message(instructions[row], len(histories[row]), style=style)
        text = render([question], add_generation_prompt=True) + "↓"
        text += render_continuation(look_down_message(style=style))
        u, v = decision.goal_pixel
        text += f"{min(round(u), 111)} {min(round(v), 83)}<|im_end|>"
        text += "\n" if style == "training" else ""
        shown = [policy.prepare(frame) for frame in (*histories[row], frames[2 + row])]
        expected = _plan_of_whole_pass(model, processor, text, [*shown, views[row]])
        torch.testing.assert_close(decision.plan, expected, atol=1e-5, rtol=1e-5)


class _TakesAnythingForAGoal(System2Policy):
    """What a random model says is never a goal; its tokens are as good as any."""

    def _checked(self, answer, text):
        return Decision(AnswerKind.PIXEL_GOAL, text, goal_pixel=(1.0, 2.0))


def test_a_plan_behind_generated_words_equals_separate_whole_passes(monkeypatch):
    # With tied embeddings a random model repeats one word.
    model, processor = _dual(tie_word_embeddings=False), tiny_processor()
    frames, view = _frames(2), _frames(1, (112, 84), seed=1)[0]
    text = render([first_user_message("Go.", 1)], add_generation_prompt=True) + "↓"
    text += render_continuation(look_down_message())
    inputs = _tensors(processor.encode_text(text, [*frames, view]))
    prompt = inputs["input_ids"].shape[1]
    del inputs["mm_token_type_ids"]
    for _ in range(8):
        token = model.system2(**inputs).logits[:, -1].argmax(-1, keepdim=True)
        inputs["input_ids"] = torch.cat([inputs["input_ids"], token], dim=1)
    answer = inputs["input_ids"][0, prompt:].tolist()
    end = next(token for token in answer if token != answer[0])  # a random model never ends
    answer = answer[: answer.index(end)]

    generate = System2Session.generate
    monkeypatch.setattr(System2Session, "generate", lambda self, _, n: generate(self, {end}, n))
    policy = _TakesAnythingForAGoal(model.system2, processor, "text", planner=model.plan)
    decision = policy.decide(frames[1], "Go.", frames[:1], look_down=view, force_look_down=True)
    assert decision.text == f"↓ {processor.tokenizer.decode(answer, skip_special_tokens=True)}"
    images = [*frames, view]
    expected = _plan_of_whole_pass(model, processor, text, images, answer, "<|im_end|>\n")
    torch.testing.assert_close(decision.plan, expected, atol=1e-5, rtol=1e-5)


def test_only_pixel_goals_bring_plans():
    model = _dual()
    policy = System2Policy(model.system2, tiny_processor(), planner=model.plan)
    _scripted(policy, "STOP", "↓", "←←")
    decisions = policy.decide(_frames(3), ["Go."] * 3, look_down=lambda _: _frames(1, (112, 84)))
    assert [decision.plan is not None for decision in decisions] == [False, True, False]
    assert decisions[1].plan.shape == (3, 64)


def test_a_long_history_is_thinned_evenly():
    history = FrameHistory(limit=4)
    frames = _frames(13)
    for frame in frames[:4]:
        history.append(frame)
    assert history.frames == frames[:4]
    for frame in frames[4:]:
        history.append(frame)
    assert history.frames == frames[::4]


def test_robots_that_are_asked_together_answer_as_each_alone():
    """Also where one waits for the look-down view, another starts and a third has both views."""
    case = CASES["System2Policy"]
    policy = case.make()
    first, other = case.seen(0), case.seen(1)
    level = {"rgb": first["rgb"]}
    expected = []
    for views in ([level, {"rgb_look_down": first["rgb_look_down"]}], [level], [other]):
        case.reset(policy)
        expected.append([policy.act(view) for view in views][-1])
    robots = [case.start(policy, name) for name in "abc"]
    assert policy.steps(robots[:1], [level])[0].kind == AnswerKind.LOOK_DOWN
    found = policy.steps(robots, [{"rgb_look_down": first["rgb_look_down"]}, level, other])
    for one, same in zip(found, expected, strict=True):
        assert one.kind == same.kind
        assert_same(one, same)
    assert [len(robot.history.frames) for robot in robots] == [1, 1, 1]
