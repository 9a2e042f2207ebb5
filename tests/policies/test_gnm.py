"""GNM, ViNT and NoMaD as policies: paths in metres, arrival, maps, exploration, many robots."""

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from internnav_hf.policies import GNMPolicy, ImageGoal, MapGoal, NoGoal, NoMaDPolicy, PointGoal
from internnav_hf.policies.gnm import smoothed
from tests.golden import GOLDEN
from tests.tiny.gnm import image_goal_policy, tiny_image_goal

SIZE = (48, 64)


def view(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), np.uint8)


def seen(seed: int) -> dict[str, np.ndarray]:
    return {"rgb": view(seed)}


def test_the_published_paths():
    given = load_file(GOLDEN / "navdp_gnm_postprocess.safetensors")
    scaled = given["waypoints"][..., :3] * [0.8 / 3, 0.8 / 3, 1]
    paths = smoothed(scaled) * (given["distances"] > 7)[..., None]
    np.testing.assert_allclose(paths, given["trajectory"], atol=1e-5)
    policy = image_goal_policy("gnm", as_benchmarked=True, step_m=9.0)
    answers = torch.from_numpy(given["waypoints"]), torch.from_numpy(given["distances"])[:, 0]
    policy.model.predict = lambda *_: answers
    goals = [ImageGoal(view(1))] * 2
    steps = policy.steps([policy.start(), policy.start()], [seen(0), seen(0)], goals)
    paths = np.stack([step.path for step in steps])
    np.testing.assert_allclose(paths, given["trajectory"][..., :2], atol=1e-5)
    assert sum(step.is_stop for step in steps) == 1


@pytest.mark.parametrize("name", ["gnm", "vint", "nomad"])
def test_a_path_goes_to_the_waypoints_in_metres(name):
    policy = image_goal_policy(name, step_m=0.5, stop_distance=-1e9)
    goal = ImageGoal(view(9))
    step = policy.act(seen(0), goal)
    horizon = policy.model.config.action_horizon
    assert step.path.shape == (10 * horizon + 1, 2)
    assert step.path[0].tolist() == [0, 0]
    assert not step.is_stop
    double = image_goal_policy(name, step_m=1.0, stop_distance=-1e9).act(seen(0), goal)
    np.testing.assert_allclose(double.path, 2 * step.path, atol=1e-6)


def test_as_benchmarked_views_are_not_cropped():
    wide = np.zeros((48, 128, 3), np.uint8)
    wide[:, :20] = 255  # outside of the crop
    for told, brightest in (({}, 0), ({"as_benchmarked": True}, 255)):
        policy = image_goal_policy("gnm", **told)
        policy.act({"rgb": wide}, ImageGoal(wide))
        assert int(policy.episode.frames[-1].max()) == brightest


def test_as_benchmarked_gnm_and_vint_explore_towards_noise():
    for name in ("gnm", "vint"):
        policy, asked = image_goal_policy(name, as_benchmarked=True), []
        measure = policy._measure

        def record(rgb, robots, images, shown, measure=measure, asked=asked):
            asked.append(images)
            return measure(rgb, robots, images, shown)

        policy._measure = record
        for _ in range(2):
            step = policy.steps([policy.start("a")], [seen(0)], [NoGoal()])[0]
            assert np.isfinite(step.distance)
        assert torch.equal(asked[0], asked[1])  # of the episode
        assert 40 < float(asked[0].float().std()) < 70
        policy.act(seen(0), ImageGoal(view(1)))


def test_the_step_is_that_of_the_training():
    for spacing, step in ((0.3, 0.3), ({"a": 0.2, "b": 0.4}, 0.3), (None, 0.8 / 3)):
        model = tiny_image_goal("gnm", waypoint_spacing_m=spacing)
        assert GNMPolicy(model).step_m == pytest.approx(step)


def test_a_goal_that_is_near_is_reached():
    near = image_goal_policy("vint", stop_distance=1e9).act(seen(0), ImageGoal(view(1)))
    assert near.is_stop
    assert near.path.shape == (51, 2)


def test_robots_answer_alike_alone_and_together():
    goals = [ImageGoal(view(7)), NoGoal(), MapGoal([view(8), view(9), view(10)])]
    together, alone = (image_goal_policy("nomad", num_samples=3) for _ in range(2))
    episodes = [together.start(name) for name in "abc"]
    others = [alone.start(name) for name in "abc"]
    for index in range(2):
        observations = [seen(3 * index + robot) for robot in range(3)]
        found = together.steps(episodes, observations, goals)
        for robot, step in enumerate(found):
            given = ([others[robot]], [observations[robot]], [goals[robot]])
            (expected,) = alone.steps(*given)
            np.testing.assert_allclose(step.path, expected.path, atol=1e-5)
            assert step.node == expected.node
            assert step.trajectories is None or step.trajectories.shape == (3, 81, 2)
    assert [step.node is None for step in found] == [True, True, False]
    assert np.isinf(found[1].distance)


class Distances(torch.nn.Module):
    """A model whose distance to an image is the difference of its shade from the view's."""

    def __init__(self, model):
        super().__init__()
        self.config, self.device = model.config, torch.device("cpu")

    def read(self, rgb):
        return rgb

    def predict(self, rgb, goal_image, memory=None):
        distance = (goal_image.float().mean((1, 2, 3)) - rgb[:, -1].float().mean((1, 2, 3))).abs()
        waypoints = torch.zeros(len(rgb), 5, 4)
        waypoints[..., 0] = goal_image.float().mean((1, 2, 3))[:, None]
        return waypoints, distance


def shade(value: float) -> np.ndarray:
    return np.full((*SIZE, 3), value, np.uint8)


def test_a_map_is_driven_node_by_node():
    policy = GNMPolicy(tiny_image_goal("gnm"), step_m=1.0)
    policy.model = Distances(policy.model)
    nodes = [shade(10 * node) for node in range(12)]
    goal = MapGoal(nodes)
    for at, expected, towards in (
        (0, 0, 10),  # at the first node: to the next
        (12, 1, 20),
        (25, 2, 20),  # between two: to the nearest, and not yet to the next
        (110, 7, 70),  # no jump beyond the window: the fifth ahead is the nearest seen
        (110, 11, 110),
    ):
        step = policy.act({"rgb": shade(at)}, goal)
        assert step.node == expected, at
        if at == 110 and expected == 11:
            assert step.is_stop
        else:
            assert step.path[10, 0] == pytest.approx(towards), at
    again = policy.act({"rgb": shade(0)}, MapGoal(list(nodes)))
    assert again.node == 0  # another map starts anew


@pytest.mark.parametrize(("leaves", "farthest"), [(True, 7), (False, 6)])
def test_a_node_that_is_passed_moves_the_window(leaves, farthest, monkeypatch):
    policy = GNMPolicy(tiny_image_goal("gnm"), step_m=1.0)
    monkeypatch.setattr(GNMPolicy, "leaves_nodes", leaves)
    policy.model = Distances(policy.model)
    goal = MapGoal([shade(10 * node) for node in range(12)])
    assert policy.act({"rgb": shade(10)}, goal).node == 1
    assert policy.act({"rgb": shade(110)}, goal).node == farthest
    assert (GNMPolicy.leaves_nodes, NoMaDPolicy.leaves_nodes) == (leaves, False)


def test_the_first_view_fills_the_memory():
    policy = image_goal_policy("gnm", memory_stride=2)
    policy.act(seen(0), ImageGoal(view(1)))
    memory = policy._memory([policy.episode])
    assert memory.shape[:2] == (1, 3)
    assert torch.equal(memory[0, 0], memory[0, 2])
    policy.observe(policy.episode, seen(1))
    policy.act(seen(2), ImageGoal(view(1)))
    memory = policy._memory([policy.episode])
    assert torch.equal(memory[0, 0], memory[0, 1])
    assert not torch.equal(memory[0, 1], memory[0, 2])


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: image_goal_policy("gnm", step_m=0), "step_m: found 0, expected metres"),
        (lambda: image_goal_policy("gnm", window=0), "window: found 0"),
        (lambda: image_goal_policy("gnm", stop_distance=None), "stop_distance.*found None"),
        (lambda: image_goal_policy("nomad", num_samples=0), "num_samples: found 0"),
        (lambda: NoMaDPolicy(tiny_image_goal("gnm")), "NoMaDPolicy: model: found 'internnav_gnm'"),
    ],
)
def test_a_setting_that_cannot_be_is_one_error(make, told):
    with pytest.raises(ValueError, match=told):
        make()


@pytest.mark.parametrize(
    ("goal", "told"),
    [
        (PointGoal((1.0, 2.0)), "goal: found 'point', expected one of .'image', 'map'"),
        (NoGoal(), "goal: found 'none'"),
        (MapGoal([view(0)]), "images: found 1, expected two or more views"),
        (MapGoal("map"), "images: found str"),
        (MapGoal([view(0), view(1) / 255]), r"images\[1\]: found float64"),
        (ImageGoal(None), "image: found None"),
    ],
)
def test_a_goal_that_it_cannot_reach_is_one_error(goal, told):
    with pytest.raises(ValueError, match=told):
        image_goal_policy("vint").act(seen(0), goal)


def test_a_hidden_goal_changes_the_path_and_not_the_distance():
    far = {"stop_distance": -1e9}
    shown, hidden, served = (
        image_goal_policy("nomad", **told, **far)
        for told in ({}, {"hides_goal": True}, {"as_benchmarked": True})
    )
    goals = [ImageGoal(view(seed)) for seed in (1, 2)]
    found = [
        [each.steps([each.start()], [seen(0)], [goal])[0] for goal in goals]
        for each in (shown, hidden)
    ]
    assert [step.distance for step in found[0]] == [step.distance for step in found[1]]
    assert not np.allclose(found[0][0].path, found[0][1].path)
    np.testing.assert_allclose(found[1][0].path, found[1][1].path, atol=1e-6)
    assert served.hides_goal
    assert (served.step_m, served.stop_distance) == (0.8 / 3, 7)
