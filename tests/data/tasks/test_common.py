"""Tasks on formats that were published for other tasks: the same episodes give the same samples."""

import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from internnav_hf.camera import CameraSpec
from internnav_hf.data import (
    DualSystemCollator,
    DualSystemDataset,
    FeatureStore,
    NavDPCollator,
    NavDPDataset,
    System2Collator,
    System2Dataset,
    VLNCollator,
    VLNDataset,
)
from internnav_hf.data.features import cache_features
from internnav_hf.data.formats import registry
from internnav_hf.data.rows import camera_of
from internnav_hf.data.tasks import common
from internnav_hf.data.tasks.common import (
    DUAL_SYSTEM,
    NAVDP,
    RDP,
    SYSTEM2,
    VLN,
    cameras_in,
    check_datasets,
    check_groups,
)
from internnav_hf.data.tasks.vln import read_texts
from internnav_hf.data.vocabulary import learn_words
from internnav_hf.models.vln.processor import VLNProcessor, word_tokenizer
from internnav_hf.sim.episodes import EpisodeSampler
from internnav_hf.sim.expert import draw_demonstrations
from internnav_hf.sim.navigation import NavigableSpace
from internnav_hf.sim.render import Renderer
from internnav_hf.sim.scenes import SceneConfig, generate_scene
from internnav_hf.sim.writers.vln_ce import Recording, vln_ce_folder
from internnav_hf.sim.writers.vln_pe import record, vln_pe_folder
from tests.data import vln_ce, vln_n1
from tests.tiny.dual_system import tiny_dual_system
from tests.tiny.navdp import tiny_navdp_model
from tests.tiny.rdp import tiny_rdp
from tests.tiny.system2 import tiny_processor, tiny_system2
from tests.tiny.vln import tiny_cma

SIZE = (64, 48)
CAMERA = CameraSpec(*SIZE, pitch_deg=30.0, look_down_pitch_deg=30.0)
CE, PE = "r2r_125cm_30_30", "r2r"
NAMES = {"vln_ce": CE, "vln_pe": PE}
SIZES = {"image_width": SIZE[0], "image_height": SIZE[1]}
NAVDP_SIZES = {"image_size": 28, "action_horizon": 6, "action_stride": 1, "samples_per_episode": 2}


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    """The same episodes as `vln_ce` and as `vln_pe`, with images as files and as arrays."""
    folder = tmp_path_factory.mktemp("same")
    scene = generate_scene(3, SceneConfig(num_rooms=(1, 2), num_objects=(4, 4)))
    space, renderer = NavigableSpace(scene), Renderer(scene)
    sampler = EpisodeSampler(scene, space)
    info = {"scene": scene.name, "robot_type": "simulated"}
    found = list(draw_demonstrations(sampler, 3, np.random.default_rng(0)))
    with vln_ce_folder(folder / "vln_ce/r2r/a", renderer, Recording(CAMERA), info) as writer:
        for expert, steps in found:
            writer.add(expert.episode, steps)
    for name, image_files in (("vln_pe", True), ("arrays", False)):
        with vln_pe_folder(folder / name / "r2r/a", CAMERA, info, image_files) as writer:
            for expert, steps in found:
                writer.add(record(expert, steps, renderer, CAMERA))
    return {name: folder / name for name in ("vln_ce", "vln_pe", "arrays")}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def unknown_camera(root, tmp_path):
    """A copy whose camera is not recorded, as in InternData-N1."""
    shutil.copytree(root, tmp_path / "unknown")
    (tmp_path / "unknown/r2r/a/meta/info.json").write_text("{}")
    return tmp_path / "unknown"


def same(item, other, **tolerances):
    assert item.keys() == other.keys()
    for key, value in item.items():
        if key in tolerances:
            assert_allclose(other[key], value, atol=tolerances[key], err_msg=key)
        elif key != "images":
            assert_array_equal(other[key], value, err_msg=key)
    for ours, theirs in zip(item.get("images", ()), other.get("images", ()), strict=True):
        assert_array_equal(ours, theirs)


def train(model, dataset, collator):
    """Two steps on the first samples."""
    optimizer = torch.optim.SGD(model.train().parameters(), 1e-3)
    for _ in range(2):
        loss = model(**collator([dataset[0], dataset[1]])).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert loss.isfinite()


# The same samples


def test_system2_has_the_same_samples(roots, cache):
    ours, theirs = (System2Dataset(roots[n], NAMES[n], cache_dir=cache) for n in NAMES)
    assert theirs.samples.equals(ours.samples)
    assert set(ours.samples["answer_class"].to_pylist()) == {0, 1, 2}
    assert theirs.cameras == ours.cameras == [CAMERA]
    assert theirs.is_simulated
    for index in range(0, len(ours), 5):
        same(ours[index], theirs[index])
    arrays = System2Dataset(roots["arrays"], PE, cache_dir=cache)
    assert arrays.samples.equals(ours.samples)
    assert arrays[0]["images"][0].size == (384, 384)


def test_the_dual_system_has_the_same_samples(roots, cache):
    ours, theirs = (
        DualSystemDataset(roots[n], NAMES[n], cache_dir=cache, image_size=28) for n in NAMES
    )
    arrays = DualSystemDataset(roots["arrays"], PE, cache_dir=cache, image_size=28)
    assert len(theirs) == len(ours) > 10
    for index in range(0, len(ours), 5):
        same(ours[index], theirs[index], actions=1e-5)
        assert_allclose(arrays[index]["depth"], ours[index]["depth"], atol=1e-3)
    decision, other = ours.decision(3), theirs.decision(3)
    assert decision["camera"] == other["camera"]
    assert_array_equal(decision["look_down_depth"], other["look_down_depth"])


def test_navdp_has_the_same_samples(roots, cache):
    ours, theirs = (NavDPDataset(roots[n], cache_dir=cache, **NAVDP_SIZES) for n in NAMES)
    loose = dict.fromkeys(("actions", "perturbed_actions", "goal_point"), 1e-4)
    for index in range(len(ours)):
        item, other = ours[index], theirs[index]
        marks = item.pop("goal_pixel_map"), other.pop("goal_pixel_map")
        assert (marks[0] == marks[1]).float().mean() > 0.99  # poses differ in the seventh digit
        same(item, other, **loose, value=0.5, perturbed_value=0.5)


@pytest.mark.parametrize("targets", ["actions", "displacements"])
def test_instruction_followers_have_the_same_samples(roots, cache, targets):
    processor = followers_processor(roots, cache)
    ours, theirs = (
        VLNDataset(roots[n], processor, targets, cache_dir=cache) for n in ("vln_pe", "vln_ce")
    )
    assert len(theirs) == len(ours) > 2
    assert theirs.cameras == ours.cameras == [CAMERA]
    moves = ("previous_displacements", "displacements", "relative_pose", "stop_progress")
    for index in range(len(ours)):
        item, other = ours[index], theirs[index]
        # vln_pe has distances on a grid; of vln_ce, the steps forward are counted
        difference = np.abs(item.pop("progress") - other.pop("progress"))
        assert difference.mean() < 0.1
        same(item, other, **dict.fromkeys(moves, 1e-5))


def followers_processor(roots, cache):
    words = learn_words(read_texts(roots["vln_ce"], cache_dir=cache))
    return VLNProcessor(word_tokenizer(words), image_size=32, depth_size=32)


def test_features_are_kept_for_any_format(roots, cache, tmp_path):
    processor, store = followers_processor(roots, cache), FeatureStore(tmp_path, "aa", "float32")
    plain = VLNDataset(roots["vln_ce"], processor, cache_dir=cache)

    def pooled(frames):
        return frames.float().mean(dim=(-2, -1))

    assert cache_features(plain, store, pooled, pooled) == 3
    item = VLNDataset(roots["vln_ce"], processor, features=store, cache_dir=cache)[1]
    assert_allclose(item["rgb_features"], pooled(torch.as_tensor(plain[1]["rgb"])), rtol=1e-6)


# Training


def test_every_task_trains_on_vln_pe(roots, cache):
    processor, root = tiny_processor(), roots["arrays"]
    options = {"processor": processor, "cache_dir": cache}
    data = System2Dataset(root, PE, **options)
    train(tiny_system2(**SIZES), data, System2Collator(processor.pad_token_id))
    model = tiny_dual_system(**SIZES)
    expert = model.config.action_expert_config
    sizes = {"image_size": expert.image_size, "action_horizon": expert.action_horizon}
    data = DualSystemDataset(root, PE, **sizes, **options)
    train(model, data, DualSystemCollator(processor.pad_token_id))
    train(tiny_navdp_model(), NavDPDataset(root, cache_dir=cache, **NAVDP_SIZES), NavDPCollator())


@pytest.mark.parametrize(("make", "targets"), [(tiny_cma, "actions"), (tiny_rdp, "displacements")])
def test_instruction_followers_train_on_vln_ce(roots, cache, make, targets):
    words = followers_processor(roots, cache).tokenizer
    model = make(**({"vocab_size": len(words)} if make is tiny_cma else {}))
    sizes = {"image_size": model.config.image_size, "depth_size": model.config.depth_size}
    processor = VLNProcessor(words, **sizes)
    data = VLNDataset(roots["vln_ce"], processor, targets, max_steps=6, cache_dir=cache)
    train(model, data, VLNCollator())


# A camera that is not recorded


def test_a_camera_stands_in_where_none_is_recorded(roots, cache, tmp_path):
    root = unknown_camera(roots["vln_pe"], tmp_path)
    known = System2Dataset(roots["vln_pe"], PE, cache_dir=cache)
    given = System2Dataset(root, PE, cache_dir=cache, camera=CAMERA)
    assert given.samples.equals(known.samples)
    assert given.camera == CAMERA
    same(known[3], given[3])
    options = {"cache_dir": cache, **NAVDP_SIZES}
    same(
        NavDPDataset(roots["vln_pe"], **options)[3], NavDPDataset(root, camera=CAMERA, **options)[3]
    )
    processor = followers_processor(roots, cache)
    assert VLNDataset(root, processor, cache_dir=cache).camera is None
    assert VLNDataset(root, processor, cache_dir=cache, camera=CAMERA).camera == CAMERA
    with pytest.raises(ValueError, match=r"camera: found one recorded .*, expected no camera="):
        NavDPDataset(roots["vln_ce"], camera=CAMERA, **options)
    other = CameraSpec(32, 24)
    with pytest.raises(ValueError, match=r"width: found images of \[64\] px, expected 32 px, as"):
        System2Dataset(root, PE, cache_dir=cache, camera=other)


def test_a_camera_gives_the_size_of_images_that_a_format_does_not_know(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "FORMATS", {})

    def bare(folder):
        turns = {"actions": [2, 2, 1, 0], "goal_frames": [-1] * 4, "goals": [[-1, -1]] * 4}
        yield {"episode_index": 0, "instructions": ["Go."], "rgb_file": "#.png", **turns}

    registry.register_format("bare", "log.txt", bare)
    (tmp_path / "data/a").mkdir(parents=True)
    (tmp_path / "data/a/log.txt").touch()
    dataset = System2Dataset(tmp_path / "data", "bare", cache_dir=tmp_path, camera=CAMERA)
    assert dataset.image_size == SIZE
    assert dataset.episodes["focal"].null_count == 0


def test_without_a_camera_the_missing_columns_are_named(roots, cache, tmp_path):
    root = unknown_camera(roots["vln_pe"], tmp_path)
    columns = r"without goal_frames, goals, .*\(or focal, center, height_m, pitch, from which they"
    with pytest.raises(ValueError, match=rf"unknown \(vln_pe\): found episodes {columns}"):
        System2Dataset(root, PE, cache_dir=cache)
    columns = r"without focal, height_m, pitch, expected poses.*or pass camera="
    with pytest.raises(ValueError, match=rf"unknown \(vln_pe\): found episodes {columns}"):
        NavDPDataset(root, cache_dir=cache)
    recorded = roots["vln_pe"] / "r2r/a/meta/info.json"
    shutil.copy(recorded, root / "r2r/a/meta/info.json")  # as the message advises
    assert NavDPDataset(root, cache_dir=cache).camera == CAMERA


# Before anything is loaded


def test_a_format_without_the_columns_is_refused_at_once(tmp_path):
    root = vln_n1.write_root(tmp_path / "n1")
    missing = r"\(vln_n1\): found episodes without instructions, actions.* expected instructions"
    for task in (VLN, RDP):
        with pytest.raises(ValueError, match=missing):
            check_groups(task, root, None)
    for task in (SYSTEM2, DUAL_SYSTEM):
        with pytest.raises(ValueError, match=missing):
            check_datasets(task, root, "simulated_zed")


def test_formats_with_the_columns_pass(roots):
    check_datasets(SYSTEM2, roots["vln_ce"], CE, None)
    check_datasets(DUAL_SYSTEM, roots["vln_pe"], f"{PE}%50")
    for name in NAMES:
        for task in (NAVDP, VLN, RDP):
            check_groups(task, roots[name], None, ["r2r"])
    with pytest.raises(ValueError, match=rf"has no folder 'rxr'\. It has .*{PE}"):
        check_datasets(SYSTEM2, roots["vln_pe"], "rxr")
    with pytest.raises(ValueError, match="Dataset name 'rxr' is not of the form"):
        check_datasets(SYSTEM2, roots["vln_ce"], "rxr")
    with pytest.raises(ValueError, match="must lie between %1 and %100"):
        check_datasets(SYSTEM2, roots["vln_pe"], f"{PE}%0")


def test_actions_that_the_models_lack_are_named(roots, cache, tmp_path):
    shutil.copytree(roots["vln_ce"], tmp_path / "data")
    path = vln_ce.parquet_of(tmp_path / "data/r2r/a", 1)
    table = pq.read_table(path)
    actions = table["action"].to_pylist()
    still = next(i for i in range(2, len(actions)) if actions[i] in (2, 3))
    actions[still] = 5
    index = table.column_names.index("action")
    pq.write_table(table.set_column(index, "action", pa.array(actions, pa.int32())), path)
    with pytest.raises(ValueError, match="episode 1: actions: found 5, expected 0 stop, 1 forward"):
        VLNDataset(tmp_path / "data", followers_processor(roots, cache), cache_dir=cache)


def test_cameras_are_made_once_for_all_episodes_that_have_them(monkeypatch):
    columns = {"width": [64, 64, 32] * 50, "height": [48, 48, 24] * 50, "height_m": [1.0] * 150}
    columns |= {"focal": [[50.0, 50.0], None, [25.0, 25.0]] * 50, "pitch": [0.5] * 150}
    table = pa.table(columns | {"depth_scale": [1000.0] * 150})
    made = []
    monkeypatch.setattr(common, "camera_of", lambda row: made.append(row) or camera_of(row))
    cameras = cameras_in(table)
    assert [(c.width, c.height, c.hfov_deg) for c in cameras] == [(64, 48, 65.24), (32, 24, 65.24)]
    assert len(made) == 2
    assert cameras_in(table.drop_columns("pitch")) == []
    assert cameras_in(table.slice(0, 0)) == []
