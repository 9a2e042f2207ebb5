"""System2 and NavDP side by side in the simulator, with rules and with tiny models."""

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from internnav_hf import trajectory
from internnav_hf.evaluation.metrics import episode_metrics
from internnav_hf.evaluation.rollout import RolloutStore, evaluate_agent, resample
from internnav_hf.evaluation.vln.arguments import DRIVERS
from internnav_hf.evaluation.vln.decoupled_agent import DecoupledAgent, actions_of, closeup
from internnav_hf.geometry import Action, lift, project, robot_pose, robot_to_world
from internnav_hf.policies import (
    DDPPOStep,
    ImageGoal,
    NavDPPolicy,
    NavDPStep,
    PixelGoal,
    PlannerStep,
    PointGoal,
    System2Policy,
)
from internnav_hf.sim.episodes import PLANNING_CLEARANCE_WEIGHT
from internnav_hf.trajectory import follow
from tests.evaluation.fakes import LEFT, LOOK_DOWN, STOP, UNPARSABLE, ScriptedPolicy, point
from tests.tiny.cases import CASES
from tests.tiny.gnm import image_goal_policy
from tests.tiny.navdp import tiny_navdp_model
from tests.tiny.scene_set import CAMERA
from tests.tiny.system2 import tiny_processor, tiny_system2

AHEAD = np.stack([np.linspace(0, 1.2, 7), np.zeros(7)], axis=1)
NOWHERE = np.zeros((7, 2))


def step_of(path: np.ndarray, turn: int = 0) -> NavDPStep:
    trajectories = np.stack([path, path + 0.01, path + 0.02])
    return NavDPStep(path, trajectories, np.array([2.0, 1.0, 0.0]), turn)


class RuledNavDP:
    """`answer(goal)` is the step that is driven; keeps what it is shown and asked."""

    needs_depth, needs_semantics, remembers_views = True, False, True

    def __init__(self, answer, num_channels: int = 4, goal_kinds=("point", "pixel")):
        self.answer, self.goal_kinds = answer, goal_kinds
        config = {"num_pixel_goal_channels": num_channels}
        self.model = SimpleNamespace(config=SimpleNamespace(**config))
        self.batch_sizes: list[int] = []
        self.goals: list = []
        self.seen: list[dict] = []

    def start(self, name):
        return name

    def observe(self, episode, observation):
        self.seen.append(observation)

    def steps(self, episodes, observations, goals, observed=False):
        assert observed
        if episodes:
            self.batch_sizes.append(len(episodes))
        self.goals += goals
        return [self.answer(goal) for goal in goals]


def saying(*answers, goal=None) -> ScriptedPolicy:
    """A System2 that gives these answers one after the other, and always the same goal."""
    todo = iter(answers)
    return ScriptedPolicy(lambda *_: next(todo), lambda _: goal or point(32, 40))


def walk(system2, system1, scene_set, make_env, out, num_parallel=1, num_tasks=1, **settings):
    store = RolloutStore(out, success_distance=1.0)
    agent = DecoupledAgent(system2, system1, **settings)
    return evaluate_agent(agent, scene_set.tasks[:num_tasks], make_env, store, {}, num_parallel)


def test_system2_is_asked_again_after_so_many_actions(scene_set, make_env, tmp_path):
    system2, system1 = saying(LEFT, LOOK_DOWN, STOP), RuledNavDP(lambda _: step_of(AHEAD))
    (rollout,) = walk(
        system2, system1, scene_set, make_env, tmp_path, max_steps_per_goal=5, actions_per_path=2
    )
    assert rollout.actions.tolist() == [2, 1, 1, 1, 1, 1, 1, 0]  # three paths of two actions
    assert [decision.step for decision in rollout.decisions] == [0, 1, 7]
    assert [d.kind for d in rollout.decisions] == ["TURN", "PIXEL_GOAL", "STOP"]
    assert len(system1.seen) == 8  # every frame
    assert len(system1.goals) == 3
    assert system2.histories == [0, 1, 7]


def test_a_second_view_shows_where_the_pixel_was_marked(scene_set, make_env, tmp_path):
    envs = []

    def remember(name):
        envs.append(make_env(name))
        return envs[-1]

    system1 = RuledNavDP(lambda _: step_of(AHEAD), num_channels=7)
    walk(saying(LOOK_DOWN, STOP), system1, scene_set, remember, tmp_path, actions_per_path=4)
    first, second = system1.goals
    assert isinstance(first, PixelGoal)
    assert first.pixel == (32, 40)
    assert second.view is first.view
    assert second.pixel == first.pixel
    env = envs[0]
    env.reset(options={"episode": scene_set.tasks[0][1]})
    view = env.render_view(CAMERA.look_down_pitch_deg)
    np.testing.assert_array_equal(first.view, view.rgb)
    np.testing.assert_array_equal(system1.seen[0]["rgb"], view.rgb)
    np.testing.assert_array_equal(system1.seen[0]["depth"], view.depth)


def test_a_single_view_shows_the_place_where_it_is_now(scene_set, make_env, tmp_path):
    system1 = RuledNavDP(lambda _: step_of(AHEAD))
    (rollout,) = walk(saying(LOOK_DOWN, STOP), system1, scene_set, make_env, tmp_path)
    first, second = system1.goals
    assert first.pixel == (32, 40)
    assert second.view is None
    env = make_env(scene_set.tasks[0][0])
    env.reset(options={"episode": scene_set.tasks[0][1]})
    for action in rollout.actions[:4]:
        env.step(action)
    place = np.append(np.array(rollout.decisions[0].goal_position), 0.0)[None]
    T_world_camera = env.camera_pose(CAMERA.look_down_pitch_deg)
    (pixel,), _ = project(place, T_world_camera, CAMERA.intrinsics)
    np.testing.assert_allclose(second.pixel, pixel, atol=1e-3)
    assert abs(second.pixel[0] - 32) < 1  # it went straight towards it
    assert second.pixel[1] > 40


def test_a_point_stays_where_it_is_in_the_world(scene_set, make_env, tmp_path):
    system1, poses = RuledNavDP(lambda _: step_of(AHEAD)), []

    def noting(name):
        env = make_env(name)
        observe = env.step

        def step(action):
            poses.append(env.camera_pose(0.0))
            return observe(action)

        env.step = step
        return env

    (rollout,) = walk(
        saying(LOOK_DOWN, STOP),
        system1,
        scene_set,
        noting,
        tmp_path,
        system1_goal="point",
        actions_per_path=3,
        max_steps_per_goal=9,
    )
    assert len(system1.goals) == 3
    assert all(isinstance(goal, PointGoal) for goal in system1.goals)
    asked = [robot_pose(poses[index]) for index in (0, 3, 6)]
    places = [
        robot_to_world(np.array(goal.xy), pose)
        for goal, pose in zip(system1.goals, asked, strict=True)
    ]
    np.testing.assert_allclose(places, [places[0]] * 3, atol=1e-6)
    np.testing.assert_allclose(np.array(rollout.decisions[0].goal_position), places[0], atol=1e-6)
    env = make_env(scene_set.tasks[0][0])
    env.reset(options={"episode": scene_set.tasks[0][1]})
    depth = env.render_view(CAMERA.look_down_pitch_deg).depth[40, 32]
    T_world_camera = env.camera_pose(CAMERA.look_down_pitch_deg)
    shown = lift(np.array([[32.0, 40.0]]), np.array([depth]), T_world_camera, CAMERA.intrinsics)
    np.testing.assert_allclose(places[0], shown[0, :2], atol=1e-3)


def test_a_path_that_ends_asks_system2_and_a_new_one_turns(scene_set, make_env, tmp_path):
    paths = iter([AHEAD, NOWHERE, NOWHERE])
    system1 = RuledNavDP(lambda _: step_of(next(paths)))
    answers = saying(LOOK_DOWN, LOOK_DOWN, UNPARSABLE, STOP)
    (rollout,) = walk(answers, system1, scene_set, make_env, tmp_path, actions_per_path=2)
    assert rollout.actions.tolist() == [1, 1, 2, 2, 0]
    assert [decision.step for decision in rollout.decisions] == [0, 2, 3, 4]
    assert rollout.num_unparsable == 1


def test_a_pixel_that_shows_no_place_is_no_point(scene_set, tmp_path):
    level = replace(CAMERA, look_down_pitch_deg=0.0)

    def make_blind(name):
        env = scene_set.make_env(name, level, success_distance=1.0, max_steps=20)
        observe = env._observe
        env._observe = lambda: observe() | {"depth": np.zeros((48, 64), np.float32)}
        return env

    system1 = RuledNavDP(lambda _: step_of(AHEAD))
    system2 = saying(LOOK_DOWN, STOP, goal=point(32, 3))  # above the horizon
    (rollout,) = walk(system2, system1, scene_set, make_blind, tmp_path, system1_goal="point")
    assert rollout.actions.tolist() == [Action.TURN_LEFT, Action.STOP]
    assert not system1.goals


@pytest.mark.parametrize(("turn", "action"), [(1, Action.TURN_LEFT), (-1, Action.TURN_RIGHT)])
def test_where_no_path_is_trusted_the_robot_turns(scene_set, make_env, tmp_path, turn, action):
    system1 = RuledNavDP(lambda _: step_of(AHEAD, turn))
    (rollout,) = walk(
        saying(LOOK_DOWN, STOP), system1, scene_set, make_env, tmp_path, max_steps_per_goal=2
    )
    assert rollout.actions.tolist() == [action, action, Action.STOP]


def test_bundles_are_remembered_with_their_values(scene_set, make_env, tmp_path):
    system1 = RuledNavDP(lambda _: step_of(AHEAD))
    (rollout,) = walk(saying(LOOK_DOWN, STOP), system1, scene_set, make_env, tmp_path)
    decision = rollout.decisions[0]
    assert np.array(decision.trajectories).shape == (3, 7, 2)
    assert decision.values == [2.0, 1.0, 0.0]
    np.testing.assert_allclose(decision.trajectories[0][0], decision.position, atol=1e-3)
    assert rollout.decisions[1].trajectories is None


def test_all_environments_share_a_call(scene_set, make_env, tmp_path):
    system1 = RuledNavDP(lambda _: step_of(AHEAD))
    answers = saying(*[LOOK_DOWN] * 3, *[STOP] * 3)
    walk(answers, system1, scene_set, make_env, tmp_path, num_parallel=3, num_tasks=3)
    assert system1.batch_sizes == [3, 3]
    assert answers.batch_sizes == [3, 3]


def test_perfect_paths_arrive(scene_set, make_env, tmp_path):
    """The expert knows a way that keeps clear of walls; NavDP's place is taken by it."""
    envs = {}

    def remember(name):
        envs["now"] = make_env(name)
        return envs["now"]

    def way(_) -> NavDPStep:
        env = envs["now"]
        T_world_camera, goal = env.camera_pose(0), np.array(env.episode.goal_xy)
        field = env.space.distance_field(goal, clearance_weight=PLANNING_CLEARANCE_WEIGHT)
        path = resample(field.path_from(T_world_camera[:2, 3]), 0.1)[:9]
        ahead, left = T_world_camera[:2, 2], -T_world_camera[:2, 0]
        return step_of((path - path[0]) @ np.stack([ahead, left], axis=1))

    def answer(*_):
        env = envs["now"]
        near = np.hypot(*np.subtract(env.episode.goal_xy, env.camera_pose(0)[:2, 3])) < 0.6
        return STOP if near else LOOK_DOWN

    system2 = ScriptedPolicy(answer, lambda _: point(32, 40))
    rollouts = walk(system2, RuledNavDP(way), scene_set, remember, tmp_path, num_tasks=4)
    metrics = [episode_metrics(rollout, 1.0) for rollout in rollouts]
    assert [episode["sr"] for episode in metrics] == [1.0] * 4


FEW = {"nomad": {"num_samples": 1}}
SYSTEM1S = {
    "navdp": ("pixel", lambda: NavDPPolicy(tiny_navdp_model(), num_samples=4)),
    "navdp, point": ("point", lambda: NavDPPolicy(tiny_navdp_model(), num_samples=4)),
    "navdp, image": ("image", lambda: NavDPPolicy(tiny_navdp_model(), num_samples=4)),
    **{
        kind: (
            "point" if "depth" in CASES[kind].views else "closeup",
            partial(CASES[kind].policy, **FEW.get(kind, {})),
        )
        for kind in DRIVERS
        if kind != "navdp"
    },
}


@pytest.mark.parametrize("name", SYSTEM1S)
def test_tiny_models_walk_the_same_alone_and_beside_others(scene_set, make_env, tmp_path, name):
    """Every family that drives to goals, with the form of goal that it takes by default."""
    paths, (form, make), kind = [], SYSTEM1S[name], name.partition(",")[0]
    for num_parallel in (1, 2):
        system2 = tiny_pointing()
        system1, goals = make(), []
        steps = system1.steps

        def record(episodes, seen, asked, steps=steps, goals=goals, **how):
            goals.extend(asked)
            return steps(episodes, seen, asked, **how)

        system1.steps = record
        options = {"max_steps_per_goal": 3, "num_tasks": 2, "kind": kind}
        options["system1_goal"] = form if "," in name else None
        out = tmp_path / str(num_parallel)
        rollouts = walk(system2, system1, scene_set, short(make_env), out, num_parallel, **options)
        paths.append([rollout.actions.tolist() for rollout in rollouts])
        kinds = {"pixel": PixelGoal, "point": PointGoal}
        assert {type(goal) for goal in goals} == {kinds.get(form, ImageGoal)}
        assert {rollout.agent for rollout in rollouts} == {f"system2_{kind}"}
        assert all(d.trajectories for r in rollouts for d in r.decisions if d.goal_pixel)
    assert paths[0] == paths[1]


def tiny_pointing():
    model = tiny_system2(image_width=64, image_height=48)
    system2 = System2Policy(model, tiny_processor(camera=CAMERA.to_dict()))
    system2._generate = lambda session: ["↓"] * len(session.last_hidden)
    return system2


def test_an_image_goal_is_what_is_around_the_pixel_or_the_whole_view(scene_set, make_env, tmp_path):
    asked = {}
    for form in ("closeup", "image"):
        system1 = RuledNavDP(lambda _: step_of(AHEAD), goal_kinds=("image",))
        walk(saying(LOOK_DOWN, STOP), system1, scene_set, make_env, tmp_path / form,
             system1_goal=None if form == "closeup" else form)  # fmt: skip
        assert len(system1.goals) == 2
        asked[form] = system1.goals
    view = asked["image"][0].image
    np.testing.assert_array_equal(view, system1.seen[0]["rgb"])
    np.testing.assert_array_equal(asked["closeup"][0].image, view[24:, 16:48])
    np.testing.assert_array_equal(asked["closeup"][0].image, asked["closeup"][1].image)
    corner = closeup(view, (1.0, 2.0))
    np.testing.assert_array_equal(corner, view[:24, :32])


def test_a_system1_of_colours_alone_walks_without_depth(scene_set, make_env, tmp_path):
    seen = []
    system1 = image_goal_policy("gnm", stop_distance=-1e9)
    observe = system1.observe
    system1.observe = lambda episode, one: (seen.append(one), observe(episode, one))
    walk(saying(LOOK_DOWN, STOP), system1, scene_set, make_env, tmp_path, use_depth=False,
         kind="gnm")  # fmt: skip
    assert seen


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        (0, []),
        (1, [1]),
        (2, [2]),
        (3, [3]),
        ((0.9, 0.1), [1]),
        ((0.1, -0.8), [3]),
        ((0.2, 0.9), [2]),
    ],
)
def test_ddppo_takes_its_own_action(action, expected):
    path = np.zeros((20, 2)) if action == 0 else AHEAD
    assert actions_of(DDPPOStep(path=path, action=action), 4) == expected


def test_close_points_do_not_shorten_the_pursuit():
    """A path of many points, as of planners and image-goal models, turns as early as NavDP's."""
    bent = np.stack([np.linspace(0, 1.2, 13), np.linspace(0, 0.6, 13) ** 2 * 2], axis=1)
    dense = resample_to(bent, 0.01)
    step = PlannerStep(path=dense, fear=0.1)
    assert actions_of(step, 9) == [int(a) for a in follow(resample_to(bent, trajectory.SPACING_M))]
    assert actions_of(PlannerStep(path=np.zeros((51, 2)), fear=0.1), 4) == []


def resample_to(path, spacing):
    length = float(np.linalg.norm(np.diff(path, axis=0), axis=1).sum())
    return trajectory.resample(path, spacing, int(length / spacing) + 2)


def short(make_env):
    def make(name):
        env = make_env(name)
        env.max_steps = 6
        return env

    return make


def test_what_does_not_go_together_is_refused():
    system1 = NavDPPolicy(tiny_navdp_model(goal_kinds=("point", "none")))
    with pytest.raises(
        ValueError, match=r"system1_goal: found 'pixel', .* navdp was trained for point, none"
    ):
        DecoupledAgent(saying(), system1, system1_goal="pixel")
    with pytest.raises(ValueError, match="system1_goal: found 'voice', expected one of pixel, po"):
        DecoupledAgent(saying(), system1, system1_goal="voice")
    with pytest.raises(ValueError, match="use_depth: found False, but the navdp of --system1"):
        DecoupledAgent(saying(), system1, system1_goal="point", use_depth=False)
    explorer = NavDPPolicy(tiny_navdp_model(goal_kinds=("none",)))
    with pytest.raises(ValueError, match="system1_goal: found None, .* trained for none"):
        DecoupledAgent(saying(), explorer)
