import json
import re

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from PIL import Image
from safetensors.numpy import load_file
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from internnav_hf.data import DualSystemCollator, DualSystemDataset, System2Dataset
from internnav_hf.data.readers.images import open_depth
from internnav_hf.data.tasks.dual_system import frames_to_goal
from internnav_hf.geometry import camera_pose, project
from internnav_hf.models.system2.processor import System2Processor
from internnav_hf.trajectory import path_of
from scripts import make_dataset
from tests.data.vln_ce import (
    DOWN,
    GOLDEN,
    LEVEL,
    depth_of,
    golden,
    golden_image,
    image_of,
    logged,
    parquet_of,
    straight_episode,
    write_depth,
    write_parquet,
    write_scene,
)
from tests.tiny.qwen_tokenizer import qwen_tokenizer
from tests.tiny.system2 import tiny_processor

SIZE = (64, 48)
SCALE = np.array([4.0, 4.0, 1.0])
ITEM = load_file(GOLDEN.with_name("dual_sample.safetensors"))


@pytest.fixture(scope="module")
def golden_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("dual")
    scene = root / "r2r" / "scene"
    episodes = golden()["episodes"]
    write_scene(scene, episodes, quality=30)
    for episode in episodes:
        write_depth(scene, episode, (640, 480))
    for frame in (16, 18, 20):  # those of the golden, without loss
        golden_image(frame, True, (640, 480)).save(image_of(scene, 0, frame, DOWN), "PNG")
    return root


@pytest.fixture(scope="module")
def golden_dataset(golden_root):
    processor = System2Processor(
        Qwen2VLImageProcessorPil(size={"shortest_edge": 3136, "longest_edge": 12_845_056}),
        qwen_tokenizer(),
    )
    return make(golden_root, processor=processor, cache_dir=golden_root / "cache")


@pytest.fixture
def root(tmp_path):
    scene = tmp_path / "data" / "r2r" / "scene"
    episodes = [straight_episode(index) for index in range(2)]
    write_scene(scene, episodes, SIZE)
    for episode in episodes:
        write_depth(scene, episode, SIZE)
    return tmp_path / "data"


@pytest.fixture
def scene(root):
    return root / "r2r" / "scene"


def make(root, **options):
    options.setdefault("cache_dir", root.parent / "cache")
    return DualSystemDataset(root, "r2r_125cm_0_30", **options)


def row_of(dataset, frame_index, end_frame):
    samples = dataset.samples.select(["frame_index", "end_frame"]).to_pylist()
    return samples.index({"frame_index": frame_index, "end_frame": end_frame})


def frame_sample(num_frames, depth=True, size=4, horizon=3):
    """One of a collator's samples without a processor's work."""
    ids = np.arange(5)
    sample = {
        **dict.fromkeys(("input_ids", "labels", "mm_token_type_ids"), ids),
        "pixel_values": np.zeros((4, 12), np.float32),
        "image_grid_thw": np.array([[1, 2, 2]]),
        "goal_pixel": np.zeros(2, np.float32),
        "goal_mask": True,
        "answer_class": 0,
        "rgb": np.arange(num_frames * 3 * size**2, dtype=np.uint8).reshape(-1, 3, size, size),
        "actions": np.random.default_rng(0).random((num_frames, horizon, 3), np.float32),
    }
    if depth:
        sample["depth"] = np.full((num_frames, size, size), num_frames, np.float32)
    return sample


def test_the_item_equals_the_golden(golden_dataset):
    item = golden_dataset[row_of(golden_dataset, 16, 22)]
    images = item["rgb"].transpose(0, 2, 3, 1).astype(int)
    assert item["rgb"].dtype == np.uint8
    assert images.shape == ITEM["traj_images_u8"].shape
    assert np.abs(images - ITEM["traj_images_u8"]).max() <= 1
    assert_allclose(item["depth"], ITEM["traj_depths"], atol=1e-6)
    assert_allclose(item["actions"] * SCALE, ITEM["traj_poses"], atol=1e-5)
    assert item["depth"].dtype == item["actions"].dtype == np.float32
    longer = golden_dataset[row_of(golden_dataset, 0, 10)]
    assert_allclose(longer["actions"] * SCALE, ITEM["traj_poses_a"], atol=1e-5)


def test_the_batch_has_the_golden_shapes(golden_dataset):
    """But for the number of tokens: the golden was made with another tokenizer."""
    rows = [row_of(golden_dataset, 0, 10), row_of(golden_dataset, 16, 22)]
    batch = DualSystemCollator(0)([golden_dataset[row] for row in rows])
    shapes = json.loads(GOLDEN.with_name("dual_batch_shapes.json").read_text())
    for ours, theirs in (
        ("pixel_values", "pixel_values"),
        ("image_grid_thw", "image_grid_thw"),
        ("depth", "traj_depths"),
        ("actions", "traj_poses"),
    ):
        assert list(batch[ours].shape) == shapes[theirs]
    assert list(batch["rgb"].permute(0, 1, 3, 4, 2).shape) == shapes["traj_images"]
    assert batch["frame_mask"].sum(1).tolist() == [5, 3]


def test_the_batch_in_the_docstring_is_real(golden_dataset):
    rows = [row_of(golden_dataset, 0, 10), row_of(golden_dataset, 16, 22)]
    batch = DualSystemCollator(0)([golden_dataset[row] for row in rows])
    pattern = re.compile(r"^\s+(\w+)\s+(\([\d, ]+\))\s+(\w+)", re.MULTILINE)
    matches = pattern.finditer(DualSystemCollator.__doc__)
    described = {match[1]: (match[2], f"torch.{match[3]}") for match in matches}
    assert described == {key: (str(tuple(v.shape)), str(v.dtype)) for key, v in batch.items()}


def test_the_text_ends_with_the_answer(golden_dataset):
    item = golden_dataset[row_of(golden_dataset, 16, 22)]
    text = golden_dataset.processor.tokenizer.decode(item["input_ids"][-12:])
    assert text.endswith("assistant\n258 332<|im_end|>\n")


def test_everything_of_system2_stays_as_it_was(golden_dataset, golden_root):
    system2 = System2Dataset(
        golden_root,
        "r2r_125cm_0_30",
        golden_dataset.processor,
        pixel_goal_only=True,
        cache_dir=golden_root / "cache",
    )
    assert len(system2) == len(golden_dataset)
    ours, theirs = golden_dataset[1], system2[1]
    assert set(ours) - set(theirs) == {"rgb", "depth", "actions"}
    assert all(np.array_equal(ours[key], theirs[key]) for key in theirs)
    assert golden_dataset.image_size == (640, 480)
    assert golden_dataset.camera == system2.camera


@pytest.mark.parametrize(
    ("num_ahead", "num_frames", "expected"),
    [
        (3, 12, [0, 2]),
        (9, 12, [0, 2, 4, 6, 8]),
        (24, 12, list(range(0, 24, 2))),
        (25, 12, list(range(0, 25, 3))),
        (60, 12, list(range(0, 60, 5))),
        (9, 1, [0]),
    ],
)
def test_frames_on_the_way_are_spread_evenly(num_ahead, num_frames, expected):
    assert list(frames_to_goal(num_ahead, num_frames)) == expected


def test_each_file_is_decoded_once_and_no_other(root, scene, monkeypatch):
    dataset = make(root, num_history=3)
    opened = []
    open_file = Image.open
    monkeypatch.setattr(Image, "open", logged(open_file, opened))
    monkeypatch.setattr("pyarrow.parquet.ParquetFile", lambda *_, **__: 1 / 0)
    dataset[row_of(dataset, 4, 9)]
    level = [image_of(scene, 0, frame, LEVEL) for frame in (0, 1, 3, 4)]
    down = [image_of(scene, 0, frame, DOWN) for frame in (4, 6)]
    assert opened == [*level, *down, *(depth_of(scene, 0, frame) for frame in (4, 6))]


def test_sizes_are_arguments(root):
    item = make(root, image_size=28, action_horizon=8, num_frames=1)[0]
    assert item["rgb"].shape == (1, 3, 28, 28)
    assert item["depth"].shape == (1, 28, 28)
    assert item["actions"].shape == (1, 8, 3)
    with pytest.raises(ValueError, match="num_frames is 0; it must be at least 1"):
        make(root, num_frames=0)


def test_depth_far_away_is_clipped_and_unknown_stays_unknown(root, scene):
    depth_mm = np.full(SIZE[::-1], 7000, np.uint16)
    depth_mm[:24] = 0
    Image.fromarray(depth_mm).save(depth_of(scene, 0, 0))
    assert np.unique(make(root)[0]["depth"][0]).tolist() == [0.0, 5.0]


def test_without_depth_no_depth_is_needed(root, scene):
    for frame in range(12):
        depth_of(scene, 0, frame).unlink()
        depth_of(scene, 1, frame).unlink()
    dataset = make(root, depth=False)
    assert "depth" not in dataset[0]
    assert "look_down_depth" not in dataset.decision(0)
    samples = [frame_sample(2, depth=False), frame_sample(1, depth=False)]
    assert "depth" not in DualSystemCollator(0)(samples)


def test_a_decision_tells_the_way_and_where_it_lies(golden_dataset, golden_root):
    row = row_of(golden_dataset, 16, 22)
    decision = golden_dataset.decision(row)
    path = path_of(ITEM["traj_poses"][0] / SCALE)
    assert_allclose(decision["path"], path, atol=1e-5)
    assert decision["scene"] == "scene"
    assert decision["scene_folder"] == golden_root / "r2r" / "scene"
    assert decision["robot_pose"][2] == pytest.approx(np.radians(-30), abs=1e-5)
    assert decision["camera"] == golden_dataset.camera
    assert decision["look_down_depth"].shape == (480, 640)
    assert decision["goal_pixel"] == (258, 332)
    assert len(decision["history"]) == 8
    assert not golden_dataset.is_simulated


def test_frames_are_padded_by_repeating_the_last(root):
    long, short = frame_sample(3), frame_sample(1)
    batch = DualSystemCollator(0)([short, long])
    assert batch["frame_mask"].tolist() == [[True, False, False], [True] * 3]
    for key in ("rgb", "depth", "actions"):
        assert torch.equal(batch[key][1], torch.as_tensor(long[key]))
        assert torch.equal(batch[key][0], torch.as_tensor(short[key]).expand_as(batch[key][0]))
    assert batch["rgb"].dtype == torch.uint8
    assert not {"labels", "goal_pixel", "goal_mask", "answer_class"} & batch.keys()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("actions"), "sample 1 of the batch has no rgb and actions"),
        (lambda s: s.pop("depth"), "expected the kinds and sizes of sample 0"),
        (lambda s: s.update(rgb=s["rgb"][..., :3]), "expected the kinds and sizes of sample 0"),
        (lambda s: s.update(rgb=s["rgb"][:1]), "numbers of frames differ"),
        (lambda s: s.pop("input_ids"), "sample 1 of the batch has no input_ids"),
    ],
)
def test_a_misfit_is_refused(change, message):
    samples = [frame_sample(2), frame_sample(2)]
    change(samples[1])
    with pytest.raises(ValueError, match=message):
        DualSystemCollator(0)(samples)


def test_a_dataset_without_depth_says_what_to_do(root, scene):
    depth_of(scene, 0, 0).parent.rename(scene / "videos" / "chunk-000" / "elsewhere")
    expected = (
        r"no scene of .*r2r has images observation\.images\.depth\.125cm_30deg .*make_dataset"
        r".*--depth false"
    )
    with pytest.raises(ValueError, match=expected):
        make(root)


def test_one_missing_depth_image_is_a_broken_episode(root, scene, caplog):
    missing = depth_of(scene, 1, 5)
    missing.unlink()
    with pytest.raises(ValueError, match="1 of 2 episodes are broken") as error:
        make(root)
    assert f"{missing}: file: found no file" in str(error.value)
    assert len(make(root, max_broken_fraction=0.5)) == len(make(root, depth=False)) // 2
    assert str(missing) in caplog.text


def test_depth_that_is_no_depth_is_refused(root, scene):
    dataset = make(root)
    Image.new("L", SIZE).save(depth_of(scene, 0, 0))
    with pytest.raises(ValueError, match=r"_0\.png: mode: found L, expected 16-bit grey"):
        dataset[0]


def test_depth_of_another_size_is_refused(root, scene):
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(depth_of(scene, 0, 0))
    with pytest.raises(ValueError, match=r"_0\.png: size: found \(8, 8\), expected \(64, 48\)"):
        make(root)


def test_nan_poses_are_refused(root, scene, monkeypatch):
    def nan_poses(actions, pitch_deg):
        poses = np.tile(np.eye(4, dtype=np.float32), (len(actions), 1, 1))
        poses[5] = np.nan
        return poses

    monkeypatch.setattr("tests.data.vln_ce.poses_of", nan_poses)
    write_parquet(scene, straight_episode(0))
    expected = r"pose\.125cm_30deg: found nan or infinity at frame 5, expected finite numbers"
    with pytest.raises(ValueError, match=expected) as error:
        make(root)
    assert str(parquet_of(scene, 0)) in str(error.value)


def test_a_goal_beyond_the_episode_is_refused(root, scene):
    episode = straight_episode(0)
    episode["relative_goal_frame_id"][4] = 40
    write_parquet(scene, episode)
    expected = r"relative_goal_frame_id\.125cm_30deg: found 40 at frame 4 of 12, expected -1 or a"
    with pytest.raises(ValueError, match=expected):
        make(root)


def test_nearest_pixels_are_picked_not_blended(tmp_path):
    Image.fromarray(np.tile(np.uint16([1000, 9000]), (4, 4))).save(tmp_path / "depth.png")
    assert set(np.unique(open_depth(tmp_path / "depth.png", (3, 3)))) <= {1.0, 9.0}


@pytest.fixture(scope="module")
def simulated_root(tmp_path_factory):
    out = tmp_path_factory.mktemp("simulated")
    sizes = {"scenes": 1, "held_out_scenes": 1, "episodes": 3, "width": 112, "height": 84}
    make_dataset.main(make_dataset.DatasetArguments(out=str(out), workers=1, **sizes))
    return out


def test_simulated_ways_end_at_the_pixel_that_system2_points_at(simulated_root):
    dataset = make(simulated_root)
    assert dataset.is_simulated
    for row in range(len(dataset)):
        decision = dataset.decision(row)
        camera, (u, v) = decision["camera"], decision["goal_pixel"]
        pitch = np.radians(camera.look_down_pitch_deg)
        T_robot_camera = camera_pose(0, 0, 0, camera.height_m, pitch)
        end = np.array([[*decision["path"][-1], 0.0]])
        (uv,), _ = project(end, T_robot_camera, camera.intrinsics)
        assert_allclose(uv, (u + 0.5, v + 0.5), atol=0.51)
        far = np.linalg.norm([*decision["path"][-1], camera.height_m])
        assert 0 < decision["look_down_depth"][v, u] <= far + 0.3


def test_simulated_samples_make_a_batch(simulated_root):
    processor = tiny_processor()
    dataset = make(simulated_root, processor=processor, image_size=28)
    loader = torch.utils.data.DataLoader(
        dataset, 4, collate_fn=DualSystemCollator(processor.pad_token_id), num_workers=1
    )
    batch = next(iter(loader))
    assert batch["rgb"].shape[2:] == (3, 28, 28)
    assert batch["actions"].shape[:2] == batch["depth"].shape[:2] == batch["frame_mask"].shape
    assert batch["actions"].isfinite().all()
    assert batch["actions"][..., :2].norm(dim=-1).amax() < 0.11
    assert (batch["depth"] > 0).float().mean() > 0.9
