import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import trimesh
from PIL import Image
from scipy.spatial import cKDTree

from internnav_hf.camera import CameraSpec
from internnav_hf.geometry import robot_pose
from internnav_hf.sim.render import Renderer
from internnav_hf.sim.smooth_paths import SmoothPathSampler
from internnav_hf.sim.writers.vln_n1 import DEPTH_SCALE, extrinsic, point_cloud, vln_n1_folder
from tests.sim.boxes import hall

CAMERA = CameraSpec(
    width=64, height=36, hfov_deg=68, height_m=0.5, pitch_deg=15, depth_scale=DEPTH_SCALE
)


@pytest.fixture(scope="module")
def trajectories(space):
    sampler, rng = (
        SmoothPathSampler(space, frame_spacing_m=0.2, max_length_m=4.0),
        np.random.default_rng(0),
    )
    return [sampler.draw(rng) for _ in range(2)]


@pytest.fixture(scope="module")
def written(tmp_path_factory, scene, renderer, trajectories):
    folder = tmp_path_factory.mktemp("data") / "simulated_train" / "scene"
    with vln_n1_folder(folder, renderer, point_cloud(scene), CAMERA, {"scene": "two"}) as writer:
        for poses in trajectories:
            writer.add(poses)
    return folder


def columns(folder, episode):
    return pq.read_table(folder / "data" / "chunk-000" / f"episode_{episode:06d}.parquet")


def images(folder, kind):
    return sorted((folder / "videos" / "chunk-000" / f"observation.images.{kind}").iterdir())


def test_frames_of_all_trajectories_are_numbered_through(written, trajectories):
    count = sum(map(len, trajectories))
    for kind, suffix in (("rgb", "jpg"), ("depth", "png")):
        expected = [f"{frame:06d}.{suffix}" for frame in range(count)]
        assert [path.name for path in images(written, kind)] == expected
    lines = (written / "meta" / "episodes_stats.jsonl").read_text().splitlines()
    ranges = [json.loads(line)["stats"]["image_index"] for line in lines]
    assert [(r["min"], r["max"]) for r in ranges] == [
        ([0], [len(trajectories[0]) - 1]),
        ([len(trajectories[0])], [count - 1]),
    ]


def test_columns_have_the_published_names_and_shapes(written, trajectories):
    matrix = pa.list_(pa.list_(pa.float32()))
    for episode, poses in enumerate(trajectories):
        table = columns(written, episode)
        named = ("observation.camera_intrinsic", "observation.camera_extrinsic", "action")
        assert {name: table.schema.field(name).type for name in named} == dict.fromkeys(
            named, matrix
        )
        rows = table.to_pydict()
        assert np.array(rows["action"]).shape == (len(poses), 4, 4)
        assert np.allclose(rows["observation.camera_intrinsic"][0], CAMERA.intrinsics, atol=1e-4)
        assert np.allclose(rows["observation.camera_extrinsic"][-1], extrinsic(CAMERA), atol=1e-6)
        assert set(table["episode_index"].to_pylist()) == {episode}


def test_the_camera_has_open_gl_axes_above_a_level_base():
    T_base_camera = extrinsic(CAMERA)
    right, up, backward, position = T_base_camera[:3].T
    sin, cos = np.sin(np.radians(15)), np.cos(np.radians(15))
    assert np.allclose(right, [1, 0, 0])
    assert np.allclose(up, [0, sin, cos])
    assert np.allclose(backward, [0, -cos, sin])  # looks along the base's y, and down
    assert np.allclose(position, [0, 0, 0.5])


def test_poses_are_where_the_walk_was(written, trajectories):
    for episode, poses in enumerate(trajectories):
        T_world_opengl = np.array(columns(written, episode).to_pydict()["action"])
        T_world_camera = T_world_opengl @ np.diag([1, -1, -1, 1])
        assert np.allclose([robot_pose(pose) for pose in T_world_camera], poses, atol=1e-5)
        T_world_base = T_world_opengl @ np.linalg.inv(extrinsic(CAMERA))
        assert np.allclose(T_world_base[:, 2], [0, 0, 1, 0], atol=1e-6)  # level, on the floor


def test_images_hold_what_is_rendered(written, renderer, trajectories):
    first = len(trajectories[0])  # of the second walk
    T_world_opengl = np.array(columns(written, 1).to_pydict()["action"][0])
    view = renderer.render(T_world_opengl @ np.diag([1, -1, -1, 1]), CAMERA)
    rgb = np.array(Image.open(images(written, "rgb")[first]))
    assert np.abs(rgb.astype(int) - view.rgb).mean() < 4
    depth = np.array(Image.open(images(written, "depth")[first]))
    assert depth.dtype == np.uint16
    assert np.median(np.abs(depth / 1e4 - np.minimum(view.depth, 6.5535))) < 1e-3


def test_depth_ends_where_sixteen_bits_do(tmp_path):
    scene = hall(size=20.0)
    cloud = point_cloud(scene, spacing_m=0.5)
    with vln_n1_folder(tmp_path / "scene", Renderer(scene), cloud, CAMERA, {}) as writer:
        writer.add(np.array([[1.0, 10.0, 0.0]]))
    depth = np.array(Image.open(images(tmp_path / "scene", "depth")[0]))
    assert depth.max() == 65535
    assert depth.min() < 30000


def test_the_cloud_has_floor_and_obstacles_in_their_colours(written, scene, space):
    cloud = trimesh.load(written / "meta" / "pointcloud.ply")
    points, colors = np.asarray(cloud.vertices), np.asarray(cloud.colors)[:, :3] / 255
    is_obstacle = np.abs(colors - (0, 0, 0.5)).sum(axis=1) < 0.05  # the published rule
    assert 0.1 < is_obstacle.mean() < 0.9
    assert points[is_obstacle, 2].min() > 0.1
    assert points[~is_obstacle, 2].max() <= 0.1
    assert points[:, 2].max() <= 1.4
    # Wherever the robot can be is floor, and obstacles are the robot's radius away.
    places = space.center(np.argwhere(space.navigable))
    to_obstacles = cKDTree(points[is_obstacle, :2]).query(places)[0]
    to_floor = cKDTree(points[~is_obstacle, :2]).query(places)[0]
    assert to_obstacles.min() > 0.18 - space.resolution_m
    assert to_floor.max() < 0.08


def test_the_cloud_is_no_denser_than_asked(scene):
    sparse, _ = point_cloud(scene, spacing_m=0.2)
    dense, _ = point_cloud(scene)
    assert len(dense) > 8 * len(sparse)
    cubes = np.floor((sparse - sparse.min(axis=0)) / 0.2).astype(int)
    assert len(np.unique(cubes, axis=0)) == len(sparse)


def test_a_broken_off_scene_leaves_nothing(tmp_path, scene, renderer, trajectories):
    def write_and_stop():
        with vln_n1_folder(tmp_path / "scene", renderer, point_cloud(scene), CAMERA, {}) as writer:
            writer.add(trajectories[0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_and_stop()
    assert not list(tmp_path.iterdir())


def test_meta_tells_the_camera(written, trajectories):
    info = json.loads((written / "meta" / "info.json").read_text())
    assert CameraSpec.from_dict(info["camera"]) == CAMERA
    assert (info["total_episodes"], info["scene"]) == (2, "two")
    assert info["total_frames"] == sum(map(len, trajectories))
