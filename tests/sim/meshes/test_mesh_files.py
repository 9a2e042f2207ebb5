import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image

from internnav_hf.camera import CameraSpec
from internnav_hf.geometry import camera_pose
from internnav_hf.sim import render
from internnav_hf.sim.episodes import sample_episodes
from internnav_hf.sim.meshes.mesh_files import read_mesh_file
from internnav_hf.sim.navigation import NavigableSpace
from internnav_hf.sim.render import Renderer, top_down
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


def textured(folder: Path, texture: bytes) -> Path:
    """A room whose material shows the picture file `rug.png` beside it."""
    (folder / "rug.png").write_bytes(texture)
    (folder / "room.mtl").write_text("newmtl rug\nKd 0.8 0.2 0.1\nmap_Kd rug.png\n")
    corners = "v 0 0 0\nv 4 0 0\nv 4 4 0\nv 0 4 0\nvt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\n"
    faces = "usemtl rug\nf 1/1 2/2 3/3\nf 1/1 3/3 4/4\n"
    (folder / "room.obj").write_text(f"mtllib room.mtl\n{corners}{faces}")
    return folder / "room.obj"


def png_that_claims(width: int, height: int) -> bytes:
    """A whole header, and one row of the picture."""
    chunks = {b"IHDR": struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)}
    chunks[b"IDAT"] = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks.items()
    )


@pytest.mark.parametrize(("width", "height"), [(10**9, 1), (40_000, 40_000), (12_000, 12_000)])
def test_textures_of_hostile_size_are_refused_before_they_are_decoded(tmp_path, width, height):
    with pytest.raises(ValueError, match=r"room\.obj"):
        read_mesh_file(textured(tmp_path, png_that_claims(width, height)))


def test_a_texture_that_is_not_there_leaves_the_plain_colour(tmp_path, caplog):
    path = textured(tmp_path, b"no picture")
    assert np.allclose(read_mesh_file(path).face_colors, [204, 51, 26], atol=1)
    assert "room.obj: a texture is left out" in caplog.text
    (tmp_path / "rug.png").unlink()
    assert read_mesh_file(path).textures is None


def test_files_elsewhere_are_not_opened(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    Image.new("RGB", (2, 2), "red").save(tmp_path / "secret.png")
    for name in ("../secret.png", str(tmp_path / "secret.png")):
        path = textured(home, b"")
        (home / "rug.png").unlink()
        (home / "room.mtl").write_text(f"newmtl rug\nKd 0 0 1\nmap_Kd {name}\n")
        assert read_mesh_file(path).textures is None
    os.mkfifo(home / "rug.png")
    (home / "room.mtl").write_text("newmtl rug\nmap_Kd rug.png\n")
    assert read_mesh_file(path).textures is None


def error_of(path: Path) -> str | None:
    try:
        read_mesh_file(path)
    except ValueError as error:
        return str(error)
    return None


@pytest.mark.parametrize("suffix", ["glb", "ply", "obj", "stl", "off"])
def test_damaged_meshes_are_named_or_read(home, tmp_path, suffix):
    whole, damaged = tmp_path / f"whole.{suffix}", tmp_path / f"damaged.{suffix}"
    box((0, 0, 0), (4, 4, 3)).export(whole)
    content, rng = whole.read_bytes(), np.random.default_rng(0)
    for _ in range(40):
        data = bytearray(content[: rng.integers(1, len(content) + 1)])
        place = rng.integers(len(data))
        data[place : place + 4] = rng.choice([b"\xff\xff\xff\xff", b"\0\0\0\0", b"9999", b"nan "])
        damaged.write_bytes(data)
        assert str(damaged) in (error_of(damaged) or str(damaged))


def test_archives_and_scenes_in_millimetres_are_refused(tmp_path):
    (tmp_path / "home.zip").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"home\.zip has no supported mesh format"):
        read_mesh_file(tmp_path / "home.zip")
    box((0, 0, 0), (6000, 6000, 2500)).export(tmp_path / "home.ply")
    with pytest.raises(ValueError, match=r"home\.ply .*6000 x 6000 x 2500 m.*millimetre"):
        read_mesh_file(tmp_path / "home.ply")


def test_a_grid_that_fits_in_no_memory_is_refused(home):
    with pytest.raises(ValueError, match="home: found .* in cells of .* expected at most"):
        NavigableSpace(load_scene(home / "home.glb"), resolution_m=1e-6)


def test_a_wide_scene_has_a_coarser_plan(tmp_path, monkeypatch):
    box((0, 0, -0.05), (6, 6, 0.1)).export(tmp_path / "room.ply")
    scene = load_scene(tmp_path / "room.ply")
    assert top_down(scene, 60.0)[0].shape == (396, 396, 3)
    monkeypatch.setattr(render, "MOST_PLAN_PIXELS", 100**2)
    plan, T_pixel_world = top_down(scene, 60.0)
    assert max(plan.shape) <= 101
    assert T_pixel_world[0, 0] == pytest.approx(100 / 6.6, rel=0.02)
