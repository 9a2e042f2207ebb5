import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from safetensors.numpy import load_file
from torch.utils.data import DataLoader

from internnav_hf.data import NavDPCollator, NavDPDataset
from internnav_hf.data.navdp_targets import Draw
from tests.tiny_navdp import tiny_navdp_model

from .vln_n1 import write_cloud, write_frame, write_parquet, write_root

GOLDEN = Path(__file__).parents[1] / "golden" / "navdp_dataset_items.safetensors"
ITEMS = load_file(GOLDEN)
DRAWS = json.loads(GOLDEN.with_suffix(".json").read_text())["random_draws"]
KEYS = ("rgb", "depth", "goal_point", "goal_image", "goal_pixel_map", "goal_slots")
KEYS += ("actions", "perturbed_actions", "value", "perturbed_value")
SMALL = {"image_size": 28, "action_horizon": 6}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_root(tmp_path_factory.mktemp("n1") / "data", ("a_zed", "b_zed"))


def make(root, **options):
    options.setdefault("cache_dir", root.parent / "cache")
    return NavDPDataset(root, **(SMALL | options))


# The golden


@pytest.fixture(scope="module")
def golden_dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp("golden") / "data"
    unit = root / "gibson_zed" / "scene"
    camera = {key: ITEMS[key].astype(float) for key in ("intrinsic", "extrinsic")}
    write_parquet(unit, 0, ITEMS["trajectory"].astype(float), **camera)
    for number in range(60):
        write_frame(unit, number, (480, 270), lossless=True)
    stats = {"stats": {"image_index": {"min": 0, "max": 59}}}
    (unit / "meta").mkdir()
    (unit / "meta" / "episodes_stats.jsonl").write_text(json.dumps(stats))
    is_obstacle = np.abs(ITEMS["obstacle_colors"] - (0, 0, 0.5)).sum(axis=1) < 0.05
    write_cloud(unit, ITEMS["obstacle_points"][is_obstacle][:, :2])
    return make(root, image_size=224, action_horizon=24, pixel_goal_frame="start")


def golden_draw(case):
    start, goal, current, rotation, _, *mark = [draw[3] for draw in DRAWS[case]]
    return Draw(start, goal, current, rotation, tuple(mark))


@pytest.mark.parametrize("case", DRAWS)
def test_golden_items(golden_dataset, case):
    item = golden_dataset.item(0, golden_draw(case))
    expected = {key.removeprefix(f"{case}/"): ITEMS[key] for key in ITEMS if f"{case}/" in key}
    assert_allclose(item["actions"] * 4, expected["pred_actions"], atol=1e-5)
    assert_allclose(item["perturbed_actions"] * 4, expected["augment_actions"], atol=1e-5)
    assert_allclose(item["goal_point"], expected["point_goal"], atol=1e-5)
    assert_allclose(item["value"], expected["pred_critic"][0], atol=1e-5)
    assert_allclose(item["perturbed_value"], expected["augment_critic"][0], atol=1e-5)
    mask = item["goal_pixel_map"][3].numpy()
    rows, columns = np.nonzero(mask > 127)
    assert (rows.min(), columns.min()) == tuple(expected["pixel_mask_bbox"])
    assert (rows.max(), columns.max()) == tuple(expected["pixel_mask_bbox_max"])
    blank = (item["rgb"] == 0).all(dim=(1, 2, 3)).sum()
    assert blank == expected["n_memory_blank"][0]


def test_golden_images(golden_dataset):
    item = golden_dataset.item(0, golden_draw("mid"))
    published = ITEMS["mid/memory_images_u8"].transpose(0, 3, 1, 2).astype(int)
    assert np.abs(item["rgb"].numpy() - published).max() <= 1
    assert_allclose(item["depth"], ITEMS["mid/depth"][..., 0], atol=1e-5)
    mask = item["goal_pixel_map"][3].numpy().astype(int)
    assert np.abs(mask - ITEMS["mid/pixel_mask"]).max() <= 1


# Items and batches


def test_an_item_has_a_row_of_each_key(root):
    dataset = make(root, samples_per_episode=5)
    assert len(dataset) == 12 * 5
    item = dataset[3]
    assert sorted(item) == sorted(KEYS)
    assert item["rgb"].shape == (8, 3, 28, 28)
    assert item["goal_image"].shape == (6, 28, 28)
    assert item["goal_pixel_map"].shape == (4, 28, 28)
    assert_array_equal(item["goal_image"][3:], item["rgb"][-1])
    assert_array_equal(item["goal_pixel_map"][:3], item["rgb"][-1])
    assert all(torch.isfinite(value.float()).all() for value in item.values())


def test_a_batch_trains_the_model(root):
    model = tiny_navdp_model()
    loader = DataLoader(make(root), batch_size=4, collate_fn=NavDPCollator(), num_workers=2)
    output = model(**next(iter(loader)))
    output.loss.backward()
    assert torch.isfinite(output.loss)


def test_index_i_is_the_same_sample_everywhere(root):
    first, again = make(root), make(root)
    for index in (0, 7, -1, np.int64(100)):
        assert_same(first[index], again[index])
    with pytest.raises(IndexError):
        first[len(first)]


def test_another_epoch_or_seed_draws_other_samples(root):
    dataset = make(root)
    before = [dataset.decision(index)["draw"] for index in range(12)]
    dataset.set_epoch(1)
    assert before != [dataset.decision(index)["draw"] for index in range(12)]
    assert before != [make(root, seed=1).decision(index)["draw"] for index in range(12)]
    dataset.set_epoch(0)
    assert before == [dataset.decision(index)["draw"] for index in range(12)]
    fixed = make(root, training=False)
    draws = [fixed.decision(index)["draw"] for index in range(12)]
    fixed.set_epoch(3)
    assert draws == [fixed.decision(index)["draw"] for index in range(12)]


def assert_same(one, other):
    assert one.keys() == other.keys()
    for key in one:
        assert_array_equal(one[key], other[key], err_msg=key)
