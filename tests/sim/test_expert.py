from dataclasses import replace

import numpy as np
import pytest

from internnav_hf.camera import CameraSpec
from internnav_hf.data.pixel_goals import (
    MAX_GOAL_DISTANCE_M,
    MIN_GOAL_FRAMES,
    UNTAUGHT,
    pixel_goals,
)
from internnav_hf.data.rows import View, camera_columns
from internnav_hf.geometry import FORWARD_STEP_M, TURN_STEP, Action, camera_pose, lift, wrap_angle
from internnav_hf.sim.episodes import EpisodeSampler
from internnav_hf.sim.expert import (
    MIN_FRAMES,
    Demonstration,
    Expert,
    draw_demonstrations,
)
from internnav_hf.sim.follower import next_action
from internnav_hf.sim.navigation import NavigableSpace
from internnav_hf.sim.render import Renderer
from internnav_hf.sim.scenes import SceneConfig, generate_scene
from tests.sim.boxes import hall

PITCH_DEG = 30.0


def draw(sampler, rng, count):
    """`count` pairs of an episode and its field."""
    pairs = []
    while len(pairs) < count:
        pairs += filter(None, [sampler.draw(rng, "episode")])
    return pairs


def render_demonstration(renderer, steps, camera):
    return [
        renderer.render(camera_pose(x, y, yaw, camera.height_m, np.radians(PITCH_DEG)), camera)
        for x, y, yaw in steps.poses
    ]


def goals_of(steps, views, camera):
    view = View(**camera_columns(camera, PITCH_DEG))
    size = (camera.width, camera.height)
    return pixel_goals(steps.poses, steps.exploring, lambda t: views[t].depth, view, size)


@pytest.fixture(scope="module")
def demonstrations(scene, space):
    rng = np.random.default_rng(0)
    pairs = draw(EpisodeSampler(scene, space), rng, 12)
    return [(episode, Expert(episode, field).demonstrate(rng)) for episode, field in pairs]


@pytest.mark.parametrize("exploration", [0.0, 0.1])
def test_the_expert_arrives_in_nearly_every_episode(exploration):
    arrived = []
    for seed in range(5):
        scene = generate_scene(seed, SceneConfig(num_rooms=(1, 4)))
        space, rng = NavigableSpace(scene), np.random.default_rng(seed)
        for episode, field in draw(EpisodeSampler(scene, space), rng, 8):
            steps = Expert(episode, field).demonstrate(rng, exploration)
            if steps is not None:
                last = steps.poses[-1, :2]
                assert episode.goal_object.distance(last) < 1.0
            arrived.append(steps is not None)
    assert np.mean(arrived) > 0.95


def test_a_demonstration_is_its_actions(space, demonstrations):
    for episode, steps in demonstrations:
        assert np.allclose(steps.poses[0], episode.start)
        assert steps.actions[-1] == Action.STOP
        assert (steps.actions[:-1] != Action.STOP).all()
        assert not steps.exploring.any()
        assert np.array_equal(steps.expert_actions, steps.actions)
        assert space.is_navigable(steps.poses[:, :2]).all()
        moved = np.linalg.norm(np.diff(steps.poses[:, :2], axis=0), axis=1)
        turned = wrap_angle(np.diff(steps.poses[:, 2]))
        forward = steps.actions[:-1] == Action.FORWARD
        left = steps.actions[:-1] == Action.TURN_LEFT
        assert np.allclose(moved, forward * FORWARD_STEP_M)
        assert np.allclose(turned, np.where(forward, 0, np.where(left, TURN_STEP, -TURN_STEP)))


def test_a_demonstration_ends_facing_its_object(demonstrations):
    for episode, steps in demonstrations:
        x, y, yaw = steps.poses[-1]
        towards = np.array(episode.goal_object.position) - (x, y)
        assert abs(wrap_angle(np.arctan2(towards[1], towards[0]) - yaw)) <= TURN_STEP / 2 + 1e-6


def test_a_demonstration_turns_first_to_the_side_that_its_instruction_says(demonstrations):
    hinted = [(e, s) for e, s in demonstrations if e.instructions[0].startswith("Turn")]
    assert hinted
    sides = {"left": Action.TURN_LEFT, "right": Action.TURN_RIGHT}
    for episode, steps in hinted:
        said = next(side for side in sides if side in episode.instructions[0].split(",")[0])
        assert steps.actions[0] == sides[said]


def test_pixel_goals_lift_to_where_the_robot_will_be(renderer, demonstrations, camera):
    num_goals = num_frames = 0
    for _, steps in demonstrations:
        views = render_demonstration(renderer, steps, camera)
        goals, ahead = goals_of(steps, views, camera)
        assert ((goals == -1).all(axis=1) == (ahead == -1)).all()
        taught = np.flatnonzero(ahead >= MIN_GOAL_FRAMES)
        assert set(ahead) <= {-1, *ahead[taught]}
        for t in taught:
            u, v = goals[t]
            assert 0 <= u < camera.width
            assert 0 <= v < camera.height
            x, y, yaw = steps.poses[t]
            pose = camera_pose(x, y, yaw, camera.height_m, np.radians(PITCH_DEG))
            depth = views[t].depth[[v], [u]]
            point = lift(np.array([[u + 0.5, v + 0.5]]), depth, pose, camera.intrinsics)[0]
            future = steps.poses[t + ahead[t], :2]
            assert np.linalg.norm(point[:2] - future) < 0.15
            assert np.linalg.norm(future - (x, y)) <= MAX_GOAL_DISTANCE_M
        num_goals, num_frames = num_goals + len(taught), num_frames + len(ahead)
    assert num_goals > 0.4 * num_frames


def test_a_place_behind_an_obstacle_is_no_goal():
    """The same walk straight ahead: with a screen in the way, and with none."""
    camera = CameraSpec(width=128, height=96)
    poses = np.array([[1 + 0.25 * t, 3, 0] for t in range(10)])
    actions = np.array([Action.FORWARD] * 9 + [Action.STOP])
    steps = Demonstration(poses, actions, np.zeros(10, dtype=bool), actions)
    farthest = []
    for screens in ((), (((2.4, 3, 0.5), (0.05, 3, 1.0)),)):
        views = render_demonstration(Renderer(hall(*screens)), steps, camera)
        _, ahead = goals_of(steps, views, camera)
        farthest.append(ahead[0])
    assert farthest[0] == 9
    assert farthest[1] <= 6  # the screen stands at 1.4 m, and 0.25 m behind it are tolerated


def test_frames_that_chance_disturbs_teach_nothing(scene, space, renderer, camera):
    rng = np.random.default_rng(1)
    disturbed = 0
    for episode, field in draw(EpisodeSampler(scene, space), rng, 6):
        steps = Expert(episode, field).demonstrate(rng, exploration=0.2)
        if steps is None:
            continue
        views = render_demonstration(renderer, steps, camera)
        _, ahead = goals_of(steps, views, camera)
        for t in np.flatnonzero(steps.exploring):
            disturbed += 1
            assert ahead[t] == UNTAUGHT
            *position, yaw = steps.poses[t]
            taught = Expert(episode, field).action(np.array(position), yaw)
            assert steps.expert_actions[t] == taught
        calm = ~steps.exploring
        assert np.array_equal(steps.expert_actions[calm], steps.actions[calm])
        # no goal lies beyond a random action, and no turn label of four actions contains one
        for t in range(len(ahead)):
            assert not steps.exploring[t : t + max(0, ahead[t])].any() or ahead[t] == UNTAUGHT
            if ahead[t] == -1:
                assert not steps.exploring[t : t + 4].any()
    assert disturbed > 5


def test_the_follower_turns_the_short_way_walks_and_ends():
    space = NavigableSpace(hall())
    field = space.distance_field(np.array([4.0, 3.0]))
    assert next_action(space, field, (2.0, 3.0), 0.0) == Action.FORWARD
    assert next_action(space, field, (2.0, 3.0), -1.0) == Action.TURN_LEFT
    assert next_action(space, field, (2.0, 3.0), 1.0) == Action.TURN_RIGHT
    assert next_action(space, field, (3.9, 3.0), 0.0) is None


def test_the_follower_goes_round_a_wall():
    space = NavigableSpace(hall(((3, 2, 0.5), (0.1, 4, 1.0))))
    goal, position, yaw = np.array([4.5, 1.0]), np.array([1.5, 1.0]), 0.0
    field = space.distance_field(goal)
    for _ in range(120):
        action = next_action(space, field, tuple(position), yaw)
        if action is None:
            break
        if action == Action.FORWARD:
            step = FORWARD_STEP_M * np.array([np.cos(yaw), np.sin(yaw)])
            position, collided = space.move(position, position + step)
            assert not collided
        else:
            yaw += TURN_STEP if action == Action.TURN_LEFT else -TURN_STEP
    assert np.linalg.norm(position - goal) < 0.35


def test_demonstrations_are_drawn_until_there_are_enough(scene, space):
    drawn = list(draw_demonstrations(EpisodeSampler(scene, space), 3, np.random.default_rng(0)))
    assert [expert.episode.episode_id[-6:] for expert, _ in drawn] == ["000000", "000001", "000002"]
    assert all(len(steps.actions) >= MIN_FRAMES for _, steps in drawn)
    far = EpisodeSampler(scene, space, min_distance_m=99.0)
    with pytest.raises(ValueError, match=f"Scene {scene.name} is too small: no episode fits"):
        list(draw_demonstrations(far, 3, np.random.default_rng(0)))


def test_turns_may_be_smaller(scene, space):
    turn = np.radians(10.0)
    given = (EpisodeSampler(scene, space), 3, np.random.default_rng(0), 0.0, turn)
    for expert, steps in draw_demonstrations(*given):
        turned = np.abs(wrap_angle(np.diff(steps.poses[:, 2])))
        is_turn = np.isin(steps.actions[:-1], (Action.TURN_LEFT, Action.TURN_RIGHT))
        np.testing.assert_allclose(turned, np.where(is_turn, turn, 0), atol=1e-9)
        assert np.linalg.norm(steps.poses[-1, :2] - expert.episode.goal_xy) < 0.35


def test_an_expert_that_cannot_arrive_says_so(scene, space):
    rng = np.random.default_rng(0)
    (episode, field), *_ = draw(EpisodeSampler(scene, space), rng, 1)
    nowhere = replace(field, values=np.full_like(field.values, np.inf))
    assert Expert(episode, nowhere).demonstrate(rng) is None
