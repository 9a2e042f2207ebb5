import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from safetensors.numpy import load_file
from torch.utils.data import DataLoader

from internnav_hf.data import NavDPCollator, NavDPDataset
from internnav_hf.data.episode import parquet_path
from internnav_hf.data.formats.vln_n1.reader import COLUMNS, POSE
from internnav_hf.data.obstacles import path_value
from internnav_hf.data.readers.columns import read_columns, to_numpy
from internnav_hf.data.rows import View
from internnav_hf.data.tables import row_of
from internnav_hf.data.tasks.navdp_targets import (
    Draw,
    draw_item,
    goal_pixel,
    label_rows,
    steps_between,
    trajectory,
)
from internnav_hf.geometry import camera_pose, project, robot_poses, robot_to_world
from internnav_hf.models.navdp.letterbox import goal_mask, letterbox
from tests.data.vln_n1 import (
    FOCAL,
    HEIGHT_M,
    SIZE,
    frame_image,
    frame_of,
    walk,
    write_cloud,
    write_frame,
    write_parquet,
    write_root,
    write_unit,
)
from tests.tiny.navdp import tiny_navdp_model

GOLDEN = Path(__file__).parents[2] / "golden" / "navdp_dataset_items.safetensors"
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
    published = {"pixel_goal_frame": "start", "pixel_goal_height": 0.2, "invisible_pixel": "none"}
    return make(root, image_size=224, action_horizon=24, **published)


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


def test_no_item_opens_a_parquet_file(root, monkeypatch):
    dataset = make(root)
    monkeypatch.setattr("pyarrow.parquet.ParquetFile", lambda *_, **__: 1 / 0)
    assert dataset[0].keys()
    assert dataset.decision(1)


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


def test_workers_draw_what_the_epoch_says(root):
    dataset = make(root, samples_per_episode=1)
    loader = DataLoader(dataset, batch_size=12, collate_fn=NavDPCollator(), num_workers=1)
    first = next(iter(loader))
    dataset.set_epoch(1)
    second = next(iter(loader))
    assert not torch.equal(first["actions"], second["actions"])
    assert torch.equal(second["actions"][5], dataset[5]["actions"])


def test_groups_are_chosen_by_name(root):
    assert len(make(root, groups="b_zed", samples_per_episode=1)) == 6
    assert len(make(root, groups=["a_zed", "b_zed"], samples_per_episode=1)) == 12
    with pytest.raises(ValueError, match="no group 'hm3d_zed'"):
        make(root, groups="a_zed,hm3d_zed")


def test_the_camera_is_the_one_of_the_columns(root):
    dataset = make(root)
    assert len(dataset.cameras) == 1
    camera = dataset.camera
    assert (camera.width, camera.height) == SIZE
    assert (camera.height_m, camera.pitch_deg, camera.depth_scale) == (HEIGHT_M, 15, 10_000)
    assert_allclose(camera.intrinsics[0, 0], FOCAL, rtol=1e-4)
    assert not dataset.is_simulated


# Goals and paths


def test_a_decision_is_the_item_in_plain_units(root):
    dataset = make(root)
    for index in range(8):
        item, decision = dataset[index], dataset.decision(index)
        assert_allclose(np.diff(decision["path"], axis=0), item["actions"][:, :2], atol=1e-6)
        steps = np.diff(decision["perturbed_path"], axis=0)
        assert_allclose(steps, item["perturbed_actions"][:, :2], atol=1e-6)
        assert_allclose(decision["goal_point"], item["goal_point"], atol=1e-6)
        assert_allclose(decision["values"], [item["value"], item["perturbed_value"]], atol=1e-6)
        assert decision["rgb"].shape == (36, 64, 3)
        assert decision["depth"].shape == (36, 64)
        view = letterbox(decision["rgb"], 28)
        assert_array_equal(view, item["rgb"][-1])
        assert_array_equal(letterbox(decision["goal_view"], 28), item["goal_image"][:3])
        assert decision["scene_folder"] == root / "a_zed" / decision["scene"] or index >= 6


def test_the_path_lies_on_the_walk_and_has_its_value(root):
    dataset = make(root)
    for index in range(8):
        decision, field = dataset.decision(index), dataset.obstacles(index)
        xy = robot_to_world(decision["path"], decision["robot_pose"])
        episode, draw = decision["episode"], decision["draw"]
        places = walk_of(dataset, episode)
        rows = np.minimum(draw.current + 4 * np.arange(7), draw.goal - 1)
        assert_allclose(xy, places[rows], atol=1e-9)
        assert_allclose(path_value(xy, field), decision["values"][0], atol=1e-5)
        turned = robot_to_world(decision["perturbed_path"], decision["robot_pose"])
        assert_allclose(path_value(turned, field), decision["values"][1], atol=1e-5)
        goal = robot_to_world(decision["goal_point"][:2], decision["robot_pose"])
        assert_allclose(goal, places[draw.goal - 1], atol=1e-9)


def walk_of(dataset, episode):
    row = row_of(dataset.episodes, episode)
    path = parquet_path(dataset.data_root / row["unit"], row["episode_index"])
    poses = to_numpy(read_columns(path, [POSE])[POSE], COLUMNS[POSE], path, POSE)
    return robot_poses(poses)[:, :2]


@pytest.mark.parametrize("height", [0.0, 0.2])
def test_the_goal_is_where_the_camera_sees_it(root, height):
    dataset = make(root, pixel_goal_height=height)
    num_inside = 0
    for index in range(60):
        decision = dataset.decision(index)
        x, y = robot_to_world(decision["goal_point"][:2], decision["robot_pose"])
        camera = decision["camera"]
        pose = camera_pose(*decision["robot_pose"], camera.height_m, np.radians(camera.pitch_deg))
        point = np.array([[x, y, height * camera.height_m]])
        ((u, v),), (depth,) = project(point, pose, camera.intrinsics)
        if depth > 0.02:
            assert_allclose(decision["goal_pixel"], (u, v), rtol=1e-3, atol=0.01)
        num_inside += 0 <= u < 64 and 0 <= v < 36
    assert num_inside > 10


def test_a_goal_outside_the_view_is_a_band_or_nothing(root):
    dataset = make(root)
    outside = 0
    for index in range(40):
        u, v = dataset.decision(index)["goal_pixel"]
        is_inside = 0 <= u < 64 and 0 <= v < 36
        mask = dataset[index]["goal_pixel_map"][3]
        published = make(root, invisible_pixel="none")[index]["goal_pixel_map"][3]
        assert published.any() == is_inside
        if 10 <= u < 55 and 10 <= v < 27:
            assert_array_equal(mask, published)
        else:
            assert_array_equal(mask, goal_mask((u, v), (36, 64), 28))
        outside += not is_inside
    assert outside


def test_behind_the_camera_is_to_a_side():
    view = View((50.0, 50.0), (32.0, 18.0), 0.5, 0.0)
    assert goal_pixel(np.array([-1.0, 0.2]), view)[0] < -1000
    assert goal_pixel(np.array([-1.0, -0.2]), view)[0] > 1000
    ahead = goal_pixel(np.array([2.0, 0.0]), view)
    assert_allclose(ahead, (32, 18 + 50 * 0.5 / 2))


def test_seven_channels_show_an_earlier_view_and_the_current_one(root):
    dataset = make(root, num_pixel_goal_channels=7)
    for index in range(8):
        item, draw = dataset[index], dataset.decision(index)["draw"]
        assert item["goal_pixel_map"].shape == (7, 28, 28)
        assert_array_equal(item["goal_pixel_map"][4:], item["rgb"][-1])
        is_same = torch.equal(item["goal_pixel_map"][:3], item["rgb"][-1])
        assert is_same == (draw.start == draw.current)
    marked_now = make(root, num_pixel_goal_channels=7, pixel_goal_frame="current")[0]
    assert_array_equal(marked_now["goal_pixel_map"][:3], marked_now["rgb"][-1])


def test_slots_mix_the_kinds_that_were_asked_for(root):
    slots = slots_of(make(root))
    assert set(np.unique(slots)) == {0, 1, 2}
    assert len(np.unique(slots, axis=0)) == 27
    assert set(np.unique(slots_of(make(root, slot_kinds=("point", "pixel"))))) == {0, 2}
    single = slots_of(make(root, single_goal_fraction=1.0))
    assert (single == single[:, :1]).all()
    assert "goal_slots" not in make(root, slot_kinds=None)[0]


def slots_of(dataset):
    return np.stack([dataset._slots(np.random.default_rng(index)) for index in range(300)])


def test_goals_may_lie_where_walks_end(root):
    ends = {}
    for share in (0.0, 0.5, 1.0):
        dataset = make(root, goal_at_end_fraction=share)
        decisions = [dataset.decision(index) for index in range(60)]
        lengths = dataset.episodes["length"].to_pylist()
        ends[share] = np.mean([d["draw"].goal == lengths[d["episode"]] - 2 for d in decisions])
    assert ends[0.0] < 0.2 < ends[0.5] < 0.8 < ends[1.0] == 1


def test_goals_may_be_those_that_no_straight_line_reaches(tmp_path):
    arc = walk(60, turn=0.03)
    places = robot_poses(arc)[:, :2]
    between = (places[:25] + places[-3]) / 2
    write_unit(tmp_path / "n1" / "simulated_zed" / "scene_0", [arc], obstacles=between)
    blocked = {}
    for share in (0.0, 1.0):
        rules = {"blocked_goal_fraction": share, "collision_distance": 0.05}
        dataset = make(tmp_path / "n1", goal_at_end_fraction=1.0, **rules)
        blocked[share] = np.mean([is_blocked(dataset, index) for index in range(40)])
        again = make(tmp_path / "n1", goal_at_end_fraction=1.0, **rules)
        assert dataset.decision(3)["draw"] == again.decision(3)["draw"]
    assert blocked[0.0] < 0.6
    assert blocked[1.0] > 0.7


def is_blocked(dataset, index):
    decision = dataset.decision(index)
    line = np.stack([np.zeros(2), decision["goal_point"][:2]])
    ends = robot_to_world(line, decision["robot_pose"])
    return dataset.obstacles(index).blocks(*ends, dataset.collision_distance)


def test_a_u_turn_is_no_jump():
    angles = np.linspace(0, 1.5 * np.pi, 60)
    circle = np.stack([np.sin(angles), 1 - np.cos(angles)], axis=1)
    steps = steps_between(trajectory(circle)[label_rows(60, 14, 4)])
    assert_allclose(steps[:, 2], steps[0, 2], atol=1e-9)


def test_draws_stay_in_the_episode():
    rng = np.random.default_rng(0)
    for length in [3, 4, 5, 60] * 50:
        draw = draw_item(length, rng)
        assert 0 <= draw.start <= draw.current < draw.goal <= length - 2
        assert draw.start < length // 2
        assert all(6 <= reach <= 11 for reach in draw.mark)


# What is refused


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("num_memory_frames", 0),
        ("samples_per_episode", 0),
        ("num_pixel_goal_channels", 5),
        ("pixel_goal_frame", "last"),
        ("invisible_pixel", "zero"),
        ("slot_kinds", ("point", "none")),
        ("slot_kinds", ()),
        ("single_goal_fraction", 1.5),
        ("goal_at_end_fraction", -1.0),
        ("blocked_goal_fraction", 1.1),
        ("collision_distance", 0.0),
    ],
)
def test_options_are_checked(root, option, value):
    with pytest.raises(ValueError, match=f"{option} is .*; it must be "):
        make(root, **{option: value})


def test_an_unreadable_image_is_an_error_and_not_black(tmp_path):
    root = write_root(tmp_path / "n1", scenes=1, walks=1)
    dataset = make(root)
    draw = dataset.decision(0)["draw"]
    path = frame_of(root / "simulated_zed" / "scene_0", draw.current)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ValueError, match=rf"{path.name}: image: found 300 bytes .*a whole image"):
        dataset[0]
    frame_image(0, (32, 18)).save(path)
    with pytest.raises(ValueError, match=r"size: found \(32, 18\), expected \(64, 36\)"):
        dataset[0]


def assert_same(one, other):
    assert one.keys() == other.keys()
    for key in one:
        assert_array_equal(one[key], other[key], err_msg=key)
