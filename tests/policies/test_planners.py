"""The planners' rules: fear, arrival, far goals, colours of no class."""

import json

import numpy as np
import pytest
import torch

from internnav_hf.models.planners.model import PlannerPath
from internnav_hf.models.planners.semantics import (
    class_colours,
    class_named,
    coco_to_class,
    semantic_classes,
)
from internnav_hf.models.planners.views import depth_view, semantic_view
from internnav_hf.policies import PlannerEpisode, PointGoal
from tests.golden import GOLDEN
from tests.tiny.planners import iplanner_policy, viplanner_policy

SEEN = {"rgb": np.zeros((48, 64, 3), np.uint8) + 90, "depth": np.full((48, 64), 3.0, np.float32)}
STRAIGHT = torch.linspace(0, 2, 51)[:, None] * torch.tensor([1.0, 0, 0])
BACKWARDS = -STRAIGHT


def answering(policy, path, *fears):
    """`policy`, whose network gives `path` and the probabilities `fears` in turn."""
    rest = iter(fears)
    asked = []

    def predict(depth, goal_point, semantics=None):
        asked.append((depth, goal_point))
        return PlannerPath(path[None, ::10], path[None], torch.tensor([next(rest)]).logit())

    policy.model.predict = predict
    return policy, asked


def drive(policy, steps, xy=(2.0, 0.0)):
    return [policy.act(SEEN, PointGoal(xy)) for _ in range(steps)]


def test_fear_on_a_path_ahead_stops_the_robot_until_it_is_calm():
    fears = [0.9] * 5 + [0.1] * 5
    policy, _ = answering(iplanner_policy(), STRAIGHT, *fears)
    steps = drive(policy, len(fears))
    # three fearful frames are borne; the counter of four falls to 0 with the fourth calm one
    afraid = [False] * 3 + [True] * 5 + [False] * 2
    assert [step.is_afraid for step in steps] == afraid
    assert [step.is_stop for step in steps] == afraid
    np.testing.assert_allclose([step.fear for step in steps], fears, atol=1e-6)


def test_calm_frames_between_do_not_make_the_robot_forget():
    policy, _ = answering(iplanner_policy(), STRAIGHT, *([0.9, 0.1] * 4))
    assert [step.is_afraid for step in drive(policy, 8)] == [False] * 6 + [True, True]


def test_fear_of_what_is_not_ahead_does_not_stop_the_robot():
    policy, _ = answering(iplanner_policy(), BACKWARDS, *[0.9] * 6)
    assert not any(step.is_afraid for step in drive(policy, 6))
    policy, _ = answering(iplanner_policy(), 0.2 * STRAIGHT, *[0.9] * 6)
    assert not any(step.is_afraid for step in drive(policy, 6))


def test_reset_ends_the_fear_and_robots_have_their_own():
    policy, _ = answering(iplanner_policy(), STRAIGHT, *[0.9] * 5)
    assert drive(policy, 4)[-1].is_afraid
    policy.reset()
    assert not drive(policy, 1)[-1].is_afraid
    assert policy.start() == PlannerEpisode()


def test_the_robot_stays_where_the_goal_is():
    policy, _ = answering(iplanner_policy(), STRAIGHT, 0.1, 0.1)
    assert drive(policy, 1, (0.2, 0.1))[0].is_stop
    assert not drive(policy, 1, (0.3, 0.1))[0].is_stop


def test_far_goals_are_asked_for_on_their_line_or_as_benchmarked():
    policy, asked = answering(iplanner_policy(), STRAIGHT, 0.1)
    drive(policy, 1, (8.0, 6.0))
    torch.testing.assert_close(asked[0][1], torch.tensor([[4.0, 3.0, 0.0]]))
    policy, asked = answering(iplanner_policy(as_benchmarked=True), STRAIGHT, 0.1)
    drive(policy, 1, (8.0, 2.0))
    torch.testing.assert_close(asked[0][1], torch.tensor([[5.0, 2.0, 1.0]]))


def test_depth_beyond_the_models_is_unknown_and_as_benchmarked_a_wall():
    seen = SEEN | {"depth": np.full((48, 64), 12.0, np.float32)}
    for told, expected in (({}, 0.0), ({"as_benchmarked": True}, 6.5535)):
        policy, asked = answering(iplanner_policy(**told), STRAIGHT, 0.1)
        policy.act(seen, PointGoal((2.0, 0.0)))
        assert asked[0][0].shape == (1, 96, 128)
        assert float(asked[0][0].max()) == pytest.approx(expected)


def test_colours_of_no_class_are_unknown_and_told_once(caplog):
    floor = np.zeros((48, 64, 3), np.uint8) + np.uint8(class_named("floor").colour)
    odd, black = floor.copy(), floor.copy()
    odd[:24], black[:24] = (1, 2, 3), 0
    policy = viplanner_policy(camera=None)
    expected = policy.act(SEEN | {"semantics": black}, PointGoal((2.0, 0.0)))
    assert "semantics" not in caplog.text
    for _ in range(2):
        found = policy.act(SEEN | {"semantics": odd}, PointGoal((2.0, 0.0)))
        np.testing.assert_allclose(found.path, expected.path)
    assert caplog.text.count("found 50% of the pixels in colours of no class") == 1


def test_a_segmenter_takes_the_place_of_semantic_images():
    colours = class_colours()[np.zeros((48, 64), int)]
    policy = viplanner_policy(segmenter=lambda rgb: colours)
    assert not policy.needs_semantics
    found = policy.act(SEEN, PointGoal((2.0, 0.0)))
    given = viplanner_policy().act(SEEN | {"semantics": colours}, PointGoal((2.0, 0.0)))
    np.testing.assert_allclose(found.path, given.path)


def test_views_have_holes_where_depth_is_unknown_and_no_mixed_colours():
    depth = np.array([[1.0, np.nan, np.inf, -1.0, 10.0, 11.0]], np.float32)
    assert depth_view(depth, 1, 6, 10.0).tolist() == [[1, 0, 0, 0, 10, 0]]
    colours = class_colours()[[[0, 4], [9, 11]]]
    view = semantic_view(colours, 7, 9).permute(1, 2, 0).reshape(-1, 3)
    assert {tuple(c) for c in view.tolist()} == {tuple(c) for c in colours.reshape(-1, 3).tolist()}


def test_the_classes_are_the_published():
    told = json.loads((GOLDEN / "viplanner_semantics.json").read_text())
    rows = [{"name": c.name, "loss": c.cost, "colour": [*c.colour], "ground": c.ground}
            for c in semantic_classes()]  # fmt: skip
    assert rows == told["classes"]
    assert coco_to_class(by_substring=True) == told["coco_to_class"]
    names = {one.name for one in semantic_classes()}
    assert coco_to_class()["cabinet-merged"] == "furniture"
    assert set(coco_to_class().values()) <= names


@pytest.mark.parametrize("policy", [iplanner_policy, viplanner_policy])
def test_settings_that_are_none_are_refused(policy):
    with pytest.raises(ValueError, match="fearful_frames: found 0"):
        policy(fearful_frames=0)
    with pytest.raises(ValueError, match="arrival_m: found 'near'"):
        policy(arrival_m="near")
    for name, value in {"farthest_goal_m": 0, "fear_threshold": 2, "segmenter": "coco"}.items():
        with pytest.raises(ValueError, match=f"{name}: found {value!r}, expected"):
            policy(**{name: value})
