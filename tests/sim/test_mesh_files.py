import numpy as np
import pytest
import trimesh
from PIL import Image

from internnav_hf.camera import CameraSpec
from internnav_hf.geometry import camera_pose
from internnav_hf.sim.episodes import sample_episodes
from internnav_hf.sim.mesh_files import read_mesh_file
from internnav_hf.sim.navigation import NavigableSpace
from internnav_hf.sim.render import Renderer
from internnav_hf.sim.scenes import load_scene

Y_UP = trimesh.transformations.rotation_matrix(-np.pi / 2, [1, 0, 0])


def box(center, extents, color=None) -> trimesh.Trimesh:
    mesh = trimesh.creation.box(extents=extents)
    mesh.apply_translation(center)
    if color is not None:
        mesh.visual.face_colors = color
    return mesh


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A floor at -0.5 m, a wall and two chests, one with a name that says so; z up."""
    scene = trimesh.Scene()
    scene.add_geometry(box((3, 3, -0.55), (6, 6, 0.1), (90, 90, 90, 255)), node_name="floor")
    scene.add_geometry(box((6, 3, 0.7), (0.1, 6, 2.4), (180, 170, 150, 255)), node_name="wall_east")
    scene.add_geometry(
        box((2, 4, -0.2), (0.8, 0.6, 0.6), (200, 30, 30, 255)), node_name="Red_Chest.001"
    )
    scene.add_geometry(
        box((4, 2, -0.2), (0.6, 0.6, 0.6), (30, 30, 200, 255)), node_name="geometry_3"
    )
    folder = tmp_path_factory.mktemp("meshes")
    scene.export(folder / "home.ply")
    scene.apply_transform(Y_UP)
    scene.export(folder / "home.glb")
    return folder


def test_glb_is_turned_z_up_with_its_floor_at_zero(home):
    scene = load_scene(home / "home.glb")
    low, high = scene.bounds
    assert np.allclose(low, (0, 0, -0.1), atol=1e-5)
    assert np.allclose(high, (6.05, 6, 2.4), atol=1e-5)
    assert [thing.name for thing in scene.objects] == ["red chest"]
    assert np.allclose(scene.objects[0].position, (2, 4), atol=1e-5)
    assert set(scene.face_instance) == {0, 1}


def test_colours_of_faces_are_seen(home):
    scene = load_scene(home / "home.glb")
    camera = CameraSpec(width=32, height=24)
    view = Renderer(scene).render(camera_pose(2, 2, np.pi / 2, 1.0, 0.3), camera)
    shown = view.rgb[view.instances == 1].mean(axis=0)
    assert shown[0] > 3 * shown[2]


def test_episodes_of_a_scene_with_names_and_of_one_without(home):
    named, nameless = load_scene(home / "home.glb"), load_scene(home / "home.ply")
    assert not nameless.objects
    for scene, words in ((named, "red chest"), (nameless, "meters")):
        episodes = sample_episodes(scene, NavigableSpace(scene), 3, seed=0)
        assert len(episodes) == 3
        assert all(words in text for episode in episodes for text in episode.instructions)


def test_textures_are_seen_where_they_belong(tmp_path):
    """A wall, red in the left half of its picture and green in the right one."""
    picture = np.zeros((8, 8, 3), dtype=np.uint8)
    picture[:, :4], picture[:, 4:] = (255, 0, 0), (0, 255, 0)
    corners = np.array([[3, 1, 0], [3, -1, 0], [3, -1, 2], [3, 1, 2]], dtype=float)
    material = trimesh.visual.material.PBRMaterial(baseColorTexture=Image.fromarray(picture))
    visual = trimesh.visual.TextureVisuals(uv=[[0, 0], [1, 0], [1, 1], [0, 1]], material=material)
    wall = trimesh.Trimesh(corners, [[0, 1, 2], [0, 2, 3]], visual=visual, process=False)
    wall.apply_transform(Y_UP)
    wall.export(tmp_path / "wall.glb")
    view = Renderer(load_scene(tmp_path / "wall.glb")).render(
        camera_pose(0, 0, 0, 1.0, 0), CameraSpec(width=32, height=24)
    )
    left, right = view.rgb[12, 12].astype(int), view.rgb[12, 19].astype(int)
    assert left[0] > 100 > left[1]
    assert right[1] > 100 > right[0]


def test_colours_of_vertices_are_seen(tmp_path):
    mesh = box((0, 0, 0), (1, 1, 1))
    mesh.visual.vertex_colors = np.tile([10, 200, 30, 255], (8, 1))
    mesh.export(tmp_path / "cube.ply")
    assert np.allclose(load_scene(tmp_path / "cube.ply").face_colors, [10, 200, 30])


def test_files_that_are_no_mesh_are_named(tmp_path):
    (tmp_path / "broken.glb").write_bytes(b"glTF but not really")
    (tmp_path / "empty.ply").write_text(
        "ply\nformat ascii 1.0\nelement vertex 0\nproperty float x\nproperty float y\n"
        "property float z\nelement face 0\nproperty list uchar int vertex_indices\nend_header\n"
    )
    (tmp_path / "notes.txt").write_text("a red box")
    for name in ("broken.glb", "empty.ply", "notes.txt", "missing.obj"):
        with pytest.raises(ValueError, match=name):
            read_mesh_file(tmp_path / name)


def test_a_scene_without_floor_to_stand_on_is_told(tmp_path):
    box((0, 0, 0), (0.2, 0.2, 0.2)).export(tmp_path / "dice.ply")
    with pytest.raises(ValueError, match=r"dice has no floor .* metres"):
        NavigableSpace(load_scene(tmp_path / "dice.ply"))
