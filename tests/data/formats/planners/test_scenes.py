"""Scenes of planners: published layouts read as they are, recorded walks with maps made of them."""

import shutil

import numpy as np
import pytest
import trimesh
from PIL import Image
from scipy.spatial.transform import Rotation

from internnav_hf.data.cost_maps.geometric import VIPLANNER, GeometricSettings
from internnav_hf.data.cost_maps.semantic import SemanticSettings
from internnav_hf.data.formats.planners.iplanner import IPlannerScene, environments, levelled
from internnav_hf.data.formats.planners.scene import pose_matrices
from internnav_hf.data.formats.planners.viplanner import ViPlannerScene, viplanner_folders, warped
from internnav_hf.data.tasks.planner import recorded_scenes
from tests.data.planner_folders import (
    FLOOR,
    FOCAL,
    SIZE,
    WALL,
    WALL_X,
    rows_of,
    views,
    write_cloud,
    write_iplanner,
    write_viplanner,
    write_walks,
)
from tests.data.vln_n1 import write_root


def test_iplanners_layout(tmp_path):
    scene = IPlannerScene(write_iplanner(tmp_path), tmp_path / "cache")
    assert scene.poses.shape == (24, 4, 4)
    np.testing.assert_allclose(scene.poses[10, :3, 3], [1.0, 0, 0.5])
    np.testing.assert_allclose(scene.depth(10)[0], 3.0, atol=1e-3)
    assert (scene.grid.resolution_m, scene.grid.origin.tolist()) == (0.1, [-1.0, -2.0])
    assert scene.grid.at(np.array([[1.0, 0.0], [5.03, 0.0]])).round(2).tolist() == [0, 1.05]
    assert (scene.camera.width, scene.camera.height, scene.camera.hfov_deg) == (64, 48, 77.32)
    assert scene.semantics(0) is None


def test_a_map_is_built_of_depth_once(tmp_path, monkeypatch):
    folder = write_iplanner(tmp_path, with_map=False)
    settings = GeometricSettings(resolution_m=0.1, margin_m=5.0)  # only one wall is seen
    scene = IPlannerScene(folder, tmp_path / "cache", settings)
    on_floor, in_wall = scene.grid.at(np.array([[2.0, 0.0], [WALL_X + 0.3, 0.0]]))
    assert on_floor == pytest.approx(0, abs=0.05)
    assert in_wall > 0.5
    monkeypatch.setattr(IPlannerScene, "_build", None)
    again = IPlannerScene(folder, tmp_path / "cache", settings)
    np.testing.assert_allclose(again.grid.costs, scene.grid.costs)


def test_a_map_is_built_of_the_folders_cloud(tmp_path):
    folder, settings = write_iplanner(tmp_path, with_map=False), GeometricSettings(0.1)
    write_cloud(folder)
    plain = IPlannerScene(folder, tmp_path / "cache", settings).grid
    home = write_viplanner(tmp_path)
    shutil.rmtree(home / "maps")
    write_cloud(home, coloured=True)
    for kind in (SemanticSettings(0.1), SemanticSettings(0.1, follows_ground=True), settings):
        grid = ViPlannerScene(home, tmp_path / "cache", kind).grid
        for one in (grid, plain):
            assert one.at(np.array([[2.0, 0.0]])) < 0.3
            assert one.at(np.array([[WALL_X, 0.0]])) > 0.5
        assert (grid.ground is None) == (not getattr(kind, "follows_ground", False))


@pytest.mark.parametrize(
    ("points", "colours", "message"),
    [
        ([[np.nan, 0, 0]], [FLOOR], "points: found nan or infinity"),
        ([[1.0, 0, 0]], None, "colours: found none, expected those of the classes"),
        ([[1.0, 0, 0]], [FLOOR], "map: found 1 of 1 points of known classes up to 2.1 m high"),
        ([[1.0, 0, 0]] * 20, [(1, 2, 3)] * 20, "map: found 0 of 20 points of known classes"),
        ([[1.0, 0, 0], [1e9, 0, 0]], [FLOOR] * 2, "map: found points 1e[+]09 x 2 m apart"),
    ],
)
def test_a_cloud_of_which_no_map_can_be_made_is_one_error(tmp_path, points, colours, message):
    home = write_viplanner(tmp_path)
    shutil.rmtree(home / "maps")
    trimesh.PointCloud(points, colours).export(home / "cloud.ply")
    with pytest.raises(ValueError, match=f"{home}.*: {message}"):
        ViPlannerScene(home, tmp_path / "cache")


def test_anymals_images_are_turned_and_its_poses_moved(tmp_path):
    plain = IPlannerScene(write_iplanner(tmp_path, "plain"), tmp_path)
    anymal = IPlannerScene(write_iplanner(tmp_path, "anymal_1"), tmp_path)
    np.testing.assert_allclose(anymal.depth(0), plain.depth(0)[::-1, ::-1])
    np.testing.assert_allclose(anymal.poses[:, 0, 3], plain.poses[:, 0, 3] + 0.4)


def test_a_walk_ends_where_positions_jump(tmp_path, caplog):
    folder = write_iplanner(tmp_path)
    rows = rows_of(24)
    rows[:10, 0] += 4.0  # 4.0 to 4.9, then 1.0 to 2.3
    text = "\n".join(str(row.tolist()) for row in rows)
    (folder / "odom_ground_truth.txt").write_text(text)
    scene = IPlannerScene(folder, tmp_path / "cache")
    assert scene.walks == [range(10), range(10, 24)]
    assert "1 jumps of more than 3 m, the first to frame 10" in caplog.text


def test_the_list_of_environments(tmp_path):
    for name in ("a", "b", "c"):
        write_iplanner(tmp_path, name, num_frames=2)
    assert [f.name for f in environments(tmp_path)] == ["a", "b", "c"]
    (tmp_path / "training_list.txt").write_text("c\n\na\n")
    assert [f.name for f in environments(tmp_path)] == ["c", "a"]
    assert [f.name for f in environments(tmp_path, ["b"])] == ["b"]
    (tmp_path / "training_list.txt").write_text("cc\n")
    with pytest.raises(ValueError, match="no environment cc"):
        environments(tmp_path)


def test_viplanners_layout(tmp_path):
    scene = ViPlannerScene(write_viplanner(tmp_path))
    np.testing.assert_allclose(scene.depth(10), views(1.0)[0], atol=1e-5)
    np.testing.assert_array_equal(scene.semantics(10), views(1.0)[1])
    assert (scene.grid.resolution_m, scene.grid.origin.tolist()) == (0.1, [-1.0, -2.0])
    assert [f.name for f in viplanner_folders(tmp_path)] == ["home"]
    with pytest.raises(ValueError, match="no environment hom"):
        viplanner_folders(tmp_path, ["hom"])


def test_colours_are_carried_over_to_the_depth_camera():
    depth, colours = views(0.0)
    K = np.array([[FOCAL, 0, SIZE[0] / 2], [0, FOCAL, SIZE[1] / 2], [0, 0, 1]])
    pose, aside = np.eye(4), np.eye(4)
    aside[1, 3] = 1.0  # a metre to the left: what lies at the right edge is not seen
    np.testing.assert_array_equal(warped(colours, depth, K, K, pose, pose), colours)
    found = warped(colours, depth, K, K, pose, aside)
    np.testing.assert_array_equal(found[:24, :54], colours[:24, :54])
    assert (found[10, -1] == 0).all()


def test_poses_are_read_as_scipy_does():
    turn = Rotation.from_euler("zyx", [0.3, -0.2, 0.1])
    rows = np.array([[1.0, 2, 3, *turn.as_quat()]])
    (pose,) = pose_matrices(rows, "file")
    np.testing.assert_allclose(pose[:3, :3], turn.as_matrix())
    np.testing.assert_allclose(levelled(pose, 0.7)[:3, 3], [1, 2, 0.7])
    np.testing.assert_allclose(levelled(pose, 0.7)[:3, 2], [0, 0, 1])
    assert rows_of(3).shape == (3, 7)


def test_recorded_walks_have_maps_of_their_clouds(tmp_path):
    root = write_walks(tmp_path / "data")
    scenes = recorded_scenes(root, None, tmp_path / "cache", GeometricSettings())
    assert [scene.name for scene in scenes] == ["simulated_zed/scene_0", "simulated_zed/scene_1"]
    scene = scenes[0]
    assert [len(walk) for walk in scene.walks] == [40, 44, 48]
    assert scene.poses.shape == (132, 4, 4)
    assert scene.depth(131).shape == (36, 64)
    assert scene.semantics(0) is None
    on_floor, in_wall = scene.grid.at(np.array([[1.0, 0.0], [1.0, 1.3]]))
    assert on_floor == pytest.approx(0, abs=0.01)
    assert in_wall > 1


def test_floor_has_no_gaps_between_the_points_of_a_cloud(tmp_path):
    root = write_walks(tmp_path / "data")
    scene = recorded_scenes(root, None, tmp_path / "cache", VIPLANNER)[0]
    x, y = np.meshgrid(np.arange(0.5, 2.5, 0.02), np.arange(-0.5, 0.5, 0.02))
    assert scene.grid.at(np.column_stack([x.ravel(), y.ravel()])).max() < 0.01


def test_a_place_without_floor_has_no_map(tmp_path):
    root = write_root(tmp_path / "data")  # a point of floor each metre
    with pytest.raises(ValueError, match="scene_0: map: found too little floor"):
        recorded_scenes(root, None, tmp_path / "cache", GeometricSettings())


# ---------------------------------------------------------------------------------- bad input


def _write(folder, name, text):
    (folder / name).write_text(text)


MILLIMETRES = "".join(f"{100 * x} 0 500 0 0 0 1\n" for x in range(24))
IPLANNER_FAULTS = {
    "yaw in degrees": (
        lambda f: _write(f, "odom_ground_truth.txt", "[0, 0, 0, 0, 0, 90, 1]\n" * 24),
        "odom_ground_truth.txt: poses: found a quaternion of length 90",
    ),
    "millimetres": (
        lambda f: _write(f, "odom_ground_truth.txt", MILLIMETRES),
        "odom_ground_truth.txt: poses: found steps of 100 m .*are these millimetres",
    ),
    "no numbers": (
        lambda f: _write(f, "odom_ground_truth.txt", "x y z\n"),
        "odom_ground_truth.txt: file: found could not convert",
    ),
    "six numbers": (
        lambda f: _write(f, "odom_ground_truth.txt", "1 2 3 4 5 6\n"),
        "odom_ground_truth.txt: file: found 6 numbers",
    ),
    "nan": (
        lambda f: _write(f, "odom_ground_truth.txt", "nan 0 0 0 0 0 1\n"),
        "not all of them finite",
    ),
    "a gap": (lambda f: (f / "depth" / "7.png").unlink(), "depth: images: found 23.*of frame 7"),
    "another matrix": (
        lambda f: _write(f, "depth_intrinsic.txt", "400 0 640 0 0 400 360 0 0 0 1 0"),
        r"intrinsics: found a centre at \(640, 360\) for images of 64x48",
    ),
    "nine numbers": (
        lambda f: _write(f, "depth_intrinsic.txt", "400 0 640 0 400 360 0 0 1"),
        "depth_intrinsic.txt: file: found 9 numbers",
    ),
    "metres": (
        lambda f: Image.fromarray(np.full((48, 64), 3, np.uint16)).save(f / "depth" / "0.png"),
        "0.png: depth: found a median of 0.003 m",
    ),
    "a map elsewhere": (
        lambda f: _write(f / "maps" / "params", "tsdf1_param.txt", "0.1\n50\n50\n1\n"),
        r"indoor: map: found frame 0 at \(0.0, 0.0\), and 24 such",
    ),
    "no spacing": (
        lambda f: _write(f / "maps" / "params", "tsdf1_param.txt", "0\n-1\n-2\n1\n"),
        "tsdf1_param.txt: file: found",
    ),
    "another ground": (
        lambda f: np.savetxt(f / "maps" / "data" / "tsdf1_ground.txt", np.zeros((3, 3))),
        "maps: found a map of .* and a ground of",
    ),
}


@pytest.mark.parametrize("fault", IPLANNER_FAULTS)
def test_what_is_wrong_with_an_environment_of_iplanner_is_one_error(fault, tmp_path):
    folder = write_iplanner(tmp_path)
    harm, told = IPLANNER_FAULTS[fault]
    harm(folder)
    with pytest.raises(ValueError, match=told):
        IPlannerScene(folder, tmp_path / "cache")


VIPLANNER_FAULTS = {
    "no depth at all": (
        lambda f: [np.save(file, np.full((48, 64), np.nan)) for file in f.glob("depth/*.npy")],
        "depth: depth: found nothing but 0 or no number in 8 images",
    ),
    "no focal length": (
        lambda f: _write(f, "intrinsics.txt", "0 0 32 0 0 40 24 0 0 0 1 0\n" * 2),
        "intrinsics.txt: intrinsics: found focal lengths 0 and 40",
    ),
    "metres": (
        lambda f: np.save(f / "depth" / "0000_cam0.npy", np.full((48, 64), 3.0)),
        "0000_cam0.npy: depth: found a median of 0.003 m",
    ),
    "a pickle": (
        lambda f: np.save(f / "depth" / "0000_cam0.npy", np.array([{}] * 3, object)),
        "0000_cam0.npy: file: found",
    ),
    "colours": (
        lambda f: np.save(f / "depth" / "0000_cam0.npy", np.zeros((4, 4, 3))),
        "0000_cam0.npy: shape",
    ),
    "a frame less": (
        lambda f: np.savetxt(f / "camera_extrinsic_cam1.txt", rows_of(23), delimiter=","),
        r"camera_extrinsic: found \[24, 23\] poses",
    ),
    "no map": (
        lambda f: (f / "maps" / "data" / "cost_map_sem_map.txt").unlink(),
        "home: maps: found none",
    ),
    "no start": (
        lambda f: _write(f / "maps" / "params", "config_cost_map_sem.yaml", "general: {}\n"),
        "config_cost_map_sem.yaml: file: found KeyError",
    ),
    "harmful settings": (
        lambda f: _write(
            f / "maps" / "params", "config_cost_map_sem.yaml", "!!python/object/apply:os.getcwd []"
        ),
        "config_cost_map_sem.yaml: file: found TypeError",
    ),
}


@pytest.mark.parametrize("fault", VIPLANNER_FAULTS)
def test_what_is_wrong_with_an_environment_of_viplanner_is_one_error(fault, tmp_path):
    folder = write_viplanner(tmp_path)
    harm, told = VIPLANNER_FAULTS[fault]
    harm(folder)
    with pytest.raises(ValueError, match=told):
        ViPlannerScene(folder)


def test_nan_in_depth_is_unknown(tmp_path):
    folder = write_viplanner(tmp_path)
    depth = np.full((48, 64), 3000.0)
    depth[0, 0], depth[0, 1], depth[0, 2] = np.nan, np.inf, -5
    np.save(folder / "depth" / "0003_cam0.npy", depth)
    assert ViPlannerScene(folder).depth(3)[0, :4].tolist() == [0, 0, 0, 3]


def test_images_of_several_sizes_are_an_error(tmp_path):
    folder = write_iplanner(tmp_path)
    Image.fromarray(np.full((24, 32), 3000, np.uint16)).save(folder / "depth" / "3.png")
    with pytest.raises(ValueError, match="3.png: size: found 32x24 pixels, expected 64x48"):
        IPlannerScene(folder, tmp_path / "cache").depth(3)
    folder = write_viplanner(tmp_path)
    np.save(folder / "depth" / "0003_cam0.npy", np.full((24, 32), 3000.0))
    with pytest.raises(ValueError, match="0003_cam0.npy: size: found 32x24 pixels"):
        ViPlannerScene(folder).depth(3)


def test_a_missing_image_is_named(tmp_path):
    folder = write_viplanner(tmp_path)
    (folder / "depth" / "0005_cam0.npy").unlink()
    with pytest.raises(ValueError, match="depth: image: found none, expected 0005_cam0.png or"):
        ViPlannerScene(folder).depth(5)


def test_of_two_published_maps_the_planner_takes_its_own(tmp_path):
    maps = write_viplanner(tmp_path) / "maps"
    for part, ending in (("data", "_map.txt"), ("data", "_ground.txt"), ("params", ".yaml")):
        prefix = "config_" if part == "params" else ""
        file = maps / part / f"{prefix}cost_map_sem{ending}"
        shutil.copy(file, file.with_name(file.name.replace("_sem", "_geom")))
    np.savetxt(maps / "data" / "cost_map_geom_map.txt", np.full((70, 40), 0.25))
    costs = [
        ViPlannerScene(tmp_path / "home", tmp_path / "cache", settings).grid.costs.max()
        for settings in (SemanticSettings(), GeometricSettings())
    ]
    assert costs[0] > 1 > costs[1] == 0.25


def test_maps_of_classes_need_images_of_classes(tmp_path):
    root = write_walks(tmp_path / "data")
    with pytest.raises(ValueError, match="semantics: found no images"):
        recorded_scenes(root, None, tmp_path / "cache", SemanticSettings())


def test_images_of_classes_are_as_large_as_those_of_depth(tmp_path):
    root = write_walks(tmp_path / "data")
    for depth in sorted(root.glob("*/*/videos/*/observation.images.depth/*.png")):
        folder = depth.parent.with_name("observation.images.semantics")
        folder.mkdir(exist_ok=True)
        Image.new("RGB", (32, 24), FLOOR).save(folder / depth.name)
    with pytest.raises(ValueError, match=r"semantics.*png: size: found 32x24 pixels, expected"):
        recorded_scenes(root, None, tmp_path / "cache", SemanticSettings())


def test_the_colours_are_classes():
    assert (FLOOR, WALL) == ((0, 204, 0), (102, 0, 204))
