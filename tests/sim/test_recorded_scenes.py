"""Scenes are built again as they were recorded."""

import json
import shutil

import numpy as np
import trimesh

from internnav_hf.data import read_lerobot
from internnav_hf.geometry import robot_pose
from internnav_hf.sim.recorded_scenes import recorded_space
from scripts import make_dataset
from tests.data.vln_n1 import read_walks
from tests.sim.boxes import hall


def test_every_recorded_place_is_free_in_the_scene_built_again(simulated_data):
    space = recorded_space(simulated_data / "r2r_val_unseen" / "scene_00000")
    places = [
        robot_pose(pose)[:2]
        for episode in read_lerobot(simulated_data / "r2r_val_unseen")
        for pose in episode.columns["pose.125cm_30deg"]
    ]
    assert len(places) > 10
    assert space.is_navigable(np.array(places)).all()


def test_scenes_of_several_densities_are_built_again(tmp_path):
    make_dataset.main(
        make_dataset.DatasetArguments(
            out=str(tmp_path),
            format="vln_n1",
            density=["easy", "hard"],
            scenes=2,
            episodes=3,
            width=16,
            height=12,
            frame_spacing=0.2,
            grid_resolution=0.1,
            workers=1,
        )
    )
    walks = list(read_walks(tmp_path))
    assert len({record.unit for record, _ in walks}) == 3
    for record, columns in walks:
        space = recorded_space(record.unit)
        assert space.is_navigable(columns["action"][:, :2, 3]).all()


def test_a_recorded_mesh_is_read_again_where_it_lies_with_the_data(tmp_path, caplog):
    scene = hall(size=5.0)
    mesh = trimesh.Trimesh(scene.vertices, scene.faces, process=False)
    mesh.export(tmp_path / "home.ply")
    out = tmp_path / "data"
    sizes = {"episodes": 1, "width": 16, "height": 12, "workers": 1, "depth": False}
    arguments = {"out": str(out), "scene": [str(tmp_path / "home.ply")], **sizes}
    make_dataset.main(make_dataset.DatasetArguments(**arguments))
    assert recorded_space(out / "r2r" / "home") is None
    assert "home.ply: there is no such mesh" in caplog.text
    shutil.copy(tmp_path / "home.ply", out)
    recorded_space.cache_clear()
    assert recorded_space(out / "r2r" / "home").navigable.any()


def test_other_data_have_no_scene(simulated_data, tmp_path):
    assert recorded_space(tmp_path / "r2r" / "scene") is None
    folder = tmp_path / "copy" / "r2r" / "scene_00000"
    shutil.copytree(simulated_data / "r2r" / "scene_00000", folder)
    shutil.copy(simulated_data / "make_dataset.json", tmp_path / "copy")
    info = json.loads((folder / "meta" / "info.json").read_text())
    (folder / "meta" / "info.json").write_text(json.dumps(info | {"scene": "17DRP5sb8fy"}))
    assert recorded_space(folder) is None
