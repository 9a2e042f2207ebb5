"""The command that writes datasets, and that what it writes is what training reads."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import trimesh

from internnav_hf.camera import CameraSpec
from internnav_hf.data import NavDPDataset, System2Dataset, VLNDataset, read_lerobot
from internnav_hf.data.formats.vln_pe.reader import ACTION
from internnav_hf.data.tasks.vln import read_texts
from internnav_hf.data.vocabulary import learn_words
from internnav_hf.files import temporary_beside
from internnav_hf.models.vln.processor import VLNProcessor, word_tokenizer
from scripts import make_dataset
from scripts.make_dataset import DatasetArguments
from tests.data import vln_n1, vln_pe
from tests.processes import started
from tests.warm import Program

ROOT = Path(__file__).parents[2]
SMALL = {
    "scenes": 2,
    "held_out_scenes": 1,
    "episodes": 3,
    "num_rooms": [1, 2],
    "num_objects": [3, 4],
    "width": 64,
    "height": 48,
    "workers": 1,
    "landmarks": True,
}

FOLLOWED = {"format": "vln_pe", "landmarks": False, "instructions": 3}

WALKS = {
    "format": "vln_n1",
    "landmarks": False,
    "density": ["easy", "hard"],
    "num_rooms": [2, 4],
    "num_objects": [5, 8],
    "camera_height": 0.5,
    "pitch": 15.0,
    "frame_spacing": 0.2,
    "distance": [2.5, 5.0],
    "grid_resolution": 0.1,
}


def arguments(out, **changes) -> DatasetArguments:
    return DatasetArguments(out=str(out), **(SMALL | changes))


def files(folder) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    out = tmp_path_factory.mktemp("data")
    make_dataset.main(arguments(out))
    return out


def test_scenes_lie_where_dataset_names_look_for_them(data):
    assert [path.name for path in sorted((data / "r2r").iterdir())] == [
        "scene_00000",
        "scene_00001",
    ]
    assert [path.name for path in (data / "r2r_val_unseen").iterdir()] == ["scene_00000"]
    episodes = list(read_lerobot(data / "r2r"))
    assert len(episodes) == 6
    assert all(len(episode.instructions) == 2 for episode in episodes)


def test_training_reads_what_is_written(data, tmp_path):
    for names in ("r2r_125cm_0_30", "r2r_val_unseen_125cm_0_30"):
        dataset = System2Dataset(data, names, landmarks=True, cache_dir=tmp_path / names)
        classes = {dataset[index]["answer_class"] for index in range(len(dataset))}
        assert classes == {0, 1, 2}
        pointing = next(s for s in map(dataset.__getitem__, range(len(dataset))) if s["goal_mask"])
        assert len(pointing["images"]) >= 2
        assert pointing["landmark_mask"].shape == (6, 8)


def test_the_same_seed_writes_the_same_files_and_two_processes_do_too(data, tmp_path):
    make_dataset.main(arguments(tmp_path, workers=2))
    assert files(tmp_path) == files(data)


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    out = tmp_path_factory.mktemp("followed")
    make_dataset.main(arguments(out, **FOLLOWED))
    return out


def test_the_same_walks_in_another_format(data, followed):
    for ours, scan in (("r2r", "simulated_train"), ("r2r_val_unseen", "simulated_val_unseen")):
        other = list(read_lerobot(data / ours))
        walks = list(vln_pe.read_walks(followed, [scan]))
        assert len(walks) == len(other) == (6 if ours == "r2r" else 3)
        assert all(len(walk.record.instructions) == 3 for walk in walks)
        actions = [walk.columns[ACTION] for walk in walks]
        same = [np.array_equal(a, b.actions) for a, b in zip(actions, other, strict=True)]
        assert any(same)  # the number of instructions changes what is drawn next


def test_followers_of_instructions_are_trained_on_what_is_written(followed, tmp_path):
    texts = read_texts(followed, cache_dir=tmp_path / "texts")
    processor = VLNProcessor(word_tokenizer(learn_words(texts)), image_size=32, depth_size=32)
    small = tmp_path / "files"
    make_dataset.main(arguments(small, **FOLLOWED, image_files=True))
    datasets = [
        VLNDataset(root, processor, scans="simulated_train", cache_dir=tmp_path / name)
        for name, root in (("arrays", followed), ("files", small))
    ]
    assert len(datasets[0]) == len(datasets[1]) == 18
    assert datasets[0].is_simulated
    assert datasets[0].camera == arguments(small, **FOLLOWED).camera
    for index in (0, 17):
        arrays, images = (dataset[index] for dataset in datasets)
        assert arrays["actions"][-1] == 0
        assert arrays["progress"][0] == 0
        assert arrays["previous_actions"].tolist() == [-1, *arrays["actions"][:-1]]
        assert 0.3 < arrays["depth"].max() <= 10
        assert np.allclose(arrays["depth"], images["depth"], atol=2e-3)
        assert np.abs(arrays["rgb"].astype(int) - images["rgb"]).mean() < 8
        assert arrays.keys() == images.keys()


def test_explorers_learn_what_the_expert_would_have_done(tmp_path):
    explored = FOLLOWED | {"exploration": 0.2, "scenes": 1, "held_out_scenes": 0}
    make_dataset.main(arguments(tmp_path, **explored))
    differ = 0
    for walk in vln_pe.read_walks(tmp_path):
        moved = np.linalg.norm(np.diff(walk.poses[:, :2], axis=0), axis=1) > 1e-6
        led = walk.columns["observation.previous_action"]
        assert (led[1:][moved] == 1).all()
        differ += int((led[1:] != walk.columns[ACTION][:-1]).sum())
    assert differ > 3


@pytest.fixture(scope="module")
def walks(tmp_path_factory):
    out = tmp_path_factory.mktemp("walks")
    make_dataset.main(arguments(out, **WALKS))
    return out


def test_walks_lie_in_a_group_for_each_split(walks):
    units = sorted(path.parent.parent for path in walks.rglob("pointcloud.ply"))
    assert [str(unit.relative_to(walks)) for unit in units] == [
        "simulated_train/scene_00000",
        "simulated_train/scene_00001",
        "simulated_val_unseen/scene_00000",
    ]
    assert len(list(vln_n1.read_walks(walks))) == 9


def test_navdp_is_trained_on_what_is_written(walks, tmp_path):
    for group in ("simulated_train", "simulated_val_unseen"):
        dataset = NavDPDataset(
            walks, image_size=32, action_stride=1, groups=group, cache_dir=tmp_path / group
        )
        assert dataset.is_simulated
        assert dataset.camera == CameraSpec(
            width=64, height=48, height_m=0.5, pitch_deg=15, look_down_pitch_deg=15, depth_scale=1e4
        )
        for index in range(0, len(dataset), 7):
            decision = dataset.decision(index)
            values, path = decision["values"], decision["path"]
            field = dataset.obstacles(index)
            x, y, yaw = decision["robot_pose"]
            turn = np.array([[np.cos(yaw), np.sin(yaw)], [-np.sin(yaw), np.cos(yaw)]])
            assert field(path @ turn + (x, y)).min() > 0.15  # the label touches nothing
            assert np.isfinite(values).all()
            assert dataset[index]["depth"].max() > 0.3


def test_a_folder_for_each_walk(walks, tmp_path):
    make_dataset.main(arguments(tmp_path, **WALKS, trajectory_folders=True))
    scene = tmp_path / "simulated_train" / "scene_00001"
    assert sorted(path.name for path in scene.iterdir()) == [
        f"trajectory_{index:06d}" for index in range(3)
    ]
    ours, theirs = ([c["action"] for _, c in vln_n1.read_walks(root)] for root in (tmp_path, walks))
    assert all(map(np.array_equal, ours, theirs))
    assert len(ours) == len(theirs) == 9


def test_scenes_without_a_long_way_are_left_out_and_all_such_are_an_error(tmp_path, caplog):
    small = WALKS | {"density": None, "num_rooms": [1, 2], "scenes": 4, "held_out_scenes": 0}
    some = small | {"episodes": 1, "distance": [6.5, 20.0]}
    for _ in range(2):  # a rerun tries again
        make_dataset.main(arguments(tmp_path / "some", **some))
        found = len(list((tmp_path / "some" / "simulated_train").iterdir()))
        assert 0 < found < 4
        assert f"{4 - found} scenes are left out: no path of 6.5 to 20 m" in caplog.text
        caplog.clear()
    with pytest.raises(ValueError, match="No scene is large enough for a path of 90 to 99 m"):
        make_dataset.main(arguments(tmp_path / "none", **some | {"distance": [90.0, 99.0]}))


def left_by_a_dead_process(path: Path) -> Path:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait(60)
    name = temporary_beside(path).name
    return path.with_name(name.replace(f"-{os.getpid()}-", f"-{gone.pid}-"))


def test_walks_of_a_killed_run_go_on(walks, tmp_path):
    make_dataset.main(arguments(tmp_path, **(WALKS | {"scenes": 1})))
    left_by_a_dead_process(tmp_path / "simulated_train" / "scene_00001").mkdir()
    make_dataset.main(arguments(tmp_path, **WALKS, workers=2))
    assert files(tmp_path) == files(walks)


def test_train_and_held_out_scenes_differ(data):
    train = files(data / "r2r" / "scene_00000")
    assert files(data / "r2r_val_unseen" / "scene_00000") != train
    assert files(data / "r2r" / "scene_00001") != train


def test_a_second_run_writes_only_what_is_missing(data, tmp_path):
    make_dataset.main(arguments(tmp_path, scenes=1))
    finished = tmp_path / "r2r" / "scene_00000" / "meta" / "info.json"
    written_at = finished.stat().st_mtime_ns
    make_dataset.main(arguments(tmp_path))
    assert finished.stat().st_mtime_ns == written_at
    assert files(tmp_path) == files(data)


def test_a_killed_run_leaves_whole_scenes_and_goes_on(tmp_path):
    many = {"scenes": 30, "episodes": 4, "held_out_scenes": 1, "landmarks": False}
    options = [f"--{name}={value}" for name, value in (SMALL | many).items() if name[:4] != "num_"]
    options = [option for option in options if "landmarks" not in option]
    command = [sys.executable, "-m", "scripts.make_dataset", f"--out={tmp_path}", *options]
    command += ["--num_rooms", "1", "2", "--num_objects", "3", "4"]
    scenes = tmp_path / "r2r"
    with started(command, cwd=ROOT, start=Program):
        deadline = time.monotonic() + 60
        while len(list(scenes.glob("scene_*"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
    survivors = sorted(scenes.glob("scene_*"))
    assert 2 <= len(survivors) < 30
    assert len(list(read_lerobot(scenes))) == 4 * len(survivors)  # hidden leftovers do not count
    make_dataset.main(arguments(tmp_path, **(many | {"scenes": len(survivors) + 1})))
    assert len(list(read_lerobot(scenes))) == 4 * (len(survivors) + 1)
    assert not list(scenes.glob(f".{survivors[-1].name}*"))


def test_other_arguments_for_the_same_folder_are_refused(data):
    before = files(data)
    with pytest.raises(ValueError, match=r"episodes was 3, is 4, seed was 0, is 1"):
        make_dataset.main(arguments(data, episodes=4, seed=1))
    assert files(data) == before


def test_a_folder_from_before_an_argument_existed_goes_on(data, tmp_path):
    make_dataset.main(arguments(tmp_path, scenes=1))
    path = tmp_path / make_dataset.ARGUMENTS_FILE
    known = json.loads(path.read_text())
    for name in ("density", "frame_spacing", "distance"):
        del known[name]
    path.write_text(json.dumps(known))
    make_dataset.main(arguments(tmp_path))
    assert len(list(read_lerobot(tmp_path / "r2r"))) == 6


def test_two_formats_do_not_share_a_folder(data):
    with pytest.raises(ValueError, match="format was vln_ce, is vln_n1"):
        make_dataset.main(arguments(data, **WALKS))


def test_arguments_may_change_until_a_scene_is_written(tmp_path):
    (tmp_path / make_dataset.ARGUMENTS_FILE).write_text(json.dumps({"seed": 5}))
    make_dataset.main(arguments(tmp_path, scenes=1, episodes=1))
    assert len(list(read_lerobot(tmp_path))) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"episodes": 0}, "--episodes must be at least 1"),
        ({"num_rooms": [2]}, "--num_rooms takes two numbers"),
        ({"num_rooms": [3, 2]}, "num_rooms needs two positive values in order"),
        ({"instructions": 4}, "--instructions must be 1, 2 or 3"),
        ({"exploration": 1.5}, "--exploration is a share"),
        ({"distance": [3.0, 2.0]}, "--distance takes two positive lengths in order"),
        ({"frame_spacing": 0.0}, "--frame_spacing must be positive"),
        ({"density": ["hard"]}, "--density replaces --num_rooms"),
        ({"density": ["dense"], "num_rooms": [2, 4], "num_objects": [5, 8]}, "no density 'dense'"),
        ({"heading_noise": 20.0}, "--heading_noise has no effect on --format vln_ce"),
        ({"image_files": True}, "--image_files has no effect on --format vln_ce"),
        (FOLLOWED | {"depth": False}, "--depth has no effect on --format vln_pe"),
        (FOLLOWED | {"distance": [1.0, 2.0]}, "--distance has no effect on --format vln_pe"),
        (FOLLOWED | {"instructions": 4}, "--instructions must be 1, 2 or 3"),
        (WALKS | {"depth": False}, "--depth has no effect on --format vln_n1"),
        (WALKS | {"scene": ["home.glb"]}, "--density is for generated scenes, but --scene"),
        ({"hfov": 200.0}, "hfov_deg must lie between"),
        ({"scene": ["nowhere.glb"]}, r"no mesh file nowhere\.glb"),
    ],
)
def test_wrong_arguments_are_told_before_anything_is_written(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        make_dataset.main(arguments(tmp_path / "out", **changes))
    assert not (tmp_path / "out").exists()


def test_episodes_in_a_mesh_file(tmp_path):
    home = trimesh.Scene()
    for name, center, extents in (
        ("ground", (0, 0, -0.1), (6, 6, 0.2)),
        ("old chest", (1.5, 1.0, 0.3), (0.7, 0.7, 0.6)),
    ):
        mesh = trimesh.creation.box(extents=extents)
        mesh.apply_translation(center)
        home.add_geometry(mesh, node_name=name)
    home.apply_transform(trimesh.transformations.rotation_matrix(-1.5707963, [1, 0, 0]))
    home.export(tmp_path / "home.glb")
    make_dataset.main(arguments(tmp_path / "out", scene=[str(tmp_path / "home.glb")]))
    episodes = list(read_lerobot(tmp_path / "out" / "r2r" / "home"))
    assert len(episodes) == 3
    assert all("old chest" in text for episode in episodes for text in episode.instructions)
    walks = WALKS | {"density": None, "scene": [str(tmp_path / "home.glb")]}
    make_dataset.main(arguments(tmp_path / "walks", **walks))
    assert {record.unit.name for record, _ in vln_n1.read_walks(tmp_path / "walks")} == {"home"}


def test_a_broken_mesh_is_named(tmp_path):
    (tmp_path / "broken.glb").write_bytes(b"not a mesh")
    with pytest.raises(ValueError, match=r"broken\.glb"):
        make_dataset.main(arguments(tmp_path / "out", scene=[str(tmp_path / "broken.glb")]))
    assert not list((tmp_path / "out" / "r2r").iterdir())
