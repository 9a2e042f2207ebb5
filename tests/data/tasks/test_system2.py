import json
import multiprocessing
import pickle
import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from internnav_hf.data import System2Collator, System2Dataset
from internnav_hf.data.readers.images import open_image
from internnav_hf.models.system2.dialogue import CONJUNCTIONS, IMAGE, render
from internnav_hf.models.system2.processor import System2Processor
from tests.data.vln_ce import (
    DOWN,
    GOLDEN,
    LEVEL,
    golden,
    golden_image,
    image_of,
    logged,
    straight_episode,
    write_scene,
)
from tests.tiny.qwen_tokenizer import qwen_tokenizer

SIZE = (64, 48)


class ToyProcessor:
    """One token per word, patches of one pixel row; enough to see what the collator does."""

    num_history = 8
    history_size = (32, 24)

    def encode(self, messages, images):
        ids = np.arange(1 + sum(len(message["content"].split()) for message in messages))
        grid = np.array([[1, image.height, image.width] for image in images])
        patches = np.concatenate([np.asarray(image).reshape(-1, 3) for image in images])
        return {
            "input_ids": ids,
            "labels": ids,
            "mm_token_type_ids": ids * 0,
            "pixel_values": patches.astype(np.float32),
            "image_grid_thw": grid,
        }


@pytest.fixture(scope="module")
def golden_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("vln_ce")
    episodes = golden()["episodes"]
    # half a pixel of the goals would leave a small image; the pictures' size decides nothing here
    write_scene(root / "r2r" / "scene", episodes, size=(640, 480), quality=30)
    return root


@pytest.fixture
def root(tmp_path):
    for number in range(3):
        episodes = [straight_episode(i, instruction=f"Go {number}. ") for i in range(2)]
        write_scene(tmp_path / "data" / "r2r" / f"scene{number}", episodes, SIZE)
    return tmp_path / "data"


def make(root, names="r2r_125cm_0_30", **options):
    options.setdefault("cache_dir", root.parent / "cache")
    return System2Dataset(root, names, **options)


def in_golden_form(dataset):
    for sample in dataset.samples.to_pylist():
        episode = dataset.episodes.slice(sample["episode"], 1).to_pylist()[0]
        action = (
            [sample["goal_u"], sample["goal_v"]],
            sample["actions"],
            0,
        )[sample["answer_class"]]
        length = sample["end_frame"] - sample["frame_index"]
        yield {
            "episode": episode["episode_index"],
            "instruction": episode["instructions"][sample["instruction_index"]],
            "height": 125,
            "pitch_1": 0,
            "pitch_2": 30,
            "start": sample["frame_index"],
            "end": sample["end_frame"],
            "action": action,
            "n_poses": length if sample["answer_class"] == 0 else None,
        }


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("system2", {}),
        ("pixel_goal_only", {"pixel_goal_only": True}),
        ("step3_future2", {"sample_step": 3, "num_future_steps": 2}),
    ],
)
def test_sample_lists_equal_the_golden(golden_root, tmp_path, name, options):
    dataset = make(golden_root, cache_dir=tmp_path, **options)
    assert list(in_golden_form(dataset)) == golden()["lists"][name]


def test_an_item_holds_the_frames_of_its_sample(golden_root, tmp_path):
    dataset = make(golden_root, cache_dir=tmp_path)
    item = dataset[1]  # episode 0, frame 8, a pixel goal
    frames = [0, 1, 2, 3, 4, 5, 6, 7, 8]
    assert [image.size for image in item["images"]] == [(384, 384)] * 9 + [(640, 480)]
    for frame, image in zip(frames, item["images"], strict=False):
        expected = open_image(image_of(golden_root / "r2r" / "scene", 0, frame, LEVEL))
        expected = expected.resize((384, 384), Image.Resampling.BILINEAR)
        assert np.array_equal(np.asarray(image), np.asarray(expected))
    down = open_image(image_of(golden_root / "r2r" / "scene", 0, 8, DOWN))
    assert np.array_equal(np.asarray(item["images"][-1]), np.asarray(down))
    assert item["goal_pixel"].tolist() == [330, 371]
    assert item["goal_pixel"].dtype == np.float32
    assert item["goal_mask"]
    assert item["answer_class"] == 0


def test_messages_name_each_image_once(golden_root, tmp_path):
    dataset = make(golden_root, cache_dir=tmp_path)
    for index in range(len(dataset)):
        item = dataset[index]
        text = "".join(message["content"] for message in item["messages"])
        assert text.count(IMAGE) == len(item["images"])
    roles = [message["role"] for message in dataset[0]["messages"]]
    assert roles == ["user", "assistant", "user", "assistant"]
    assert dataset[0]["messages"][1]["content"] == "↓"
    assert dataset[0]["messages"][3]["content"] == "312 260"
    assert dataset[8]["messages"][1]["content"] == "→"
    assert dataset[11]["messages"][1]["content"] == "←STOP"
    assert dataset[12]["messages"][1]["content"] == "STOP"
    assert "Walk to the sofa and stop. . Where" in dataset[0]["messages"][0]["content"]


def test_only_the_frames_of_a_sample_are_opened_and_once(root, monkeypatch):
    dataset = make(root, num_history=3)
    index = dataset.samples["frame_index"].to_pylist().index(4)
    opened = []
    open_file = Image.open
    monkeypatch.setattr(Image, "open", logged(open_file, opened))
    images = dataset[index]["images"]
    assert len(images) == 5
    scene = root / "r2r" / "scene0"
    level = [image_of(scene, 0, frame, LEVEL) for frame in (0, 1, 3, 4)]
    assert opened == [*level, image_of(scene, 0, 4, DOWN)]


def test_a_single_pitch_opens_the_current_frame_once(root, monkeypatch):
    dataset = make(root, "r2r_125cm_30_30", history_size=(32, 24))
    opened = []
    open_file = Image.open
    monkeypatch.setattr(Image, "open", logged(open_file, opened))
    current, look_down = dataset[0]["images"]
    assert len(opened) == 1
    assert (current.size, look_down.size) == ((32, 24), SIZE)


def test_conjunctions_are_seeded_and_change_with_the_epoch(root):
    def texts(seed, epoch=0):
        dataset = make(root, seed=seed, num_history=0)
        dataset.set_epoch(epoch)
        return [dataset[i]["messages"][0]["content"] for i in range(len(dataset))]

    assert texts(0) == texts(0)
    assert texts(0) != texts(1)
    assert texts(0) != texts(0, epoch=1)
    used = {c for c in CONJUNCTIONS for text in texts(0) if text.endswith(f"{c}{IMAGE}.")}
    assert len(used) > 3


def test_augmentation_is_seeded_and_leaves_the_look_down_view_alone(root):
    plain, first, again = make(root), make(root, augment=True), make(root, augment=True)
    index = plain.samples["frame_index"].to_pylist().index(4)
    pixels = [[np.asarray(i) for i in d[index]["images"]] for d in (plain, first, again)]
    assert all(np.array_equal(one, two) for one, two in zip(*pixels[1:], strict=True))
    changed = [not np.array_equal(a, b) for a, b in zip(pixels[0], pixels[1], strict=True)]
    assert changed == [True] * 5 + [False]
    first.set_epoch(1)
    assert not np.array_equal(np.asarray(first[index]["images"][0]), pixels[1][0])


def test_percent_is_the_same_in_every_process(root):
    whole = make(root)
    tables = [make(root, "r2r_125cm_0_30%30", seed=5).samples for _ in range(2)]
    assert tables[0].equals(tables[1])
    assert tables[0].num_rows == int(len(whole) * 0.3)
    assert not tables[0].equals(make(root, "r2r_125cm_0_30%30", seed=6).samples)


def test_datasets_are_joined_in_the_order_given(root):
    write_scene(root / "rxr" / "z", [straight_episode(7, instruction="Rx")], SIZE)
    dataset = make(root, ["rxr_125cm_0_30", "r2r_125cm_0_30%50"])
    alone = make(root, "rxr_125cm_0_30")
    assert len(dataset) == len(alone) + len(make(root)) // 2
    assert "Rx" in dataset[len(alone) - 1]["messages"][0]["content"]
    assert "Go 0" in dataset[len(alone)]["messages"][0]["content"]
    assert dataset.samples["episode"].to_pylist()[len(alone)] == 1


def test_a_decision_is_what_a_policy_meets(golden_root, tmp_path):
    decision = make(golden_root, cache_dir=tmp_path).decision(8)  # a turn at frame 12
    assert decision["instruction"] == "Walk to the sofa and stop. "
    assert len(decision["history"]) == 8
    assert decision["history"][0].size == decision["look_down"].size == (640, 480)
    assert decision["goal_pixel"] is None
    assert decision["actions"] == (3,)
    down = np.asarray(golden_image(12, True, (640, 480))).astype(int)
    assert np.abs(np.asarray(decision["look_down"]).astype(int) - down)[..., 0].mean() < 10


def test_the_camera_comes_from_the_name_the_images_and_the_info_file(root):
    assert make(root).camera.setting == "125cm_0_30"
    assert (make(root).camera.width, make(root).camera.height) == SIZE
    info = {"camera": {"hfov_deg": 90.0}}
    write_scene(root / "sim" / "a", [straight_episode(0)], SIZE, info=info)
    assert make(root, "sim_125cm_0_30").camera.hfov_deg == 90.0


def test_images_of_two_sizes_are_refused(root):
    write_scene(root / "rxr" / "z", [straight_episode(0)], (32, 24))
    with pytest.raises(ValueError, match="one size; found 32x24 in rxr_.*, 64x48 in r2r_"):
        make(root, "r2r_125cm_0_30,rxr_125cm_0_30")


def test_a_truncated_image_is_named_when_it_is_opened(root):
    dataset = make(root)
    path = image_of(root / "r2r" / "scene0", 0, 4, DOWN)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    index = dataset.samples["frame_index"].to_pylist().index(4)
    with pytest.raises(ValueError, match=r"image: found \d+ bytes .*[Tt]runcated") as error:
        dataset[index]
    assert str(path) in str(error.value)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.2, 0.6, 0.9, 0.99])
def test_a_cut_image_is_an_error(tmp_path, share):
    path = tmp_path / "image.jpg"
    golden_image(0, False, (160, 120)).save(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ValueError, match=r"image\.jpg: image: found"):
        open_image(path)


def test_landmark_masks_are_read_where_the_dataset_has_them(root):
    folder = root / "r2r" / "scene0" / "videos" / "chunk-000"
    folder = folder / f"observation.images.landmark.{DOWN}"
    folder.mkdir()
    for frame in range(12):
        pixels = np.full((3, 4), 51 * (frame == 4), np.uint8)
        Image.fromarray(pixels).save(folder / f"episode_000000_{frame}.png")
    dataset = make(root, landmarks=True, processor=ToyProcessor())
    index = dataset.samples["frame_index"].to_pylist().index(4)
    assert dataset[index]["landmark_mask"].shape == (3, 4)
    assert np.allclose(dataset[index]["landmark_mask"], 0.2)
    without = len(dataset) - 1
    assert "landmark_mask" not in dataset[without]
    batch = System2Collator(0)([dataset[index], dataset[without]])
    assert batch["landmark_mask"].shape == (2, 3, 4)
    assert batch["num_landmark_images"].tolist() == [1, 0]
    assert "landmark_mask" not in System2Collator(0)([dataset[without]])


def test_landmarks_that_no_dataset_has_are_refused(root):
    with pytest.raises(ValueError, match="landmarks were asked for, but no episode of"):
        make(root, landmarks=True)


def test_simulated_data_says_so(root):
    assert not make(root).is_simulated
    info = root / "r2r" / "scene0" / "meta" / "info.json"
    info.write_text('{"robot_type": "simulated"}')
    assert make(root).is_simulated


@pytest.fixture
def encoded(root):
    return make(root, processor=ToyProcessor(), num_history=8)


def test_a_batch_is_padded_on_the_right(encoded):
    samples = [encoded[0], encoded[len(encoded) - 1]]
    batch = System2Collator(pad_token_id=9999)(samples)
    length = max(len(sample["input_ids"]) for sample in samples)
    assert batch["input_ids"].shape == batch["labels"].shape == (2, length)
    short = min(len(sample["input_ids"]) for sample in samples)
    row = int(np.argmin([len(sample["input_ids"]) for sample in samples]))
    assert (batch["input_ids"][row, short:] == 9999).all()
    assert (batch["labels"][row, short:] == -100).all()
    assert batch["attention_mask"].sum(1).tolist() == [len(s["input_ids"]) for s in samples]
    assert len(batch["pixel_values"]) == batch["image_grid_thw"].prod(-1).sum()
    assert batch["goal_mask"].tolist() == [True, False]
    assert batch["answer_class"].tolist() == [0, 2]
    assert batch["goal_pixel"].dtype == torch.float32


def test_workers_give_the_same_batches(encoded):
    def batches(num_workers):
        loader = torch.utils.data.DataLoader(
            encoded, 4, collate_fn=System2Collator(0), num_workers=num_workers
        )
        return list(loader)

    for one, two in zip(batches(0), batches(1), strict=True):
        assert one.keys() == two.keys()
        assert all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("labels"), "sample 1 of the batch has no labels"),
        (lambda s: s.update(labels=s["labels"][:-1]), "lengths differ"),
        (lambda s: s.update(pixel_values=s["pixel_values"][:-1]), "image_grid_thw .* asks for"),
    ],
)
def test_a_misfit_is_refused(encoded, change, message):
    samples = [encoded[0], encoded[1]]
    change(samples[1])
    with pytest.raises(ValueError, match=message):
        System2Collator(0)(samples)


def test_a_dataset_without_processor_cannot_be_collated(root):
    with pytest.raises(ValueError, match="made with processor="):
        System2Collator(0)([make(root)[0]])


def test_history_that_contradicts_the_processor_is_refused(root):
    with pytest.raises(ValueError, match="num_history is 4, but the processor was made for 8"):
        make(root, processor=ToyProcessor(), num_history=4)


def test_an_index_out_of_range_ends_iteration(root):
    dataset = make(root)
    with pytest.raises(IndexError):
        dataset[len(dataset)]
    last, same = dataset[-1], dataset[np.int64(len(dataset) - 1)]
    assert last["messages"] == same["messages"]


def test_a_dataset_travels_to_another_process(root):
    dataset = make(root)
    copy = pickle.loads(pickle.dumps(dataset))
    assert copy[3]["messages"] == dataset[3]["messages"]


def _length_of(arguments):
    return len(make(*arguments))


def test_two_processes_build_one_index_at_once(root):
    cache = root.parent / "cache"
    shutil.rmtree(cache, ignore_errors=True)
    with multiprocessing.get_context("forkserver").Pool(2) as pool:
        lengths = pool.map(_length_of, [(root,), (root,)])
    assert lengths[0] == lengths[1] == len(make(root))
    for name in ("episodes.arrow", "samples.arrow"):
        assert len(list(cache.rglob(name))) == 1


def test_the_batch_in_the_docstring_is_real(golden_root, tmp_path):
    processor = System2Processor(
        Qwen2VLImageProcessorPil(size={"shortest_edge": 3136, "longest_edge": 12_845_056}),
        qwen_tokenizer(),
        num_history=1,
    )
    dataset = make(golden_root, processor=processor, cache_dir=tmp_path)
    batch = System2Collator(processor.pad_token_id)([dataset[1], dataset[12]])
    described = {}
    for line in System2Collator.__doc__.splitlines():
        match = re.match(r"\s+(\w+)\s+(\([\d, ]+\))\s+(\w+)", line)
        if match:
            described[match[1]] = (match[2], f"torch.{match[3]}")
    assert described == {key: (str(tuple(v.shape)), str(v.dtype)) for key, v in batch.items()}


def test_text_equals_the_golden_prompts(golden_root, tmp_path):
    prompts = json.loads((GOLDEN.parent / "prompts_train.json").read_text(encoding="utf-8"))
    dataset = make(golden_root, cache_dir=tmp_path, num_history=3)
    for name, row in (("pixel_goal_start0", 0), ("pixel_goal_history", 1), ("turn", 8)):
        messages = dataset[row]["messages"]
        golden_text = prompts["samples"][name]["text"]
        golden_text = re.sub(r"(<\|image_pad\|>)\{x\d+\}", r"\1", golden_text)
        text = render(messages)
        for conjunction in CONJUNCTIONS:
            text = text.replace(f"{conjunction}<|vision", f"{CONJUNCTIONS[0]}<|vision")
        assert text == golden_text
