"""Samples of planners: goals, pieces of maps, mirrored views, batches."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from internnav_hf.camera import CameraSpec
from internnav_hf.data import PlannerCollator, PlannerDataset
from internnav_hf.data.cost_maps.grid import GridMap
from internnav_hf.data.formats.planners.recorded import floor_poses
from internnav_hf.data.tasks.planner_noise import ImageNoise
from internnav_hf.data.tasks.planner_pairs import PairRules, free_steps, pairs_ahead, pairs_of_graph
from tests.data.planner_folders import views, write_iplanner, write_viplanner, write_walks
from tests.tiny.planners import tiny_iplanner, tiny_viplanner

SMALL = {"image_height": 96, "image_width": 128}


def place(costs: np.ndarray, poses: np.ndarray) -> SimpleNamespace:
    """A scene of cells of 0.1 m from (0, 0) on."""
    return SimpleNamespace(
        grid=GridMap(costs, np.zeros(2), 0.1),
        poses=floor_poses(poses),
        walks=[range(len(poses))],
        camera=CameraSpec(hfov_deg=90.0),
    )


def test_goals_ahead_are_the_published():
    walks = SimpleNamespace(walks=[range(0, 30), range(30, 40)])
    pairs = pairs_ahead(walks)
    assert len(pairs) == 5 * 40
    assert {tuple(p) for p in pairs if p[0] == 2} == {(2, 2 + k, 0) for k in (1, 6, 11, 16, 21)}
    assert {tuple(p) for p in pairs if p[0] == 28} == {(28, 29, 0)}
    assert pairs[pairs[:, 0] >= 30, 1].max() == 39
    assert pairs_ahead(walks, 2)[:3].tolist() == [[0, 2, 0], [1, 3, 0], [2, 4, 0]]


def test_steps_of_the_graph_are_free():
    costs = np.zeros((60, 30))
    costs[28:32, :20] = 2.0  # a wall across, with a gap
    places = np.array([[x, y, 0.0] for x in (1, 2, 4, 5) for y in (0.5, 2.5)])
    scene = place(costs, places)
    steps = free_steps(scene, places[:, :2], neighbours=7).toarray() > 0
    assert steps[0, 1]
    assert not steps[2, 4]
    assert steps[3, 5]


def test_pairs_of_the_graph_have_shares_of_distance_and_bearing():
    rng = np.random.default_rng(0)
    poses = rng.uniform(0.2, 11.8, (300, 3))
    scene = place(np.zeros((120, 120)), poses)
    rules = PairRules(kind_shares=(0.5, 0.25, 0.25))
    pairs = pairs_of_graph(scene, rules, np.random.default_rng(1))
    again = pairs_of_graph(scene, rules, np.random.default_rng(1))
    np.testing.assert_array_equal(pairs, again)
    assert len(pairs) == pytest.approx(1200, rel=0.02)
    offset = poses[pairs[:, 1], :2] - poses[pairs[:, 0], :2]
    distance = np.linalg.norm(offset, axis=1)
    counts = np.histogram(distance, (0, 1, 3, 5, 7.5, 10))[0] / len(pairs)
    np.testing.assert_allclose(counts, rules.bin_shares, atol=0.02)
    assert distance.min() >= rules.nearest_m
    bearing = np.arctan2(offset[:, 1], offset[:, 0]) - poses[pairs[:, 0], 2]
    is_behind = np.cos(bearing) < 0
    assert is_behind.mean() == pytest.approx(0.25, abs=0.02)
    assert (np.cos(bearing) >= np.cos(np.pi / 4) - 1e-9).mean() == pytest.approx(0.5, abs=0.02)
    assert not pairs[:, 2].any()


def test_what_is_rare_is_mirrored():
    poses = np.zeros((12, 3))
    poses[:, :2] = np.linspace((1, 1), (4, 1), 12)
    rules = PairRules(goals_per_bin=1, kind_shares=(1.0, 0.0, 0.0))
    pairs = pairs_of_graph(place(np.zeros((60, 30)), poses), rules, np.random.default_rng(0))
    assert pairs[:, 2].any()
    plain = {tuple(p[:2]) for p in pairs if not p[2]}
    assert {tuple(p[:2]) for p in pairs if p[2]} <= plain


def test_poses_in_obstacles_do_not_count_and_none_left_is_an_error():
    costs = np.zeros((60, 30))
    costs[:, 15:] = 2.0
    poses = np.array([[1 + 0.2 * i, 0.5 + (i % 2), 0.0] for i in range(20)])
    scene = place(costs, poses)
    pairs = pairs_of_graph(scene, PairRules(), np.random.default_rng(0))
    assert set(pairs[:, :2].ravel().tolist()) <= set(range(0, 20, 2))
    with pytest.raises(ValueError, match="poses of 2.00 and more on the map"):
        pairs_of_graph(place(costs + 2, poses), PairRules(), np.random.default_rng(0))


def test_a_map_on_which_every_pose_lies_in_an_obstacle_is_an_error(tmp_path):
    folder = write_iplanner(tmp_path)
    np.savetxt(folder / "maps" / "data" / "tsdf1_map.txt", np.full((70, 40), 3.0))
    with pytest.raises(ValueError, match="indoor: poses: found poses of 3.00 and more on the map"):
        PlannerDataset(tmp_path, cache_dir=tmp_path / "cache", **SMALL)


def test_a_walk_of_one_frame_has_no_goal(tmp_path):
    assert len(pairs_ahead(SimpleNamespace(walks=[range(1), range(1, 3)]))) == 10
    write_iplanner(tmp_path, num_frames=1)
    with pytest.raises(ValueError, match="found no pair of a frame and a goal"):
        PlannerDataset(tmp_path, cache_dir=tmp_path / "cache", **SMALL)


@pytest.mark.parametrize("shares", [(0.5, 0.5), (2.0, -1.0, 0.0), (0.0, 0.0, 0.0)])
def test_shares_of_kinds_are_three_and_none_is_negative(shares):
    with pytest.raises(ValueError, match="kind_shares: found .*expected 3 shares"):
        PairRules(kind_shares=shares)


def test_on_maps_of_classes_costs_are_counted_from_that_of_the_ground(tmp_path):
    poses = np.array([[1 + 0.2 * i, 1.0, 0.0] for i in range(20)])
    scene = place(np.full((60, 30), 1.7), poses)
    with pytest.raises(ValueError, match=r"expected some below 1.5"):
        pairs_of_graph(scene, PairRules(), np.random.default_rng(0))
    assert len(pairs_of_graph(scene, PairRules(ground_cost=0.5), np.random.default_rng(0)))
    write_viplanner(tmp_path)
    told = {"cache_dir": tmp_path / "cache", **SMALL}
    for second_image, cost in ((None, 0.0), ("semantics", 0.5)):
        dataset = PlannerDataset(tmp_path, second_image=second_image, **told)
        assert dataset.drawn.rules.ground_cost == cost


def test_a_sample_of_iplanners_data(tmp_path):
    write_iplanner(tmp_path)
    dataset = PlannerDataset(tmp_path, cache_dir=tmp_path / "cache", **SMALL)
    index = dataset.pairs.tolist().index([0, 4, 10, 0])
    sample = dataset[index]
    torch.testing.assert_close(sample["goal_point"], torch.tensor([0.6, 0.0, 0.0]))
    torch.testing.assert_close(sample["T_world_robot"][:3, 3], torch.tensor([0.4, 0.0, 0.5]))
    assert sample["depth"].shape == (96, 128)
    assert float(sample["depth"][0, 0]) == pytest.approx(3.6, abs=1e-3)
    assert sample["cost_map"].shape == sample["ground_map"].shape == (70, 40)
    assert dataset.where(index).endswith("indoor, frame 4 to 10")
    assert list(dataset.scenes()) == ["indoor"]


def test_a_piece_of_the_map_costs_what_the_whole_does(tmp_path):
    write_iplanner(tmp_path)
    told = {"cache_dir": tmp_path / "cache", **SMALL}
    whole, piece = (PlannerDataset(tmp_path, map_reach_m=r, **told) for r in (None, 3.0))
    assert piece[0]["cost_map"].shape == (41, 40)
    model, collator = tiny_iplanner(), PlannerCollator()
    with torch.no_grad():
        losses = [model(**collator([data[0], data[40]])).obstacle_loss for data in (whole, piece)]
    torch.testing.assert_close(*losses)


def test_maps_of_several_sizes_make_a_batch_of_the_same_losses(tmp_path):
    write_iplanner(tmp_path / "data")
    samples = [dict(PlannerDataset(tmp_path / "data", cache_dir=tmp_path, **SMALL)[40])]
    samples.append({k: v for k, v in samples[0].items() if k != "ground_map"})
    samples[1]["cost_map"] = torch.zeros(90, 20)
    batch = PlannerCollator()(samples)
    assert batch["cost_map"].shape == batch["ground_map"].shape == (2, 90, 40)
    model = tiny_iplanner()
    with torch.no_grad():
        together = model(**batch).loss
        alone = [model(**PlannerCollator()([sample])).loss for sample in samples]
    torch.testing.assert_close(together, torch.stack(alone).mean())


def test_a_mirrored_sample_is_the_mirror_image(tmp_path):
    folder = write_viplanner(tmp_path)
    depth, _ = views(0.0)
    depth[:, :20] = 1.0
    np.save(folder / "depth" / "0000_cam0.npy", 1000 * depth)
    told = {"second_image": "semantics", "cache_dir": tmp_path / "cache"}
    dataset = PlannerDataset(tmp_path, image_height=48, image_width=64, **told)
    dataset.pairs = np.array([[0, 0, 6, 0], [0, 0, 6, 1]])
    plain, mirrored = dataset[0], dataset[1]
    for key in ("depth", "semantics"):
        torch.testing.assert_close(mirrored[key], plain[key].flip(-1))
    torch.testing.assert_close(mirrored["goal_point"], plain["goal_point"])
    assert bool(mirrored["is_mirrored"])


def test_mirrored_paths_are_mirrored_back():
    model = tiny_viplanner()
    batch = model.dummy_inputs
    batch["cost_map"] = torch.zeros_like(batch["cost_map"])
    flipped = dict(batch, is_mirrored=torch.tensor([True, True]))
    for key in ("depth", "semantics"):
        flipped[key] = batch[key].flip(-1)
    mirror = torch.tensor([1.0, -1.0, 1.0])
    with torch.no_grad():
        path = model.predict(flipped["depth"], batch["goal_point"] * mirror, flipped["semantics"])
        found = model(**flipped).waypoints
    torch.testing.assert_close(found, path.waypoints * mirror)


def test_held_out_pairs_are_the_others(tmp_path):
    write_iplanner(tmp_path)
    told = {"held_out_fraction": 0.25, "cache_dir": tmp_path / "cache", **SMALL}
    train, held_out = (PlannerDataset(tmp_path, training=t, **told) for t in (True, False))
    pairs = [{tuple(p) for p in data.pairs.tolist()} for data in (train, held_out)]
    assert (len(train), len(held_out)) == (90, 30)
    assert len(pairs[0] | pairs[1]) == len(
        {
            tuple(p)
            for p in PlannerDataset(tmp_path, **told | {"held_out_fraction": 0}).pairs.tolist()
        }
    )


def test_later_stages_have_other_pairs_as_many_and_none_that_are_held_out(tmp_path):
    write_iplanner(tmp_path, num_frames=40)
    told = {"held_out_fraction": 0.25, "cache_dir": tmp_path / "cache", **SMALL, "pairs": "graph"}
    told["pair_rules"] = PairRules(kind_shares=(0.5, 0.2, 0.3), stage_epochs=2, behind_step=0.2)
    train, held_out = (PlannerDataset(tmp_path, training=t, **told) for t in (True, False))
    before, kept = train.pairs.copy(), held_out.pairs.copy()
    shares = [train.drawn.rules.at_stage(n).kind_shares for n in (0, 1)]
    np.testing.assert_allclose(shares, [(0.5, 0.2, 0.3), (0.28, 0.22, 0.5)])
    train.set_epoch(1)
    np.testing.assert_array_equal(train.pairs, before)
    for epoch in (2, 3):
        train.set_epoch(epoch)
        held_out.set_epoch(epoch)
        assert train.pairs.shape == before.shape
        assert (train.pairs != before).any()
        assert not {tuple(p[:3]) for p in train.pairs} & {tuple(p[:3]) for p in kept}
    np.testing.assert_array_equal(held_out.pairs, kept)
    train.set_epoch(0)
    np.testing.assert_array_equal(np.sort(train.pairs, 0), np.sort(before, 0))


def test_images_are_damaged_in_training_alone(tmp_path):
    write_viplanner(tmp_path)
    told = {"second_image": "semantics", "cache_dir": tmp_path / "cache", **SMALL}
    told["noise"] = ImageNoise(depth_pixels=0.5, black_share=1.0)
    train, other = (PlannerDataset(tmp_path, training=t, **told) for t in (True, False))
    assert not train[0]["semantics"].any()
    assert other[0]["semantics"].any()
    first = train[0]["depth"]
    torch.testing.assert_close(train[0]["depth"], first)
    train.set_epoch(1)
    assert (train[0]["depth"] != first).any()


def test_recorded_walks_are_samples(tmp_path):
    root = write_walks(tmp_path / "data")
    dataset = PlannerDataset(root, cache_dir=tmp_path / "cache", **SMALL)
    assert len(dataset) == 2 * 5 * (40 + 44 + 48)
    sample = dataset[5]
    assert float(sample["T_world_robot"][2, 3]) == 0
    assert "ground_map" not in sample
    assert tiny_iplanner()(**PlannerCollator()([sample, dataset[500]])).loss.isfinite()


def test_colours_of_no_class_are_an_error(tmp_path):
    folder = write_viplanner(tmp_path)
    odd = np.full((48, 64, 3), 7, np.uint8)
    Image.fromarray(odd).save(folder / "semantics" / "0001_cam1.png")
    dataset = PlannerDataset(tmp_path, second_image="semantics", cache_dir=tmp_path, **SMALL)
    index = dataset.pairs[:, 1].tolist().index(1)
    with pytest.raises(ValueError, match=r"home: semantics: found .*% of the pixels of frame 1"):
        dataset[index]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"second_image": "semantics"},
            "indoor: semantics: found none of frame 0, expected an image; a planner of",
        ),
        ({"second_image": "rgb"}, "indoor: rgb: found none of frame 0, expected an image; a pl"),
        ({"second_image": "colours"}, "second_image: found 'colours', expected"),
        ({"pairs": "all"}, "pairs: found 'all'"),
        ({"noise": ImageNoise(black_share=0.5)}, "noise: black_share: found 0.5, expected 0: the"),
        ({"groups": ["outdoor"]}, "there is no environment outdoor"),
        ({"data_root": "nowhere"}, "nowhere: folder: found none"),
    ],
)
def test_options_that_are_none(tmp_path, changes, told):
    write_iplanner(tmp_path)
    with pytest.raises(ValueError, match=told):
        PlannerDataset(**({"data_root": tmp_path, "cache_dir": tmp_path} | SMALL | changes))
