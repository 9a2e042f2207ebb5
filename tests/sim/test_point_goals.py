import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from internnav_hf.camera import CameraSpec
from internnav_hf.geometry import Action, camera_pose
from internnav_hf.models.ddppo.config import DDPPOConfig
from internnav_hf.models.ddppo.views import scaled_depth, sized_rgb
from internnav_hf.sim.navigation import NavigableSpace
from internnav_hf.sim.point_goals import Place, Places, PointGoalEnv, PointGoalRules, PointGoalTask
from internnav_hf.sim.render import Renderer
from internnav_hf.sim.scenes import SceneConfig
from tests.sim.boxes import hall

CAMERA = CameraSpec(width=16, height=12)


@pytest.fixture(scope="module")
def place():
    """A hall with a wall across its middle, which leaves a gap at y > 4.5."""
    scene = hall(((3.0, 2.25, 1.0), (0.2, 4.5, 2.0)))
    return Place(scene, NavigableSpace(scene), Renderer(scene))


class Hall(Places):
    """One place for all scenes."""

    def __init__(self, place):
        self.place = lambda scene: place
        self.metres = self._metres


def environment(place, seed=0, depth_range_m=(0.0, 10.0), view_size=None, **rules):
    task = PointGoalTask(
        (0,), CAMERA, depth_range_m, rules=PointGoalRules(**rules), view_size=view_size
    )
    return PointGoalEnv(task, Hall(place), seed)


def put(env, pose, goal):
    """Start an episode there."""
    env.reset()
    seen = env.restore(env.state() | {"pose": pose, "goal": goal, "num_steps": 0, "return": 0.0})
    env.restore(env.state() | {"shortest": env._info()["geodesic_distance"], "walked": 0.0})
    return seen


def test_gymnasium_accepts_the_environment(place):
    check_env(environment(place), skip_render_check=True)


def test_a_step_earns_the_metres_that_the_way_got_shorter(place):
    env = environment(place)
    seen = put(env, [1.0, 1.0, 0.0], [1.0, 3.0])
    np.testing.assert_allclose(seen["pointgoal"], [2, np.pi / 2], atol=1e-6)  # to the left
    seen, reward, *_ = env.step(Action.TURN_LEFT)
    assert reward == pytest.approx(-0.01)
    np.testing.assert_allclose(seen["pointgoal"], [2, np.radians(80)], atol=1e-6)
    for _ in range(8):
        env.step(Action.TURN_LEFT)
    seen, reward, *_ = env.step(Action.FORWARD)
    assert reward == pytest.approx(0.25 - 0.01)
    np.testing.assert_allclose(seen["pointgoal"], [1.75, 0], atol=1e-6)
    seen, reward, *_ = env.step(Action.TURN_RIGHT)
    np.testing.assert_allclose(seen["pointgoal"], [1.75, np.radians(10)], atol=1e-6)


def test_the_way_goes_around_walls(place):
    env = environment(place)
    put(env, [2.5, 2.0, np.pi / 2], [3.5, 2.0])
    around = env.step(Action.TURN_LEFT)[4]["geodesic_distance"]
    assert 5 < around < 8
    env = environment(place)
    put(env, [2.5, 2.0, np.pi / 2], [3.5, 2.0])
    reward = env.step(Action.FORWARD)[1]  # away from the goal, as the crow flies
    assert reward == pytest.approx(0.25 - 0.01, abs=0.06)


def test_success_is_a_stop_near_the_goal(place):
    env = environment(place)
    put(env, [1.0, 1.0, 0.0], [1.5, 1.0])
    env.step(Action.FORWARD)
    _, reward, terminated, truncated, info = env.step(Action.STOP)
    assert (terminated, truncated, info["success"], info["spl"]) == (True, False, 0, 0)
    assert reward == pytest.approx(-0.01)
    put(env, [1.0, 1.0, 0.0], [1.5, 1.0])
    for action in (Action.FORWARD, Action.FORWARD, Action.FORWARD, Action.STOP):
        _, reward, terminated, _, info = env.step(action)
    assert (reward, terminated, info["success"]) == (
        pytest.approx(-0.01),
        True,
        0,
    )  # 0.25 m past it
    put(env, [1.0, 1.0, 0.0], [1.6, 1.0])
    for action in (Action.FORWARD, Action.FORWARD, Action.STOP):
        _, reward, terminated, _, info = env.step(action)
    assert reward == pytest.approx(2.5 - 0.01)
    assert (info["success"], info["spl"]) == (1, 1)
    assert info["episode_return"] == pytest.approx(2.5 + 0.5 - 0.03)
    assert info["episode_steps"] == 3


def test_a_start_at_the_goal_is_a_success(place):
    env = environment(place)
    put(env, [1.0, 1.0, 0.0], [1.0, 1.0])
    *_, info = env.step(Action.STOP)
    assert (info["success"], info["spl"]) == (1, 1)


def test_detours_lower_spl(place):
    env = environment(place)
    put(env, [1.0, 1.0, np.pi], [1.1, 1.0])
    for action in (Action.FORWARD, *[Action.TURN_LEFT] * 18, Action.FORWARD, Action.STOP):
        *_, info = env.step(action)
    assert info["spl"] == pytest.approx(0.1 / 0.5)


@pytest.mark.parametrize("slides", [True, False])
def test_sliding(place, slides):
    env = environment(place, allow_sliding=slides)
    put(env, [2.7, 2.0, np.radians(45)], [1.0, 1.0])
    y = env.state()["pose"][1]
    env.step(Action.FORWARD)
    moved = env.state()["pose"][1] - y
    assert moved > 0.1 if slides else moved < 0.1


def test_an_episode_ends_after_its_steps(place):
    env = environment(place, max_steps=3)
    env.reset()
    ends = [env.step(Action.TURN_LEFT)[2:4] for _ in range(3)]
    assert ends == [(False, False), (False, False), (False, True)]


def test_depth_is_scaled(place):
    whole = put(environment(place), [1.0, 1.0, 0.0], [1.0, 3.0])["depth"]
    part = put(environment(place, depth_range_m=(1.0, 3.0)), [1.0, 1.0, 0.0], [1.0, 3.0])["depth"]
    assert whole.shape == (12, 16, 1)
    assert whole[6, 8, 0] == pytest.approx(0.19, abs=0.01)
    np.testing.assert_allclose(part, (whole * 10 - 1).clip(0, 2) / 2, atol=1e-6)


@pytest.mark.parametrize("size", [(12, 16), (6, 6)])
def test_a_policy_scales_views_alike(place, size):
    env = environment(place, depth_range_m=(0.5, 5.0), view_size=size)
    env.reset()
    camera, (x, y, yaw) = CAMERA, env.state()["pose"]
    view = place.renderer.render(camera_pose(x, y, yaw, camera.height_m, 0.0), camera)
    sizes = dict(zip(("image_height", "image_width"), size, strict=True))
    config = DDPPOConfig(**sizes, min_depth_m=0.5, max_depth_m=5.0)
    found = env.restore(env.state())
    np.testing.assert_allclose(found["depth"], scaled_depth(view.depth, config), atol=1e-6)
    np.testing.assert_array_equal(found["rgb"], sized_rgb(view.rgb, config))


def test_starts_and_goals_are_as_far_as_asked(place):
    env = environment(place, min_distance_m=2.0, max_distance_m=3.0)
    distances = [env.reset()[1]["geodesic_distance"] for _ in range(20)]
    assert 1.8 < min(distances) < max(distances) <= 3.0
    with pytest.raises(ValueError, match=r"Scene hall: no start is 50 to 60 m of walking from"):
        environment(place, min_distance_m=50.0, max_distance_m=60.0).reset()


def test_a_restored_environment_goes_on_exactly(place):
    actions = np.random.default_rng(0).integers(1, 4, 60)
    env = environment(place, max_steps=9)

    def drive(env, actions):
        seen = []
        for action in actions:
            observation, reward, terminated, truncated, info = env.step(action)
            if terminated or truncated:
                observation, _ = env.reset()
            seen.append((observation, reward, info))
        return seen

    env.reset()
    drive(env, actions[:30])
    state = env.state()
    expected = drive(env, actions[30:])
    other = environment(place, seed=5, max_steps=9)
    other.restore(state)
    for ours, theirs in zip(drive(other, actions[30:]), expected, strict=True):
        assert ours[1:] == theirs[1:]
        for name, value in ours[0].items():
            np.testing.assert_array_equal(value, theirs[0][name])


def test_seeds_and_scenes(tmp_path):
    config = SceneConfig(num_rooms=(1, 1), num_objects=(1, 1))
    task = PointGoalTask((1, 2), CAMERA, config=config, grid_resolution_m=0.1)
    first, second, third = task.environments([3, 3, 4])
    states = [(env.reset(), env.state())[1] for env in (first, second, third)]
    assert states[0] == states[1] != states[2]
    assert {(env.reset(), env.state()["scene"])[1] for env in [first] * 9} == {0, 1}
    assert task.scenes() == {"simulated": []}
    mesh = str(tmp_path / "house" / "a.glb")
    assert PointGoalTask((mesh,), CAMERA).scenes() == {"house": [tmp_path / "house" / "a.glb"]}


def test_other_actions_are_refused(place):
    env = environment(place)
    env.reset()
    with pytest.raises(ValueError, match="found action 5, expected 0 to 3"):
        env.step(Action.LOOK_DOWN)
