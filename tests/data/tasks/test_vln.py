import json
import pickle
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from internnav_hf.camera import CameraSpec
from internnav_hf.data import FeatureStore, VLNCollator, VLNDataset
from internnav_hf.data.features import cache_features
from internnav_hf.data.rows import EpisodeRow
from internnav_hf.data.tasks.vln import read_texts
from internnav_hf.data.vocabulary import recover_words
from internnav_hf.models.vln.processor import VLNProcessor, word_tokenizer
from internnav_hf.sim.writers.vln_pe import RecordedEpisode, vln_pe_folder
from tests.data import vln_pe

IMAGE, DEPTH = 8, 6
TARGETS = ("previous_displacements", "displacements", "relative_pose", "stop_progress")


def processor_of(words=vln_pe.WORDS, **options) -> VLNProcessor:
    sizes = {"image_size": IMAGE, "depth_size": DEPTH}
    return VLNProcessor(word_tokenizer(words), **(sizes | options))


def pooled(frames: Tensor) -> Tensor:
    """A small encoder."""
    return frames.float().mean(dim=(-2, -1))


@pytest.fixture
def root(tmp_path):
    return vln_pe.write_root(tmp_path / "traj_data")


@pytest.fixture
def open_dataset(tmp_path):
    def make(root, processor=None, **options) -> VLNDataset:
        return VLNDataset(
            root, processor or processor_of(), cache_dir=tmp_path / "cache", **options
        )

    return make


def test_an_item_is_one_walk_with_one_instruction(root, open_dataset):
    dataset = open_dataset(root)
    assert len(dataset) == 2 * 2 * 3
    item = dataset[4]
    actions = vln_pe.some_actions(9)
    assert dataset.text(4) == vln_pe.INSTRUCTIONS[1]
    assert item["instruction_ids"].tolist() == [9, 10, 7, 2]
    assert item["actions"].tolist() == actions
    assert item["previous_actions"].tolist() == [-1, *actions[:-1]]
    assert item["inflection_weights"].shape == (9,)
    assert item["rgb"].shape == (9, 3, IMAGE, IMAGE)
    assert item["depth"].shape == (9, DEPTH, DEPTH)
    np.testing.assert_allclose(item["progress"], np.arange(9) / 9, rtol=1e-6)
    assert dataset.lengths.tolist() == [6] * 3 + [9] * 3 + [7] * 3 + [10] * 3


def test_items_go_into_a_batch(root, open_dataset):
    dataset = open_dataset(root)
    batch = VLNCollator()([dataset[0], dataset[11]])
    assert batch["step_mask"].sum(dim=1).tolist() == [6, 10]
    assert batch["rgb"].shape == (2, 10, 3, IMAGE, IMAGE)


def test_a_walk_is_cut_with_all_that_belongs_to_it(root, open_dataset):
    dataset = open_dataset(root, max_steps=7)
    assert dataset.lengths.max() == 7
    for key, values in dataset[11].items():
        assert key == "instruction_ids" or len(values) == 7, key
    assert dataset[11]["actions"].tolist() == vln_pe.some_actions(10)[:7]
    moves = open_dataset(root, max_steps=7, targets="displacements")[11]
    assert moves["stop_progress"][-1] == 1
    assert moves["displacements"][6, :3].any()  # the walk goes on


def test_displacements_are_for_rdp(root, open_dataset):
    item = open_dataset(root, targets="displacements")[3]
    steps = {key: values.shape for key, values in item.items() if key != "instruction_ids"}
    assert steps == {
        "rgb": (9, 3, IMAGE, IMAGE),
        "depth": (9, DEPTH, DEPTH),
        "progress": (9,),
        "previous_displacements": (9, 4, 3),
        "displacements": (9, 8, 3),
        "relative_pose": (9, 3),
        "stop_progress": (9,),
    }
    assert all(steps_of.dtype == np.float32 for key, steps_of in item.items() if key in TARGETS)
    assert np.abs(item["displacements"][..., 2]).max() == pytest.approx(np.radians(15), abs=1e-6)


def test_displacements_may_be_left_as_they_happened(root, open_dataset):
    unit = root / "r2r" / "scene_0"
    columns = vln_pe.columns_of(vln_pe.some_actions(6))
    columns["observation.robot_position"] = np.zeros((6, 3))  # against a wall
    vln_pe.write_parquet(unit, 0, columns)
    fixed = open_dataset(root, targets="displacements")[0]["displacements"]
    raw = open_dataset(root, targets="displacements", discrete_fix=False)[0]["displacements"]
    np.testing.assert_allclose(fixed[0, 0], [0.25, 0, 0], atol=1e-7)
    assert not raw[..., :2].any()


def test_the_executed_action_is_the_one_before(root, open_dataset):
    led = np.array([-1, 3, 3, 3, 3, 3])
    columns = vln_pe.columns_of(vln_pe.some_actions(6))
    columns["observation.previous_action"] = led
    vln_pe.write_parquet(root / "r2r" / "scene_0", 0, columns)
    item = open_dataset(root)[0]
    assert item["previous_actions"].tolist() == led.tolist()
    assert item["actions"].tolist() == vln_pe.some_actions(6)


def test_several_roots_are_one_dataset(root, tmp_path, open_dataset):
    more = vln_pe.write_root(tmp_path / "collected", scans=("dagger",), scenes=1)
    both, first, second = open_dataset([root, more]), open_dataset(root), open_dataset(more)
    assert len(both) == len(first) + len(second) == 18
    for position in (0, 11, 12, 17):
        alone = first[position] if position < 12 else second[position - 12]
        for key, values in both[position].items():
            np.testing.assert_array_equal(values, alone[key])
    assert both.text(17) == vln_pe.INSTRUCTIONS[2]
    assert len(set(both.feature_keys)) == 6


def test_scans_are_chosen(tmp_path, open_dataset):
    root = vln_pe.write_root(tmp_path / "d", scans=("r2r", "r2r_flash", "r2r_aliengo"))
    assert len(open_dataset(root, scans="r2r,r2r_aliengo")) == 24
    assert len(open_dataset(root, scans=["r2r"])) == 12


def test_stored_ids_stand_in_for_the_text(root, open_dataset):
    by_text, by_ids = open_dataset(root), open_dataset(root, instructions="tokens")
    for position in range(len(by_text)):
        for key, values in by_text[position].items():
            np.testing.assert_array_equal(by_ids[position][key], values)
    cut = open_dataset(root, processor_of(max_length=3), instructions="tokens")
    assert cut[0]["instruction_ids"].tolist() == [2, 3, 4]


def test_ids_of_another_vocabulary_are_refused(tmp_path, open_dataset):
    root = vln_pe.write_root(tmp_path / "d", words=("<pad>", "<unk>", *vln_pe.WORDS[:1:-1]))
    message = r"found 0 of 12 instructions with the word ids .*vocabularies differ"
    with pytest.raises(ValueError, match=message):
        open_dataset(root, instructions="tokens")
    fewer = processor_of(vln_pe.WORDS[:6])
    with pytest.raises(ValueError, match=r"scene_0, episode 0: instruction_tokens: found .*1 to 5"):
        open_dataset(root, fewer, instructions="tokens")
    assert len(open_dataset(root)) == 12


def test_ids_that_are_not_stored_cannot_be_taken(root, open_dataset):
    path = root / "r2r" / "scene_1" / "meta" / "tasks.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    vln_pe.write_lines(path, [row | {"instruction_tokens": None} for row in rows])
    with pytest.raises(ValueError, match="scene_1, episode 0: instruction_tokens: found none"):
        open_dataset(root, instructions="tokens")
    assert len(open_dataset(root)) == 12


def test_an_instruction_of_unknown_words_names_its_episode(tmp_path, open_dataset):
    root = tmp_path / "d"
    walks = [vln_pe.some_actions()] * 2
    vln_pe.write_scene(root / "r2r" / "a_1", walks, ["Walk on", "Xyzzy plugh"])
    with pytest.raises(ValueError, match=r"a_1, episode 0: instruction: found 'Xyzzy plugh'"):
        open_dataset(root)


def test_instructions_may_be_cut_as_published(root, open_dataset):
    ids = open_dataset(root, max_characters=9)[0]["instruction_ids"]
    assert ids.tolist() == [2, 3]


def test_features_stand_in_for_the_images(root, open_dataset, tmp_path, monkeypatch):
    plain = open_dataset(root)
    store = FeatureStore(tmp_path / "store", "aa", "float32")
    assert cache_features(plain, store, pooled, pooled, batch_size=4) == 4
    dataset = open_dataset(root, features=store, max_steps=8)
    monkeypatch.setattr(EpisodeRow, "images", None)
    item = dataset[11]
    assert "rgb" not in item
    assert "depth" not in item
    monkeypatch.undo()
    for kind in ("rgb", "depth"):
        expected = pooled(torch.from_numpy(plain[11][kind]))[:8]
        np.testing.assert_allclose(item[f"{kind}_features"], expected, rtol=1e-6)
    batch = VLNCollator()([dataset[0], item])
    assert batch["rgb_features"].shape == (2, 8, 3)


def test_all_frames_on_disk_have_features(tmp_path, open_dataset):
    unit = tmp_path / "d" / "r2r" / "a"
    vln_pe.write_scene(unit, [vln_pe.some_actions(40)], ends=[("fail", "stuck")])
    dataset = open_dataset(tmp_path / "d", max_steps=10)
    assert len(dataset[0]["rgb"]) == 10
    assert dataset.lengths.tolist() == [10] * 3
    assert dataset.read_frames(0)["depth"].shape == (40, DEPTH, DEPTH)


def test_features_of_another_encoder_are_refused(root, open_dataset, tmp_path):
    plain = open_dataset(root)
    store = FeatureStore(tmp_path / "store", "aa")
    dataset = open_dataset(root, features=store)
    with pytest.raises(ValueError, match="features: found no file"):
        dataset[0]
    cache_features(plain, store, pooled, pooled)
    with pytest.raises(ValueError, match="encoder_digest: found aa, expected bb"):
        FeatureStore(tmp_path / "store", "bb")
    (tmp_path / "other").mkdir()
    for path in store.folder.glob("*/*"):
        (tmp_path / "other" / path.parent.name).mkdir(exist_ok=True)
        shutil.copy(path, tmp_path / "other" / path.parent.name)
    other = open_dataset(root, features=FeatureStore(tmp_path / "other", "bb"))
    with pytest.raises(ValueError, match="encoder_digest: found aa, expected bb"):
        other[0]


def test_the_camera_is_what_the_simulator_wrote(root, open_dataset):
    dataset = open_dataset(root)
    assert dataset.camera is None
    assert not dataset.is_simulated
    camera = CameraSpec(*vln_pe.SIZE, pitch_deg=15)
    info = {"robot_type": "simulated", "camera": camera.to_dict()}
    (root / "r2r" / "scene_0" / "meta" / "info.json").write_text(json.dumps(info))
    dataset = open_dataset(root)
    assert dataset.camera == camera
    assert dataset.cameras == [camera]
    assert dataset.is_simulated


def test_the_older_layout_gives_the_same_items(tmp_path, open_dataset):
    actions = vln_pe.some_actions(7)
    vln_pe.write_scene(tmp_path / "new" / "r2r" / "a", [actions])
    vln_pe.write_trajectory(tmp_path / "old" / "r2r" / "trajectory_0", actions)
    new, old = open_dataset(tmp_path / "new"), open_dataset(tmp_path / "old")
    assert len(new) == len(old) == 3
    for key, values in new[1].items():
        np.testing.assert_array_equal(old[1][key], values)


def test_items_are_the_same_in_another_process(root, open_dataset):
    dataset = open_dataset(root)
    copy = pickle.loads(pickle.dumps(dataset))
    for key, values in dataset[-1].items():
        np.testing.assert_array_equal(copy[11][key], values)
    with pytest.raises(IndexError, match="sample 12 of 12"):
        dataset[12]


def test_texts_are_read_without_a_processor(root, tmp_path, open_dataset):
    texts = read_texts(root, cache_dir=tmp_path / "cache")
    assert texts == list(vln_pe.INSTRUCTIONS) * 4
    stored = open_dataset(root).episodes["instruction_tokens"].to_pylist()
    tokens = [row for rows in stored for row in rows]
    words = recover_words(texts, tokens)
    assert words[2:4] == ["walk", "past"]
    assert processor_of(words).encode_instructions(texts).tolist() == [
        row + [0] * (max(map(len, tokens)) - len(row)) for row in tokens
    ]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"targets": "pixels"}, "targets is 'pixels'; it must be one of"),
        ({"instructions": "ids"}, "instructions is 'ids'"),
        ({"max_steps": 0}, "max_steps is 0; it must be at least 1"),
        ({"scans": "rxr"}, "found no scan 'rxr'"),
    ],
)
def test_bad_options_are_named(root, open_dataset, option, message):
    with pytest.raises(ValueError, match=message):
        open_dataset(root, **option)


def test_no_root_is_named(open_dataset):
    with pytest.raises(ValueError, match="data_root is .*at least one folder"):
        open_dataset([])


@pytest.mark.parametrize("image_files", [False, True])
def test_what_the_simulator_writes_is_read(tmp_path, open_dataset, image_files):
    actions, done = np.array(vln_pe.some_actions(6)), np.array([1, 3, 2, 1, 1, 0])
    rgb, depth = vln_pe.rgb_of(6), 10 * vln_pe.depth_of(6)
    poses = vln_pe.poses_of(done.tolist())
    walk = RecordedEpisode(("Walk on",), poses, rgb, depth, actions, np.arange(6) / 5, done)
    plans = [[1, 2, 1, 0]] * 6
    folder = tmp_path / "d" / "simulated_train" / "scene_00001"
    folder.parent.mkdir(parents=True)
    with vln_pe_folder(folder, CameraSpec(width=16, height=12), {}, image_files) as writer:
        writer.add(replace(walk, plans=plans))
        writer.add(replace(walk, instructions=("Turn left", "Stop"), executed=None))
    sizes = processor_of(image_size=12, depth_size=12)
    dataset = open_dataset(tmp_path / "d", sizes)
    assert [dataset.text(i) for i in range(3)] == ["Walk on", "Turn left", "Stop"]
    assert dataset.is_simulated
    item = dataset[0]
    assert item["actions"].tolist() == actions.tolist()
    assert item["previous_actions"].tolist() == [-1, *done[:-1]]
    assert dataset[2]["previous_actions"].tolist() == [-1, *actions[:-1]]
    np.testing.assert_allclose(item["depth"], sizes.encode_depth(depth), atol=2e-3)
    difference = np.abs(item["rgb"].astype(int) - sizes.encode_rgb(rgb))
    assert difference.mean() <= 20 * image_files  # a JPEG of hard edges
    moves = open_dataset(tmp_path / "d", sizes, targets="displacements", discrete_fix=False)
    # what the expert would have done from there, not where the robot was led
    for item, turn in ((moves[0], 1), (moves[1], -1)):
        expected = [0, turn * np.radians(15)]
        np.testing.assert_allclose(item["displacements"][0, :2, 2], expected, atol=1e-6)


def test_where_others_than_the_expert_acted_rdp_needs_its_plans(root, open_dataset):
    columns = vln_pe.columns_of(vln_pe.some_actions(6))
    columns["observation.previous_action"] = np.array([-1, 3, 3, 3, 3, 3])
    unit = root / "r2r" / "scene_0"
    vln_pe.write_parquet(unit, 0, columns)
    with pytest.raises(ValueError, match=r"scene_0, episode 0: observation.expert_actions: found"):
        open_dataset(root, targets="displacements")
    assert open_dataset(root)[0]["actions"].tolist() == vln_pe.some_actions(6)
    columns["observation.expert_actions"] = np.tile([2, 1, 0, 0, 0, 0, 0, 0], (6, 1))
    vln_pe.write_parquet(unit, 0, columns)
    with pytest.raises(ValueError, match="observation.expert_steps: found none"):
        open_dataset(root, targets="displacements")
    columns["observation.expert_steps"] = np.full(6, 3)
    vln_pe.write_parquet(unit, 0, columns)
    item = open_dataset(root, targets="displacements", max_steps=4)[0]
    left = np.radians(15)
    expected = [[0, 0, left], [0.25 * np.cos(left), 0.25 * np.sin(left), 0], [0, 0, 0]]
    np.testing.assert_allclose(item["displacements"][3, :3], expected, atol=1e-6)
    assert item["displacements"].shape == (4, 8, 3)
    np.testing.assert_allclose(item["stop_progress"], [1 / 3, 2 / 4, 3 / 5, 4 / 6])
    columns["observation.expert_actions"][4, 2] = 7
    vln_pe.write_parquet(unit, 0, columns)
    message = "observation.expert_actions: found 7 at frame 4, expected one of"
    with pytest.raises(ValueError, match=message):
        open_dataset(root)
