"""The dual system's protocol: who thinks when, what is walked, and that batches change nothing."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from internnav_hf.camera import CameraSpec
from internnav_hf.geometry import Action
from internnav_hf.models.system2.dialogue import AnswerKind
from internnav_hf.policies import Decision, DualSystemPolicy, family_of_checkpoint
from internnav_hf.policies.dual_system import depth_view, rgb_view
from tests.tiny.dual_system import SYSTEM1, tiny_dual_system
from tests.tiny.system2 import tiny_processor

GOLDEN = json.loads(
    (Path(__file__).parents[1] / "golden" / "async_protocol.json").read_text(encoding="utf-8")
)
AHEAD = np.array([0.1, 0.0])
NOWHERE = np.zeros(2)


def _observation(value: int, size=(112, 84)) -> dict:
    picture = np.full((*size[::-1], 3), value, np.uint8)
    depth = np.full(size[::-1], value / 10, np.float32)
    return {
        "rgb": picture,
        "depth": depth,
        "rgb_look_down": picture,
        "depth_look_down": depth,
    }


def _policy(system1: str = "nextdit_async", seed: int = 0, **settings) -> DualSystemPolicy:
    settings = {"num_samples": 3, "seed": seed} | settings
    return DualSystemPolicy(tiny_dual_system(system1), tiny_processor(), **settings)


def _answers(policy: DualSystemPolicy, *decisions: Decision) -> list[int]:
    """Make System2 answer `decisions` one after the other; returns where it was asked."""
    said, asked = iter(decisions), []

    def decide(images, instruction, history, look_down, force_look_down):
        asked.extend(len(past) for past in history)
        return [next(said) for _ in images]

    policy.system2.decide = decide
    return asked


def _walks(policy: DualSystemPolicy, *steps: np.ndarray) -> list:
    """Make the expert's steps `steps` (2,) one after the other; returns the views it is shown."""
    wanted, shown = iter(steps), []

    def sample(plan, num_samples, generator, noise, views):
        shown.append(views)
        step = torch.tensor([*next(wanted), 0.0])
        return step.expand(len(plan), num_samples, 8, 3)

    policy.expert.sample = sample
    return shown


POINT = Decision(AnswerKind.PIXEL_GOAL, "↓", goal_pixel=(5.0, 6.0), plan=torch.zeros(4, 64))
LEFT = Decision(AnswerKind.TURN, "←←", actions=(2, 2))
STOP = Decision(AnswerKind.STOP, "STOP", actions=(0,))
UNPARSABLE = Decision(AnswerKind.UNPARSABLE, "hm")


@pytest.mark.parametrize("system1", SYSTEM1)
def test_trajectories_are_metres_of_the_robot_and_their_mean_is_walked(system1):
    policy = _policy(system1)
    _answers(policy, POINT)
    policy.reset("Go to the sofa.")
    step = policy.act(_observation(7))
    assert step.trajectories.shape == (3, 9, 2)
    assert np.isfinite(step.trajectories).all()
    assert (step.trajectories[:, 0] == 0).all()
    np.testing.assert_allclose(step.path, step.trajectories.mean(axis=0))
    assert step.asked
    assert step.decision is POINT
    assert 1 <= len(step.actions) <= 4


def test_system2_thinks_and_the_plan_is_the_models():
    policy = _policy()
    policy.system2._generate = lambda session: ["↓"] * len(session.last_hidden)
    policy.reset("Go to the sofa.")
    step = policy.act(_observation(7))
    assert step.decision.kind == AnswerKind.PIXEL_GOAL
    assert step.decision.plan.shape == (4, 64)
    assert step.trajectories is not None


def test_the_plan_is_renewed_after_so_many_actions():
    policy = _policy(max_steps_per_plan=6)
    asked = _answers(policy, POINT, POINT, POINT)
    _walks(policy, *[AHEAD] * 20)
    policy.reset("Go.")
    steps = [policy.act(_observation(frame)) for frame in range(13)]
    assert asked == [0, 6, 12]
    assert [step.asked for step in steps] == [frame % 6 == 0 for frame in range(13)]


def test_observed_frames_count_as_actions_and_as_history():
    policy = _policy(max_steps_per_plan=8)
    asked = _answers(policy, POINT, STOP)
    _walks(policy, *[AHEAD] * 2)
    policy.reset("Go.")
    for frame in range(9):
        if frame % 4 == 0:
            step = policy.act(_observation(frame))
        else:
            policy.observe(_observation(frame)["rgb"])
    assert asked == [0, 8]
    assert step.actions == (Action.STOP,)


def test_where_the_path_ends_system2_is_asked_at_once():
    policy = _policy()
    asked = _answers(policy, POINT, STOP)
    _walks(policy, AHEAD, NOWHERE)
    policy.reset("Go.")
    assert policy.act(_observation(0)).actions == (1, 1, 1)  # 0.8 m, arrived at 0.2 m
    assert policy.act(_observation(1)).actions == (0,)
    assert asked == [0, 1]


def test_a_new_plan_that_leads_nowhere_turns_left_once():
    policy = _policy()
    asked = _answers(policy, POINT, LEFT)
    _walks(policy, NOWHERE)
    policy.reset("Go.")
    assert policy.act(_observation(0)).actions == (Action.TURN_LEFT,)
    assert policy.act(_observation(1)).actions == (2, 2)
    assert asked == [0, 1]


def test_an_answer_that_nothing_follows_from_turns_left_and_asks_again():
    policy = _policy()
    _answers(policy, UNPARSABLE, STOP)
    policy.reset("Go.")
    step = policy.act(_observation(0))
    assert (step.actions, step.trajectories) == ((Action.TURN_LEFT,), None)
    assert policy.act(_observation(0)).actions == (Action.STOP,)


def test_the_expert_sees_the_view_of_the_decision_and_the_current_one():
    policy = _policy("navdp_async")
    _answers(policy, POINT)
    encoded, encode = [], policy.expert.encode_views

    def count(rgb, depth):
        encoded.append((int(rgb[0, 0, 0, 0, 0]), float(depth[0, 0, 0, 0])))
        return encode(rgb, depth)

    policy.expert.encode_views = count
    shown = _walks(policy, *[AHEAD] * 3)
    policy.reset("Go.")
    for frame in (10, 20, 90):
        policy.act(_observation(frame))
    assert encoded == [(10, 1.0), (20, 2.0), (90, 5.0)]  # each once; depth to 5 m
    for views in shown:
        torch.testing.assert_close(views[:, 0], shown[0][:, 0])
    torch.testing.assert_close(shown[0][:, 0], shown[0][:, 1])
    assert (shown[1][:, 1] - shown[1][:, 0]).abs().max() > 1e-4


@pytest.mark.parametrize("system1", SYSTEM1)
def test_what_is_drawn_does_not_depend_on_who_else_walks(system1):
    def walk(names: list[str]) -> dict[str, np.ndarray]:
        policy = _policy(system1)
        _answers(policy, *[POINT] * 9)
        episodes = [policy.start("Go.", name) for name in names]
        for frame in (10, 30):
            steps = policy.steps(episodes, [_observation(frame)] * len(names))
        return {name: s.trajectories for name, s in zip(names, steps, strict=True)}

    together, alone = walk(["a", "b", "c"]), walk(["b"])
    np.testing.assert_allclose(together["b"], alone["b"], atol=1e-5)
    assert np.abs(together["a"] - together["b"]).max() > 1e-3


def test_a_seed_repeats_and_another_does_not():
    found = []
    for seed in (0, 0, 1):
        policy = _policy(seed=seed)
        _answers(policy, POINT)
        policy.reset("Go.")
        found.append(policy.act(_observation(9)).trajectories)
    np.testing.assert_array_equal(found[0], found[1])
    assert np.abs(found[0] - found[2]).max() > 1e-3


def test_thinkers_and_walkers_are_told_apart_in_a_batch():
    policy = _policy()
    asked = _answers(policy, POINT, LEFT, STOP)
    policy.expert.sample = lambda plan, **_: torch.tensor([0.1, 0, 0]).expand(len(plan), 3, 8, 3)
    episodes = [policy.start("Go.") for _ in range(2)]
    first = policy.steps(episodes, [_observation(0)] * 2)
    assert [step.actions for step in first] == [(1, 1, 1), (2, 2)]
    second = policy.steps(episodes, [_observation(1)] * 2)
    assert [step.actions for step in second] == [(1, 1, 1), (0,)]
    assert asked == [0, 0, 1]


def test_missing_views_are_named():
    policy = _policy("navdp_async")
    _answers(policy, POINT, POINT)
    policy.reset("Go.")
    observation = _observation(1)
    del observation["depth_look_down"]
    with pytest.raises(ValueError, match="found no depth, but this model's action expert reads"):
        policy.act(observation)
    policy.processor.camera = CameraSpec().to_dict()
    with pytest.raises(ValueError, match="found no 'rgb_look_down'"):
        policy.act({"rgb": observation["rgb"], "depth": observation["depth"]})
    policy.processor.camera = CameraSpec(pitch_deg=30).to_dict()
    assert policy.act({"rgb": observation["rgb"], "depth": observation["depth"]}).asked


def test_settings_that_the_expert_does_not_have_are_refused():
    assert _policy(guidance_scale=2.0, num_inference_steps=2).sampling
    with pytest.raises(ValueError, match="guidance_scale: NavDPActionExpert"):
        _policy("navdp_async", guidance_scale=2.0)


def test_views_are_made_as_the_dataset_makes_them():
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (84, 112, 3), dtype=np.uint8))
    expected = np.asarray(picture.resize((28, 28), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(rgb_view(picture, (28, 28)), expected.transpose(2, 0, 1))
    depth_mm = rng.integers(0, 10_000, (84, 112)).astype(np.uint16)
    nearest = Image.fromarray(depth_mm).resize((28, 28), Image.Resampling.NEAREST)
    expected = np.minimum(np.asarray(nearest) / np.float32(1000), 5)
    np.testing.assert_allclose(depth_view(depth_mm / 1000, (28, 28)), expected, rtol=1e-6)


def test_a_saved_model_acts(tmp_path):
    tiny_dual_system().save_pretrained(tmp_path)
    tiny_processor().save_pretrained(tmp_path)
    policy = DualSystemPolicy.from_pretrained(tmp_path, num_samples=2, max_steps_per_plan=5)
    assert (policy.num_samples, policy.max_steps_per_plan) == (2, 5)
    assert policy.processor.prompt_style == "training"
    policy.reset("Go.")
    assert policy.act(_observation(3)).actions


def test_the_published_run_is_reproduced():
    """Its log of questions, views and times, in the published words of inference."""
    settings = {"history_size": (384, 384), "num_history": GOLDEN["num_history"]}
    processor = tiny_processor(prompt_style="inference", **settings)
    # There, System2 is asked when more than the gap, counted from the next frame, has passed.
    gap = GOLDEN["plan_step_gap"] + 2
    model = tiny_dual_system(image_width=640, image_height=480)
    policy = DualSystemPolicy(model, processor, 2, max_steps_per_plan=gap, answer_with="text")
    script, log = iter(GOLDEN["script"]), []
    policy.system2._generate = lambda session: [next(script)]
    encode = processor.encode_text

    def log_question(asked, images):
        text = asked
        values = [int(np.asarray(image)[0, 0, 0]) for image in images]
        if text.startswith("<|im_end|>\n"):  # goes on; the log has whole dialogues
            text, values = f"{log[-1][1]}↓{text}", log[-1][2] + values
        if images:
            log.append(("s2", text, values, list(images[-1].size)))
        return encode(asked, images)

    def log_sample(plan, views, **_):
        log.append(("s1", *views.flatten().int().tolist()))
        return torch.tensor([0.1, 0, 0]).expand(len(plan), 2, 8, 3)

    processor.encode_text = log_question
    policy.expert.sample = log_sample
    policy.expert.encode_views = lambda rgb, depth: rgb[:, :, :1, :1, 0].float()
    policy.reset("Walk to the sofa and stop.")
    frames = sorted({step["frame"] for step in GOLDEN["steps"]})
    for frame in frames:
        expected = [s for s in GOLDEN["steps"] if s["frame"] == frame]
        log.clear()
        step = policy.act(_observation(frame, (640, 480)))
        events = [e for s in expected for e in s["events"] if e["event"] != "latents"]
        assert log == [_event(event) for event in events]
        if expected[-1]["action"] is not None:
            assert list(step.actions) == expected[-1]["action"]
        if expected[-1]["pixel"] is not None:
            assert list(step.decision.goal_pixel)[::-1] == expected[-1]["pixel"]


def _event(event: dict) -> tuple:
    if event["event"] == "s1":
        return "s1", event["pixel_goal_image_value"], event["current_image_value"]
    return "s2", event["text"], event["images"], event["sizes"][-1]


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ({"model_type": "internnav_dual_system"}, True),
        ({"model_type": "internvla_n1", "system1": "nextdit_async"}, True),
        ({"model_type": "qwen2_5_vl", "system1": "navdp_async"}, True),
        ({"model_type": "internnav_system2"}, False),
        ({"model_type": "qwen2_5_vl"}, False),
    ],
)
def test_a_dual_system_is_known_by_its_configuration(tmp_path, stored, expected):
    (tmp_path / "config.json").write_text(json.dumps(stored))
    family = family_of_checkpoint(tmp_path)
    assert (family is not None and family.name == "DualSystem") == expected


@pytest.mark.parametrize("name", ["num_samples", "max_steps_per_plan", "actions_per_trajectory"])
def test_counts_below_one_are_refused(name):
    with pytest.raises(ValueError, match=f"{name}: found 0, expected 1 or more"):
        DualSystemPolicy(tiny_dual_system("nextdit"), tiny_processor(), **{name: 0})
