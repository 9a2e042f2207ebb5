"""A call that failed in the middle may be tried again; a wrong part is named before anything is
done.
"""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from internnav_hf.policies import DualSystemPolicy, NavDPPolicy, RDPPolicy, System2Policy, VLNPolicy
from tests.policies.cases import CAMERA, CASES, WORDS, assert_same, model_of
from tests.tiny.system2 import tiny_processor

# The last part of each model that runs: all before it has happened then.
LAST_PARTS = {
    "System2Policy": "vlm.model.language_model.norm",
    "DualSystemPolicy": "action_expert.action_decoder",
    "DualSystemPolicy, depth": "action_expert.denoiser",
    "NavDPPolicy": "critic_head",
    "VLNPolicy, Seq2Seq": "action_head",
    "VLNPolicy, CMA": "action_head",
    "RDPPolicy": "denoiser",
}


def fail_once(part: torch.nn.Module) -> None:
    """Out of memory at its next call."""

    def fail(*_) -> None:
        handle.remove()
        raise torch.OutOfMemoryError("out of memory")

    handle = part.register_forward_pre_hook(fail)


def last_part(name: str, model: torch.nn.Module) -> torch.nn.Module:
    """Of a new model what it made last."""
    return model.get_submodule(LAST_PARTS[name]) if name in LAST_PARTS else [*model.children()][-1]


@pytest.mark.parametrize("name", CASES)
def test_a_step_without_memory_may_be_tried_again(name):
    case = CASES[name]
    told = {"actions_per_decision": 1} if name == "RDPPolicy" else {}  # it decides at each step
    policy, untouched = case.make(CAMERA.to_dict(), **told), case.make(CAMERA.to_dict(), **told)
    for each in (policy, untouched):
        case.reset(each)
        case.act(each, case.seen(0))
    for index in (1, 2, 3):
        fail_once(last_part(name, policy.model))
        with pytest.raises(torch.OutOfMemoryError):
            case.act(policy, case.seen(index))
        assert_same(case.act(policy, case.seen(index)), case.act(untouched, case.seen(index)))


def test_a_look_down_view_may_be_shown_again():
    case = CASES["System2Policy"]
    policy, untouched = case.make(), case.make()
    for each in (policy, untouched):
        each.reset(WORDS)
        each.act({"rgb": case.seen(0)["rgb"]})
    view = {"rgb_look_down": case.seen(0)["rgb_look_down"]}
    expected = untouched.act(view)
    fail_once(policy.model.get_submodule(LAST_PARTS["System2Policy"]))
    with pytest.raises(torch.OutOfMemoryError):
        policy.act(view)
    assert expected.goal_pixel is not None
    assert_same(policy.act(view), expected)


def test_what_the_caller_does_to_an_answer_changes_nothing():
    case = CASES["DualSystemPolicy"]
    policy, untouched = case.make(), case.make()
    for each in (policy, untouched):
        each.reset(WORDS)
    step, _ = (each.act(case.seen(0)) for each in (policy, untouched))
    step.decision.plan.zero_()
    step.path[:] = 0
    assert_same(policy.act(case.seen(1)), untouched.act(case.seen(1)))


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: System2Policy(model_of("nextdit_async"), tiny_processor()), "'internnav_dual_sys"),
        (lambda: System2Policy(model_of("system2"), None), "processor: found None"),
        (lambda: DualSystemPolicy(model_of("system2"), tiny_processor()), "'internnav_system2'"),
        (lambda: NavDPPolicy(None), "model: found None"),
        (lambda: VLNPolicy(model_of("rdp"), None), "'internnav_rdp', expected internnav_seq2seq"),
        (lambda: RDPPolicy(model_of("cma"), None), "'internnav_cma', expected internnav_rdp"),
        (lambda: CASES["System2Policy"].make(answer_with="Text"), "answer_with: found 'Text'"),
        (lambda: CASES["RDPPolicy"].make(actions_per_decision=2.5), "found 2.5, expected 1 to"),
        (lambda: CASES["RDPPolicy"].make(seed=-1), "seed: found -1"),
        (lambda: CASES["NavDPPolicy"].make(stop_threshold="1"), "stop_threshold: found '1'"),
        (lambda: CASES["NavDPPolicy"].make({}, strict_camera="no"), "strict_camera: found 'no'"),
    ],
)
def test_wrong_parts_and_settings_are_one_line(make, told):
    with pytest.raises(ValueError, match=told):
        make()


def test_what_is_no_list_of_robots_is_told():
    case = CASES["VLNPolicy, CMA"]
    policy = case.make()
    robot = case.start(policy, "a")
    for given in (robot, {"a": robot}, iter([robot]), None):
        with pytest.raises(ValueError, match="episodes: found .*expected a list"):
            policy.steps(given, [case.seen(0)])


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"history": 3}, "history: found int 3"),
        ({"history": [None, []]}, "history: found None"),
        ({"look_down": lambda rows: None}, "look_down: found None"),
        ({"look_down": lambda rows: [np.zeros((84, 112, 3), np.uint8)]}, "found 1 views, exp.* 2"),
    ],
)
def test_questions_that_do_not_match_are_told(given: dict[str, Any], told):
    case = CASES["System2Policy"]
    views = [case.seen(i)["rgb"] for i in range(2)]
    with pytest.raises(ValueError, match=told):
        case.make().decide(views, [WORDS] * 2, **given)


def test_depth_that_is_odd_for_an_array_is_read_or_told(caplog):
    case = CASES["NavDPPolicy"]
    policy, seen = case.make(), case.seen(0)
    depth, expected = seen["depth"], case.act(case.make(), seen)
    for same in (depth.astype(">f4"), np.asfortranarray(depth), Image.fromarray(depth)):
        policy.reset()
        assert_same(case.act(policy, seen | {"depth": same}), expected)
    for wrong in (torch.empty(84, 112, device="meta"), torch.from_numpy(depth).to_sparse()):
        with pytest.raises(ValueError, match="depth: found a tensor on"):
            case.act(policy, seen | {"depth": wrong})
    caplog.clear()
    case.act(policy, seen | {"depth": depth * 12})  # a square in the open
    assert "is it an open place, or are these centimetres?" in caplog.text
    robot = CASES["DualSystemPolicy, depth"]
    walker = robot.make()
    robot.reset(walker)
    robot.act(walker, robot.seen(0) | {"depth_m": 1, "depth_raw": 2})  # others of the robot's keys
