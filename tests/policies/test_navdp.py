from copy import deepcopy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from internnav_hf.camera import CameraSpec
from internnav_hf.data.tasks.navdp import NavDPDataset
from internnav_hf.models.navdp.letterbox import goal_mask, letterbox, letterbox_depth
from internnav_hf.policies import ImageGoal, NoGoal, PixelGoal, PointGoal, PointImageGoal, navdp
from internnav_hf.policies.navdp import NavDPEpisode, NavDPPolicy
from tests.data.vln_n1 import frame_image, walk, write_unit
from tests.tiny.navdp import tiny_navdp_model
from tests.tiny.navdp_golden import (
    INTERNNAV,
    REPOSITORY,
    golden,
    released_model,
    repository_goals,
    repository_noise,
    views,
)

SIZE, MEMORY = 28, 8
LOOP = {"atol": 5e-5, "rtol": 0}
GOALS = (
    PointGoal((2.0, -1.0)),
    ImageGoal(np.full((21, 28, 3), 90, np.uint8)),
    PixelGoal((20.0, 12.0)),
    NoGoal(),
    PointImageGoal((2.0, -1.0), np.full((21, 28, 3), 90, np.uint8)),
)


@pytest.fixture(scope="module")
def model():
    return tiny_navdp_model()


def view(seed: int) -> dict:
    """An observation of 28x21 pixels."""
    rng = np.random.default_rng(seed)
    return {
        "rgb": rng.integers(1, 256, (21, 28, 3), np.uint8),
        "depth": rng.uniform(0, 6, (21, 28)),
    }


def spied(policy: NavDPPolicy, monkeypatch) -> list[dict]:
    """Arguments of each later `sample` of the policy's model."""
    calls, sample = [], policy.model.sample

    def noted(goal, **arguments):
        calls.append({"goal": goal, **arguments})
        return sample(goal, **arguments)

    monkeypatch.setattr(policy.model, "sample", noted)
    return calls


def assert_same(found, expected):
    assert_close(found.path, expected.path, atol=1e-5, rtol=0)
    assert_close(found.trajectories, expected.trajectories, atol=1e-5, rtol=0)
    assert_close(found.values, expected.values, atol=1e-5, rtol=0)


def test_what_is_driven_is_the_best_of_the_samples(model):
    step = NavDPPolicy(model, num_samples=5).act(view(0), NoGoal())
    assert step.trajectories.shape == (5, 7, 2)
    assert not step.trajectories[:, 0].any()
    assert (np.diff(step.values) <= 0).all()
    assert np.array_equal(step.path, step.trajectories[0])


def test_a_batch_of_all_goals_is_as_one_after_the_other(model):
    policy = NavDPPolicy(model, num_samples=3, shortest_path_m=0.0)
    alone = []
    for index, goal in enumerate(GOALS):
        episode = policy.start(f"{index}")
        policy.observe(episode, view(10 + index))
        alone.append(policy.steps([episode], [view(index)], [goal])[0])
    episodes = [policy.start(f"{index}") for index in range(len(GOALS))]
    for index, episode in enumerate(episodes):
        policy.observe(episode, view(10 + index))
    together = policy.steps(episodes, [view(index) for index in range(len(GOALS))], GOALS)
    for found, expected in zip(together, alone, strict=True):
        assert_same(found, expected)


def test_what_was_observed_is_not_seen_twice(model):
    policy = NavDPPolicy(model, num_samples=2, shortest_path_m=0.0)
    expected = policy.act(view(0), NoGoal())
    policy.reset()
    policy.observe(policy.episode, view(0))
    again = ([policy.episode], [view(0)], [NoGoal()])
    assert_same(policy.steps(*again, observed=True)[0], expected)
    policy.steps(*again, observed=True)  # all is encoded already
    assert len(policy.episode.frames) == 1


def test_names_and_seeds_tell_episodes_apart(model):
    def path(name: str, seed: int = 0) -> np.ndarray:
        policy = NavDPPolicy(model, num_samples=2, seed=seed)
        return policy.steps([policy.start(name)], [view(0)], [NoGoal()])[0].trajectories

    assert np.array_equal(path("a"), path("a"))
    assert not np.array_equal(path("a"), path("b"))
    assert not np.array_equal(path("a"), path("a", seed=1))


@pytest.mark.parametrize("stride", [1, 3])
def test_the_memory_are_the_last_frames_and_only_new_ones_are_encoded(model, monkeypatch, stride):
    policy = NavDPPolicy(model, num_samples=2, memory_stride=stride, shortest_path_m=0.0)
    calls, encoded = spied(policy, monkeypatch), []
    encode_rgb = model.encode_rgb
    monkeypatch.setattr(
        model, "encode_rgb", lambda rgb: encoded.append(len(rgb)) or encode_rgb(rgb)
    )
    for index in range(25):
        if index % 2:
            policy.observe(policy.episode, view(index))
        else:
            policy.act(view(index), NoGoal())
    seen = [24 - stride * age for age in reversed(range(MEMORY))]
    rgb = [letterbox(view(index)["rgb"], SIZE) if index >= 0 else None for index in seen]
    rgb = torch.stack([torch.zeros(3, SIZE, SIZE).byte() if r is None else r for r in rgb])
    assert_close(calls[-1]["rgb_tokens"][0], encode_rgb(rgb), atol=1e-5, rtol=0)
    assert_close(calls[-1]["depth"][0], letterbox_depth(view(24)["depth"], SIZE))
    assert max(encoded) <= 1 + MEMORY
    if stride == 1:
        assert encoded[:2] == [2, 2]  # with the black frame; then one observed, one planned from
        assert sum(encoded) == 25 + 1


def test_goals_reach_the_model_with_the_views_that_they_belong_to(model, monkeypatch):
    policy = NavDPPolicy(model, num_samples=1)
    calls = spied(policy, monkeypatch)
    picture = view(1)["rgb"]
    current, other = letterbox(view(0)["rgb"], SIZE), letterbox(picture, SIZE)
    mask = goal_mask((14.0, 11.0), (21, 28), SIZE)[None]
    for goal in (
        PointGoal((12.0, -11.0)),
        ImageGoal(Image.fromarray(picture)),
        PixelGoal((14.0, 11.0)),
        PixelGoal((14.0, 11.0), view=Image.fromarray(picture)),
        PointImageGoal((-3.0, 2.0), picture),
        NoGoal(),
    ):
        policy.act(view(0), goal)
    asked = [call["goal"][0] for call in calls]
    assert asked[0]["point"].tolist() == [10, -10, 0]
    assert torch.equal(asked[1]["image"], torch.cat([other, current]))
    assert torch.equal(asked[2]["pixel"], torch.cat([current, mask]))
    assert torch.equal(asked[3]["pixel"], torch.cat([other, mask]))
    assert asked[4]["point"].tolist() == [0, 2, 0]
    assert torch.equal(asked[4]["image"], torch.cat([other, current]))
    assert asked[5] == {}


def test_models_that_were_fed_bgr_and_seven_channels_get_them(monkeypatch):
    policy = NavDPPolicy(tiny_navdp_model(channel_order="bgr", num_pixel_goal_channels=7))
    calls = spied(policy, monkeypatch)
    policy.act(view(0), PixelGoal((14.0, 11.0), view=view(1)["rgb"]))
    current, other = (letterbox(view(index)["rgb"][..., ::-1].copy(), SIZE) for index in (0, 1))
    expected = torch.cat([other, goal_mask((14.0, 11.0), (21, 28), SIZE)[None], current])
    assert torch.equal(calls[0]["goal"][0]["pixel"], expected)
    newest = policy.model.encode_rgb(current[None])[0]
    assert_close(calls[0]["rgb_tokens"][0, -1], newest, atol=1e-5, rtol=0)


def test_the_model_is_shown_at_inference_what_it_was_trained_on(model, monkeypatch, tmp_path):
    size = (240, 135)
    write_unit(tmp_path / "data" / "group" / "scene", [walk(60)], size=size, lossless=True)
    dataset = NavDPDataset(tmp_path / "data", image_size=SIZE, cache_dir=tmp_path / "cache")
    policy = NavDPPolicy(model, num_samples=1)
    calls, num_squares = spied(policy, monkeypatch), 0
    for index in range(12):
        item, met = dataset[index], dataset.decision(index)
        policy.reset()
        for frame in met["memory"][:-1]:
            if frame is not None:
                policy.observe(policy.episode, {"rgb": np.asarray(frame_image(frame, size))})
        for goal in (ImageGoal(met["goal_view"]), PixelGoal(met["goal_pixel"])):
            policy.steps([deepcopy(policy.episode)], [met], [goal])
        image, pixel = calls[-2:]
        assert_close(pixel["rgb_tokens"][0], model.encode_rgb(item["rgb"]), atol=1e-5, rtol=0)
        assert torch.equal(pixel["depth"][0], item["depth"])
        assert torch.equal(image["goal"][0]["image"], item["goal_image"])
        view, mask = pixel["goal"][0]["pixel"].split([3, 1])
        trained_view, trained_mask = item["goal_pixel_map"].split([3, 1])
        assert torch.equal(view, trained_view)
        # A square where training has a rectangle of nearly its size.
        middles = [m.nonzero().float().mean(0) for m in (mask > 127, trained_mask > 127)]
        assert (middles[0] - middles[1]).abs().max() < 1.5
        num_squares += bool(mask.float().mean() < 0.02 * 255)
    assert 0 < num_squares < 12


def fixed(monkeypatch, ends: list[tuple[float, float]], values: list[float], **settings):
    """A policy whose model always draws straight ways to `ends`."""
    policy = NavDPPolicy(tiny_navdp_model(), **settings)
    ways = torch.tensor(ends)[:, None] * torch.linspace(0, 1, 7)[1:, None]
    drawn = SimpleNamespace(trajectories=ways[None], values=torch.tensor([values]))
    monkeypatch.setattr(policy.model, "sample", lambda *_, **__: drawn)
    return policy


def test_a_way_that_ends_near_by_stays(monkeypatch):
    policy = fixed(monkeypatch, [(0.3, 0.3), (0.4, 0.4)], [2.0, 1.0])
    step = policy.act(view(0), PointGoal((0.3, 0.3)))
    assert step.is_stop
    assert_close(step.trajectories[1, -1], np.array([0.4, 0.4], np.float32))
    everything = fixed(monkeypatch, [(0.3, 0.3)], [2.0], shortest_path_m=0.0)
    assert not everything.act(view(0), PointGoal((0.3, 0.3))).is_stop


def test_exploring_prefers_to_go_somewhere(monkeypatch):
    policy = fixed(monkeypatch, [(0.6, 0.6), (3.0, 0.0)], [2.0, 1.0])
    step = policy.act(view(0), NoGoal())
    assert step.values.tolist() == [1.0, -8.0]
    assert_close(step.path[-1], np.array([3.0, 0.0], np.float32))
    assert policy.act(view(0), ImageGoal(view(1)["rgb"])).values.tolist() == [2.0, 1.0]


def test_what_the_depth_shows_can_outweigh_the_critic(monkeypatch):
    camera = CameraSpec(width=28, height=21, height_m=0.5)
    through_the_wall, beside = (2.0, 0.0), (0.6, 0.0)
    rules = {"camera": camera, "seen_clearance": 0.2}
    seen = view(0) | {"depth": np.full((21, 28), 1.0)}
    policy = fixed(monkeypatch, [through_the_wall, beside], [2.0, 1.0])
    assert policy.act(seen, PointGoal((2.0, 0.0))).values.tolist() == [2.0, 1.0]
    policy = fixed(monkeypatch, [through_the_wall, beside], [2.0, 1.0], **rules)
    step = policy.act(seen, PointGoal((2.0, 0.0)))
    assert step.values[0] == 1.0
    assert step.values[1] < 0
    assert_close(step.path[-1], np.array(beside, np.float32))


def test_without_a_camera_depth_says_nothing(model):
    with pytest.raises(ValueError, match="seen_clearance needs camera"):
        NavDPPolicy(model, seen_clearance=0.2)


@pytest.mark.parametrize(("side", "turn"), [(-1.0, -1), (1.0, 1)])
def test_a_robot_that_trusts_no_way_turns(monkeypatch, side, turn):
    ends = [(2.0, side), (2.0, side / 2), (2.0, -9 * side)]
    policy = fixed(monkeypatch, ends, [-3.0, -4.0, -5.0], stop_threshold=-2.0)
    step = policy.act(view(0), PointGoal((2.0, 0.0)))
    assert step.turn == turn
    assert step.path.tolist() == [[0, 0]] + [[0, turn]] * 6
    assert not step.is_stop
    policy.stop_threshold = -3.0
    assert policy.act(view(0), PointGoal((2.0, 0.0))).turn == 0


def test_a_saved_model_becomes_a_policy(model, tmp_path):
    camera = CameraSpec(width=28, height=21)
    model.config.camera = camera.to_dict()
    model.save_pretrained(tmp_path)
    model.config.camera = None
    policy = NavDPPolicy.from_pretrained(tmp_path, num_samples=2, seed=3)
    assert policy.camera == camera
    expected = NavDPPolicy(model, num_samples=2, seed=3)
    assert expected.camera is None
    assert_same(policy.act(view(0), GOALS[0]), expected.act(view(0), GOALS[0]))


def test_what_cannot_be_done_is_said(model):
    policy = NavDPPolicy(model)
    with pytest.raises(ValueError, match="observation: found no 'depth'"):
        policy.act({"rgb": view(0)["rgb"]}, NoGoal())
    millimetres = {**view(0), "depth": 1000 * view(0)["depth"]}
    with pytest.raises(ValueError, match=r"depth: found a median of \d{4}, expected metres"):
        policy.act(millimetres, NoGoal())
    other_view = {**view(0), "depth": view(0)["depth"][:, :14]}
    with pytest.raises(ValueError, match=r"depth: found \(21, 14\), expected the shape of 'rgb'"):
        policy.act(other_view, NoGoal())
    for no_goal in ((2.0, 0.5), None, "point", NoGoal):
        with pytest.raises(ValueError, match="goal: found .*, expected a PointGoal"):
            policy.act(view(0), no_goal)
    with pytest.raises(ValueError, match="1 episodes, 1 observations and 0 goals"):
        policy.steps([policy.start()], [view(0)], [])
    assert policy.steps([], [], []) == []
    for goal in (PointGoal((np.nan, 0.0)), PixelGoal((3.0, np.inf))):
        with pytest.raises(ValueError, match=r"goal: found \(.*\), expected two finite numbers"):
            policy.act(view(0), goal)
    with pytest.raises(ValueError, match="memory_stride: found 0"):
        NavDPPolicy(model, memory_stride=0)
    with pytest.raises(ValueError, match=r"goal: found 'image', expected one of \('point',"):
        NavDPPolicy(tiny_navdp_model(goal_kinds=("point",))).act(view(0), GOALS[1])


@pytest.fixture(scope="module")
def repository() -> tuple[NavDPPolicy, list[NavDPEpisode]]:
    """Of the published size, 133 million, and two robots that have seen the golden's frames."""
    policy = NavDPPolicy(released_model(REPOSITORY), num_samples=4)
    episodes = [policy.start(), policy.start()]
    frames = views(golden(INTERNNAV))["rgb"].movedim(2, -1).numpy()
    for episode, seen in zip(episodes, frames, strict=True):
        for frame in seen:
            policy.observe(episode, {"rgb": frame[..., ::-1]})  # a camera's RGB; the model's is BGR
    return policy, episodes


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["point", "image", "pixel", "none", "point_image"])
def test_the_repository_says_the_same(repository, monkeypatch, kind):
    """Also before its rules, which set short paths to zero and lower their values by 10."""
    (policy, episodes), given = repository, golden(REPOSITORY)
    # Goals and noise are the golden's; its depth has pixels nearer than preprocessing leaves them.
    goals, sample, sampled = repository_goals()[kind], policy.model.sample, []

    def noised(_, **inputs):
        sampled.append(sample(goals, **(inputs | repository_noise())))
        return sampled[0]

    monkeypatch.setattr(policy.model, "sample", noised)
    monkeypatch.setattr(navdp, "letterbox_depth", lambda depth, size: torch.from_numpy(depth))
    depth = views(golden(INTERNNAV))["depth"].numpy()
    observations = [{"depth": seen} for seen in depth]
    told = [NoGoal() if kind == "none" else PointGoal((1.0, 0.0))] * 2
    steps = policy.steps(episodes, observations, told, observed=True)
    values, order = given[f"{kind}_values"].sort(dim=1, descending=True)
    paths = given[f"{kind}_all_traj"].take_along_dim(order[..., None, None], dim=1)
    is_moving = (paths[..., :2] != 0).any(-1).any(-1)[..., None, None]
    found = sampled[0].trajectories * torch.tensor([1.0, 1.0, 0.0])
    heading = sampled[0].trajectories - found
    assert_close(sampled[0].values, values + 10 * (values < -5), **LOOP)
    assert_close(found * is_moving + heading, paths, **LOOP)
    for row, step in enumerate(steps):
        assert_close(torch.from_numpy(step.values), values[row], **LOOP)
        assert_close(torch.from_numpy(step.trajectories[:, 1:]), paths[row, ..., :2], **LOOP)
        assert_close(
            torch.from_numpy(step.path[1:]), given[f"{kind}_positive"][row, 0, :, :2], **LOOP
        )


@pytest.mark.parametrize(("xy", "turn"), [((-3.0, 0.1), 1), ((-3.0, -0.1), -1), ((-0.2, 0.0), 0)])
def test_a_robot_turns_to_what_is_behind_it(model, xy, turn):
    """The model's goal is never behind: what it answers to it would count as having arrived."""
    policy = NavDPPolicy(model)
    still = np.zeros((2, model.config.action_horizon, 2), np.float32)
    step = policy._step(PointGoal(xy), still, np.array([0.2, 0.1]))
    assert (step.turn, step.is_stop) == (turn, turn == 0)
