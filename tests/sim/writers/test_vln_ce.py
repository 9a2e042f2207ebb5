import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from internnav_hf.camera import CameraSpec
from internnav_hf.geometry import robot_pose, wrap_angle
from internnav_hf.sim.episodes import EpisodeSampler
from internnav_hf.sim.expert import Expert
from internnav_hf.sim.writers.vln_ce import Recording, vln_ce_folder

NUM_EPISODES = 2
LEVEL, DOWN = "125cm_0deg", "125cm_30deg"


@pytest.fixture(scope="module")
def demonstrations(scene, space):
    rng, sampler, pairs = np.random.default_rng(0), EpisodeSampler(scene, space), []
    while len(pairs) < NUM_EPISODES:
        if (drawn := sampler.draw(rng, "episode")) is not None:
            pairs.append((drawn[0], Expert(*drawn).demonstrate(rng)))
    return pairs


def write(folder, renderer, demonstrations, recording):
    with vln_ce_folder(folder, renderer, recording, {"scene": "two rooms"}) as writer:
        for episode, steps in demonstrations:
            writer.add(episode, steps)
    return folder


@pytest.fixture(scope="module")
def written(tmp_path_factory, renderer, demonstrations, camera):
    folder = tmp_path_factory.mktemp("data") / "r2r" / "scene"
    folder.parent.mkdir()
    return write(folder, renderer, demonstrations, Recording(camera, landmarks=True))


def columns(folder, episode=0):
    return pq.read_table(folder / "data" / "chunk-000" / f"episode_{episode:06d}.parquet")


def test_columns_have_the_published_names_and_types(written):
    matrix, pixel = pa.list_(pa.list_(pa.float32())), pa.list_(pa.int32())
    expected = {
        "timestamp": pa.float32(),
        **dict.fromkeys(("frame_index", "episode_index", "index", "task_index"), pa.int64()),
        "action": pa.int32(),
    }
    for setting in (LEVEL, DOWN):
        expected |= {f"pose.{setting}": matrix, f"goal.{setting}": pixel}
        expected[f"relative_goal_frame_id.{setting}"] = pa.int32()
    assert {field.name: field.type for field in columns(written).schema} == expected


def test_meta_tells_lengths_instructions_and_camera(written, demonstrations, camera):
    lines = (written / "meta" / "episodes.jsonl").read_text().splitlines()
    for index, (line, (episode, steps)) in enumerate(zip(lines, demonstrations, strict=True)):
        told = json.loads(line)
        assert told["episode_index"] == index
        assert told["length"] == len(steps.actions) == columns(written, index).num_rows
        assert told["tasks"][0].split("<INSTRUCTION_SEP>") == list(episode.instructions)
    info = json.loads((written / "meta" / "info.json").read_text())
    assert info["total_episodes"] == NUM_EPISODES
    assert info["total_frames"] == sum(len(steps.actions) for _, steps in demonstrations)
    assert CameraSpec.from_dict(info["camera"]) == camera
    for name in ("tasks", "episodes_stats"):
        rows = (written / "meta" / f"{name}.jsonl").read_text().splitlines()
        assert len([json.loads(row) for row in rows]) == NUM_EPISODES


def test_every_frame_has_every_image(written, demonstrations):
    for kind, suffix in (("rgb", "jpg"), ("depth", "png"), ("landmark", "png")):
        for setting in (LEVEL, DOWN):
            folder = written / "videos" / "chunk-000" / f"observation.images.{kind}.{setting}"
            expected = {
                f"episode_{index:06d}_{frame}.{suffix}"
                for index, (_, steps) in enumerate(demonstrations)
                for frame in range(len(steps.actions))
            }
            assert {path.name for path in folder.iterdir()} == expected


def test_actions_led_to_their_frames_and_poses_follow_from_them(written, demonstrations):
    table = columns(written).to_pydict()
    steps = demonstrations[0][1]
    assert table["action"] == [-1, *steps.actions[:-1]]
    for setting in (LEVEL, DOWN):
        poses = [robot_pose(np.array(pose)) for pose in table[f"pose.{setting}"]]
        difference = np.array(poses) - steps.poses
        assert np.allclose(difference[:, :2], 0, atol=1e-5)
        assert np.allclose(wrap_angle(difference[:, 2]), 0, atol=1e-5)


def test_goals_are_pixels_of_the_look_down_view_only(written, camera):
    table = columns(written).to_pydict()
    goals, ahead = np.array(table[f"goal.{DOWN}"]), table[f"relative_goal_frame_id.{DOWN}"]
    shown = np.array(ahead) != -1
    assert shown.any()
    assert (goals[shown] >= 0).all()
    assert (goals[shown] < [camera.width, camera.height]).all()
    assert (goals[~shown] == -1).all()
    assert set(table[f"relative_goal_frame_id.{LEVEL}"]) == {-1}
    assert np.array(table[f"goal.{LEVEL}"]).max() == -1


def test_images_hold_what_is_rendered(written, renderer, demonstrations, camera):
    table = columns(written).to_pydict()
    episode = demonstrations[0][0]
    frame = len(demonstrations[0][1].actions) - 1  # the object is in front of the robot here
    view = renderer.render(np.array(table[f"pose.{DOWN}"][frame]), camera)
    images = {}
    for kind, suffix in (("rgb", "jpg"), ("depth", "png"), ("landmark", "png")):
        folder = written / "videos" / "chunk-000" / f"observation.images.{kind}.{DOWN}"
        images[kind] = np.array(Image.open(folder / f"episode_000000_{frame}.{suffix}"))
    assert np.abs(images["rgb"].astype(int) - view.rgb).mean() < 4
    assert images["depth"].dtype == np.uint16
    # float32 poses, and rays that pass an edge on its other side
    assert np.median(np.abs(images["depth"] / camera.depth_scale - view.depth)) < 2e-3
    share = (view.instances == episode.goal_object.instance_id).mean()
    assert images["landmark"].shape == (camera.height // 8, camera.width // 8)
    assert share > 0.01
    assert np.isclose(images["landmark"].mean() / 255, share, atol=0.01)


def test_far_things_are_clipped_to_ten_metres(tmp_path, demonstrations):
    class FarAway:
        def render(self, pose, camera):
            from internnav_hf.sim.render import Rendering

            shape = (camera.height, camera.width)
            return Rendering(
                np.zeros((*shape, 3), np.uint8), np.full(shape, 80.0), np.zeros(shape, int)
            )

    camera = CameraSpec(width=16, height=12)
    write(tmp_path / "scene", FarAway(), demonstrations[:1], Recording(camera))
    path = next((tmp_path / "scene").rglob("*.png"))
    assert (np.array(Image.open(path)) == 10_000).all()


def test_one_pitch_is_written_once(tmp_path, renderer, demonstrations):
    camera = CameraSpec(width=32, height=24, height_m=0.6, pitch_deg=15, look_down_pitch_deg=15)
    folder = write(tmp_path / "scene", renderer, demonstrations[:1], Recording(camera, depth=False))
    kinds = [path.name for path in (folder / "videos" / "chunk-000").iterdir()]
    assert kinds == ["observation.images.rgb.60cm_15deg"]
    settings = {name.split(".")[1] for name in columns(folder).column_names if "." in name}
    assert settings == {"60cm_15deg"}


def test_a_broken_off_scene_leaves_nothing(tmp_path, renderer, demonstrations):
    recording = Recording(CameraSpec(width=16, height=12))

    def write_and_stop():
        with vln_ce_folder(tmp_path / "scene", renderer, recording, {}) as writer:
            writer.add(*demonstrations[0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_and_stop()
    assert not list(tmp_path.iterdir())
