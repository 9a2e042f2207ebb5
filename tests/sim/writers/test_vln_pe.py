import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from internnav_hf.camera import CameraSpec
from internnav_hf.geometry import Action, camera_pose
from internnav_hf.sim.episodes import EpisodeSampler
from internnav_hf.sim.expert import Expert, draw_demonstrations
from internnav_hf.sim.writers.vln_pe import (
    PLANNED_STEPS,
    distances_to,
    progress_of,
    quaternions,
    record,
    vln_pe_folder,
)

CAMERA = CameraSpec(width=32, height=24, pitch_deg=15, look_down_pitch_deg=15)
PUBLISHED = [
    *("camera_position", "camera_orientation", "camera_yaw"),
    *("robot_position", "robot_orientation", "robot_yaw"),
    *("progress", "step", "action"),
]
LEROBOT = ["timestamp", "frame_index", "episode_index", "index", "task_index"]


@pytest.fixture(scope="module")
def episodes(scene, space, renderer):
    rng, recorded = np.random.default_rng(0), []
    sampler = EpisodeSampler(scene, space, num_instructions=3)
    while len(recorded) < 3:
        drawn = sampler.draw(rng, "episode")
        expert = drawn and Expert(*drawn)
        steps = expert and expert.demonstrate(rng, exploration=0.1 * (len(recorded) == 2))
        if steps:
            recorded.append(record(expert, steps, renderer, CAMERA))
    assert (recorded[2].executed != recorded[2].actions).any()
    return recorded


def write(folder, episodes, image_files=False):
    with vln_pe_folder(folder, CAMERA, {"scene": "two"}, image_files) as writer:
        for recorded in episodes:
            writer.add(recorded)
    return folder


@pytest.fixture(scope="module")
def written(tmp_path_factory, episodes):
    return write(tmp_path_factory.mktemp("data") / "simulated_train" / "scene", episodes)


def columns(folder, episode):
    return pq.read_table(folder / "data" / "chunk-000" / f"episode_{episode:06d}.parquet")


def lines(folder, name):
    text = (folder / "meta" / f"{name}.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def images(folder, kind):
    return folder / "videos" / "chunk-000" / f"observation.images.{kind}"


def test_columns_are_the_published_ones(written, episodes):
    published = [*LEROBOT, *(f"observation.{name}" for name in PUBLISHED)]
    for episode in range(3):
        names = columns(written, episode).column_names
        extra = ("previous_action", "expert_actions", "expert_steps")
        extra = [f"observation.{name}" for name in extra]
        extra = extra if episode == 2 else []
        assert names == [*published, *extra]
    rows = columns(written, 1).to_pydict()
    num_frames = len(episodes[1].poses)
    assert rows["observation.step"] == [50 * frame for frame in range(num_frames)]
    assert np.allclose(np.diff(rows["timestamp"]), 1 / 6, atol=1e-5)
    assert rows["observation.action"] == episodes[1].actions.tolist()
    assert rows["observation.action"][-1] == Action.STOP
    positions = np.array(rows["observation.robot_position"])
    assert np.allclose(positions[:, :2], episodes[1].poses[:, :2])
    assert {position[2] for position in rows["observation.camera_position"]} == {1.25}
    assert rows["observation.robot_yaw"] == rows["observation.camera_yaw"]


def test_what_was_done_leads_to_the_next_frame(written, episodes):
    table = columns(written, 2).to_pydict()
    led, actions = table["observation.previous_action"], table["observation.action"]
    assert led == [-1, *episodes[2].executed[:-1]]
    assert led[1:] != actions[:-1]
    moved = np.linalg.norm(np.diff(table["observation.robot_position"], axis=0), axis=1) > 0
    assert (np.array(led[1:])[moved] == Action.FORWARD).all()


def test_plans_begin_with_the_taught_actions_and_are_done_where_nothing_disturbs(written, episodes):
    plans = np.array(columns(written, 2)["observation.expert_actions"].to_pylist())
    assert plans.shape == (len(episodes[2].poses), PLANNED_STEPS)
    assert (plans[:, 0] == episodes[2].actions).all()
    steps = columns(written, 2)["observation.expert_steps"].to_pylist()
    assert steps == [len(plan) for plan in episodes[2].plans]
    assert {plan[-1] for plan in episodes[2].plans} == {Action.STOP}
    assert steps[-1] == 1
    calm = np.append(episodes[2].executed == episodes[2].actions, [True] * PLANNED_STEPS)
    done = np.append(episodes[2].executed, [0] * PLANNED_STEPS)
    frames = [t for t in range(len(plans)) if calm[t : t + PLANNED_STEPS].all()]
    assert 0 < len(frames) < len(plans)
    for t in frames:
        assert (plans[t] == done[t : t + PLANNED_STEPS]).all()
    first = int(np.flatnonzero(~calm)[0])
    assert (plans[first] != done[first : first + PLANNED_STEPS]).any()


def test_plans_are_what_the_expert_would_do_from_each_frame(scene, space, renderer):
    given = EpisodeSampler(scene, space), 1, np.random.default_rng(1), 0.2
    ((expert, steps),) = draw_demonstrations(*given)
    recorded = record(expert, steps, renderer, CAMERA)
    assert (recorded.executed != recorded.actions).any()
    expected = [expert.plan(np.array([x, y]), yaw) for x, y, yaw in steps.poses]
    assert recorded.plans == expected


def test_meta_files_tell_the_instructions_of_each_episode(written, episodes):
    tasks, stats = lines(written, "tasks"), lines(written, "episodes_stats")
    for episode, recorded in enumerate(episodes):
        limits = stats[episode]["task_index"]
        assert stats[episode]["episode_index"] == episode
        rows = tasks[limits["min"] : limits["max"] + 1]
        assert [row["task"] for row in rows] == list(recorded.instructions)
        assert {row["finish_status"] for row in rows} == {"success"}
        assert {row["fail_reason"] for row in rows} == {""}
        assert columns(written, episode)["task_index"].unique().to_pylist() == [limits["min"]]
    assert [row["task_index"] for row in tasks] == list(range(9))
    info = json.loads((written / "meta" / "info.json").read_text())
    assert (info["fps"], info["total_tasks"], info["total_episodes"]) == (6, 9, 3)
    assert CameraSpec.from_dict(info["camera"]) == CAMERA


def test_arrays_hold_what_is_rendered(written, episodes):
    for episode, recorded in enumerate(episodes):
        rgb, depth = (
            np.load(images(written, kind) / f"episode_{episode:06d}.npy", mmap_mode="r")
            for kind in ("rgb", "depth")
        )
        assert (rgb.dtype, depth.dtype) == (np.uint8, np.float32)
        assert np.array_equal(rgb, recorded.rgb)
        assert np.allclose(depth * 10, np.minimum(recorded.depth, 10), atol=1e-5)
        assert 0 < depth.max() <= 1


def test_image_files_hold_the_same(tmp_path, episodes):
    folder = write(tmp_path / "scene", episodes[:1], image_files=True)
    last = len(episodes[0].poses) - 1
    assert len(list(images(folder, "rgb").iterdir())) == last + 1
    rgb = np.array(Image.open(images(folder, "rgb") / f"episode_000000_{last}.jpg"))
    depth = np.array(Image.open(images(folder, "depth") / f"episode_000000_{last}.png"))
    assert np.abs(rgb.astype(int) - episodes[0].rgb[-1]).mean() < 8
    assert depth.dtype == np.uint16
    assert np.allclose(depth / 1000, episodes[0].depth[-1], atol=1e-3)


def test_orientations_point_where_the_camera_looks():
    yaw, pitch = np.array([0.3, -2.0]), np.radians(20)
    for w_first, angle in zip(quaternions(yaw, pitch), yaw, strict=True):
        forward_left_up = Rotation.from_quat(np.roll(w_first, -1)).as_matrix()
        right, down, forward = camera_pose(0, 0, angle, 1, pitch)[:3, :3].T
        assert np.allclose(forward_left_up, np.stack([forward, -right, -down], axis=1))


def test_progress_goes_from_nothing_to_the_goal(space, episodes):
    for recorded in episodes:
        assert recorded.progress[0] == 0
        assert 0.5 < recorded.progress[-1] <= 1
    assert np.allclose(progress_of([4, 5, 2, 0]), [0, -0.25, 0.5, 1])
    assert np.allclose(progress_of([0, 0.25]), [0, -1])
    goal = episodes[0].poses[-1, :2]
    assert np.allclose(distances_to(space, goal, episodes[0].poses[-1:, :2]), 0)


def test_a_broken_off_folder_leaves_nothing(tmp_path, episodes):
    def write_and_stop():
        with vln_pe_folder(tmp_path / "scene", CAMERA, {}) as writer:
            writer.add(episodes[0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_and_stop()
    assert not list(tmp_path.iterdir())
