"""Image-goal samples: from the published layout and from other formats, of several data sets."""

import numpy as np
import pytest
import torch

from internnav_hf.data import ImageGoalCollator, ImageGoalDataset, ImageGoalDatasets
from internnav_hf.data.rows import EpisodeRow
from internnav_hf.data.tasks.image_goal_targets import SampleRules, waypoints
from tests.data import vln_n1
from tests.data.trajectories import path, write_root, write_trajectory

SMALL = {"image_size": (40, 32)}
FAST = (("slow", 0.25), ("fast", 1.0))


@pytest.fixture
def root(tmp_path):
    return write_root(tmp_path / "data")


def opened(root, **options) -> ImageGoalDataset:
    return ImageGoalDataset(root, cache_dir=root.parent / "cache", **(SMALL | options))


def test_a_sample_is_that_of_its_draw(root):
    dataset = opened(root)
    assert len(dataset) == 11 + 13
    assert dataset.waypoint_spacing_m == pytest.approx(0.25)
    assert dataset.cameras == []
    for index in range(len(dataset)):
        draw, item = dataset.draw(index), dataset[index]
        assert item["distance"] == (20 if draw.is_negative else draw.distance)
        expected = 2 < draw.distance < 10 and not draw.is_negative
        assert bool(item["action_mask"]) == expected
        poses = dataset._episode(draw.episode).poses
        label = waypoints(poses, draw.frame, SampleRules(), dataset.waypoint_spacing_m)
        np.testing.assert_allclose(item["actions"], label, atol=1e-5)
        if not draw.is_negative:
            assert draw.goal_frame == draw.frame + draw.distance
    assert item["rgb"].shape == (6, 3, 32, 40)
    assert item["rgb"].dtype == torch.uint8


def test_goals_are_drawn_again_each_epoch_and_some_are_elsewhere(root):
    dataset = opened(root)
    draws = []
    for epoch in range(20):
        dataset.set_epoch(epoch)
        draws += [dataset.draw(index) for index in range(len(dataset))]
    negative = [draw for draw in draws if draw.is_negative]
    assert 0.04 < len(negative) / len(draws) < 0.12  # 1 of 9 to 20, by what is left of the episode
    assert {draw.goal_episode for draw in negative} == {0, 1}
    again = opened(root)
    again.set_epoch(19)
    assert [again.draw(index) for index in range(len(again))] == draws[-len(again) :]
    fixed = opened(root, training=False)
    before = fixed.draw(3)
    fixed.set_epoch(7)
    assert fixed.draw(3) == before


def test_goals_are_hidden_by_the_share(root):
    for share in (0.0, 0.5, 1.0):
        dataset = opened(root, goal_drop_share=share)
        shown = [bool(dataset[index]["goal_mask"]) for index in range(len(dataset))]
        assert abs(np.mean(shown) - (1 - share)) < 0.3
        assert share == 0.5 or len(set(shown)) == 1
    assert "goal_mask" not in opened(root)[0]


def test_a_mirror_exchanges_left_and_right(root):
    plain, mirror = opened(root), opened(root, mirrored_share=1.0)
    for index in range(0, len(plain), 5):
        given, seen = plain[index], mirror[index]
        for key in ("rgb", "goal_image"):
            assert torch.equal(seen[key], given[key].flip(-1))
        assert torch.equal(seen["actions"][:, ::2], given["actions"][:, ::2])
        assert torch.equal(seen["actions"][:, 1::2], -given["actions"][:, 1::2])
        assert seen["distance"] == given["distance"]
    headless = opened(root, rules=SampleRules(predicts_heading=False), mirrored_share=1.0)
    assert headless[0]["actions"].shape == (5, 2)


def test_images_that_are_kept_are_read_once(root, monkeypatch):
    plain, keeping = opened(root), opened(root, keep_images=True)
    first = [keeping[index] for index in range(len(keeping))]
    monkeypatch.setattr(EpisodeRow, "image", lambda *_: pytest.fail("read again"))
    again = [keeping[index] for index in range(len(keeping))]
    monkeypatch.undo()
    for index, (one, other) in enumerate(zip(first, again, strict=True)):
        for key, value in plain[index].items():
            assert torch.equal(one[key], value)
            assert torch.equal(other[key], value)


def test_a_batch_has_the_arguments_of_forward(root):
    dataset = opened(root, goal_drop_share=0.5)
    batch = ImageGoalCollator()([dataset[0], dataset[5]])
    shapes = {key: tuple(value.shape) for key, value in batch.items()}
    assert shapes == {
        "rgb": (2, 6, 3, 32, 40),
        "goal_image": (2, 3, 32, 40),
        "actions": (2, 5, 4),
        "distance": (2,),
        "action_mask": (2,),
        "goal_mask": (2,),
        "sample_mask": (2,),
    }


def test_data_sets_keep_their_spacings(root, tmp_path):
    other = write_root(tmp_path / "fast", step=1.0)
    both = ImageGoalDatasets([opened(root), opened(other)])
    assert both.spacings == pytest.approx({"data": 0.25, "fast": 1.0})
    assert len(both) == 48
    first, second = both[0]["actions"], both[24]["actions"]
    torch.testing.assert_close(first, second)  # the same arc, four times as large
    assert both.spacing_of(30) == pytest.approx(1.0)
    assert "fast" in both.where(30)


def test_spacings_are_the_units_of_waypoints_and_none_is_lost(root, tmp_path):
    with_stride = ImageGoalDatasets([opened(root, rules=SampleRules(stride=2))])
    assert with_stride.spacings == pytest.approx({"data": 0.5})
    places = [write_root(tmp_path / name / "train", ("one",), 24, step) for name, step in FAST]
    several = ImageGoalDatasets([opened(place) for place in places])
    assert several.spacings == pytest.approx({"slow/train": 0.25, "fast/train": 1.0})
    twice = ImageGoalDatasets([opened(root), opened(root)])
    assert twice.spacings == pytest.approx({"data": 0.25})


def test_it_learns_from_other_formats_too(tmp_path):
    vln_n1.write_root(tmp_path / "vln_n1")
    dataset = ImageGoalDataset(tmp_path / "vln_n1", cache_dir=tmp_path / "cache", **SMALL)
    assert dataset.waypoint_spacing_m == pytest.approx(0.06, rel=0.01)
    assert dataset.cameras[0].height_m == pytest.approx(0.5)
    assert dataset[0]["rgb"].shape == (6, 3, 32, 40)


def test_a_split_chooses(root, tmp_path):
    (tmp_path / "names.txt").write_text("two\n")
    assert len(opened(root, split=tmp_path / "names.txt")) == 13
    assert len(opened(root, groups="one")) == 11
    with pytest.raises(ValueError, match="found groups one and the split .*, expected one of"):
        opened(root, groups="one", split=tmp_path / "names.txt")


def test_bad_data_and_options_are_one_error(root, tmp_path):
    with pytest.raises(ValueError, match="found no episode of 34 frames .the longest has 26."):
        opened(root, rules=SampleRules(action_horizon=25))
    write_trajectory(tmp_path / "still" / "one", 0 * path())
    with pytest.raises(ValueError, match=r"still: waypoint_spacing_m: found 0 \(measured\)"):
        opened(tmp_path / "still")
    with pytest.raises(ValueError, match=r"waypoint_spacing_m: found 0 \(given\)"):
        opened(root, waypoint_spacing_m=0.0)
    for wrong, found in ((float("inf"), "inf"), (-1.0, "-1"), ("0.25", "'0.25'")):
        with pytest.raises(ValueError, match=f"waypoint_spacing_m: found {found} .given"):
            opened(root, waypoint_spacing_m=wrong)
    with pytest.raises(ValueError, match="stride is 0; it must be at least 1"):
        opened(root, rules=SampleRules(stride=0))
    with pytest.raises(ValueError, match="goal_drop_share is 2"):
        opened(root, goal_drop_share=2)
    with pytest.raises(ValueError, match="mirrored_share is -1"):
        opened(root, mirrored_share=-1)
    with pytest.raises(IndexError, match="sample 24 of 24"):
        opened(root)[24]
