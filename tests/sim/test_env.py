import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from internnav_hf.camera import CameraSpec
from internnav_hf.geometry import Action, robot_pose, wrap_angle
from internnav_hf.sim.env import NavigationEnv
from internnav_hf.sim.episodes import sample_episodes
from internnav_hf.sim.follower import next_action

CAMERA = CameraSpec(width=32, height=24)


@pytest.fixture(scope="module")
def episodes(scene, space):
    return sample_episodes(scene, space, num_episodes=4, seed=0)


@pytest.fixture
def env(scene, space, episodes):
    return NavigationEnv(scene, CAMERA, episodes, max_steps=60, space=space)


def test_gymnasium_accepts_the_environment(env):
    check_env(env, skip_render_check=True)


def test_looking_down_costs_no_step_and_shows_the_same_place(env):
    first, before = env.reset(seed=0)
    seen, reward, _, _, looking = env.step(Action.LOOK_DOWN)
    assert looking["pitch_deg"] == 30
    assert (looking["position"], looking["yaw"]) == (before["position"], before["yaw"])
    assert (looking["num_steps"], reward) == (0, 0)
    assert not np.array_equal(seen["rgb"], first["rgb"])
    assert np.array_equal(seen["rgb"], env.render_view(30).rgb)
    ordinary, *_, after = env.step(Action.LOOK_UP)
    assert after["pitch_deg"] == 0
    assert np.array_equal(ordinary["rgb"], first["rgb"])


@pytest.mark.parametrize(
    "looks",
    [[Action.LOOK_DOWN], [Action.LOOK_UP], [Action.LOOK_DOWN, Action.LOOK_UP]],
    ids=["down", "up", "down and up"],
)
def test_who_looks_for_ever_is_cut_off(env, looks):
    env.reset(seed=0)
    for step in range(61):
        *_, truncated, info = env.step(looks[step % len(looks)])
        assert info["num_steps"] == step  # the first look is free
        assert truncated == (step == 60)
    *_, info = env.reset(seed=0)
    *_, info = env.step(looks[0])
    assert info["num_steps"] == 0


def test_turns_are_fifteen_degrees_and_steps_a_quarter_of_a_metre(env):
    _, start = env.reset(seed=0)
    *_, left = env.step(Action.TURN_LEFT)
    assert np.isclose(wrap_angle(left["yaw"] - start["yaw"]), np.radians(15))
    *_, back = env.step(Action.TURN_RIGHT)
    assert np.isclose(wrap_angle(back["yaw"] - start["yaw"]), 0)
    for _ in range(24):
        _, reward, *_, walked = env.step(Action.FORWARD)
        moved = np.linalg.norm(np.subtract(walked["position"], back["position"]))
        assert np.isclose(reward, back["geodesic_distance"] - walked["geodesic_distance"])
        assert walked["collided"] == (moved < 0.25 - 1e-6)
        assert np.allclose(robot_pose(walked["T_world_camera"])[:2], walked["position"])
        back = walked
    assert walked["collided"]  # no room is six metres long in every direction


def test_the_episode_ends_with_stop_or_with_its_steps(env):
    env.reset(seed=0)
    *_, terminated, truncated, info = env.step(Action.STOP)
    assert terminated
    assert not truncated
    assert not info["success"]
    env.reset(seed=0)
    for step in range(60):
        *_, terminated, truncated, _ = env.step(Action.TURN_LEFT)
        assert truncated == (step == 59)
        assert not terminated


def test_success_is_to_stop_near_the_goal(env, episodes):
    for episode in episodes:
        _, info = env.reset(options={"episode": episode})
        assert info["instruction"] == episode.instructions[0]
        assert info["position"] == episode.start[:2]
        field = env.space.distance_field(np.array(episode.goal_xy))
        while (action := next_action(env.space, field, info["position"], info["yaw"])) is not None:
            *_, info = env.step(action)
        *_, info = env.step(Action.STOP)
        assert info["success"]
        assert info["geodesic_distance"] < 1.0


def test_the_geodesic_distance_is_never_below_the_straight_one(env):
    _, info = env.reset(seed=3)
    rng = np.random.default_rng(0)
    for _ in range(30):
        goal = np.array(env.episode.goal_xy)
        straight = np.linalg.norm(goal - info["position"])
        assert info["geodesic_distance"] >= straight - env.space.resolution_m
        *_, info = env.step(rng.integers(1, 4))


def test_seeds_draw_episodes(env, scene, space, episodes):
    drawn = [env.reset(seed=seed)[1]["position"] for seed in range(12)]
    assert drawn == [env.reset(seed=seed)[1]["position"] for seed in range(12)]
    assert len(set(drawn)) > 1
    with pytest.raises(ValueError, match="at least one episode"):
        NavigationEnv(scene, CAMERA, [], space=space)
