import pytest
import torch
from numpy.testing import assert_array_equal

from internnav_hf.data import NavDPDataset
from internnav_hf.data.tasks.navdp_collator import NavDPCollator
from tests.data.vln_n1 import write_root


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_root(tmp_path_factory.mktemp("n1") / "data", scenes=1, walks=1)


def make(root, **options):
    return NavDPDataset(root, image_size=28, cache_dir=root.parent / "cache", **options)


def test_a_batch_stacks_and_may_turn_the_colours(root):
    samples = [make(root, num_pixel_goal_channels=7)[index] for index in range(2)]
    batch, turned = NavDPCollator()(samples), NavDPCollator("bgr")(samples)
    assert batch["rgb"].shape == (2, 8, 3, 28, 28)
    assert batch["sample_mask"].tolist() == [True, True]
    assert_array_equal(turned["rgb"], batch["rgb"].flip(2))
    assert_array_equal(turned["goal_image"][:, 3:], batch["goal_image"][:, 3:].flip(1))
    assert_array_equal(turned["goal_image"][:, :3], batch["goal_image"][:, :3].flip(1))
    assert_array_equal(turned["goal_pixel_map"][:, 3], batch["goal_pixel_map"][:, 3])
    assert_array_equal(turned["goal_pixel_map"][:, 4:], batch["goal_pixel_map"][:, 4:].flip(1))
    four = NavDPCollator("bgr")([make(root)[0]])["goal_pixel_map"]
    assert_array_equal(four[0, :3], make(root)[0]["goal_pixel_map"][:3].flip(0))
    assert_array_equal(turned["depth"], batch["depth"])


def test_mixed_samples_and_unknown_orders_are_refused(root):
    samples = [make(root)[0], make(root, slot_kinds=None)[0]]
    with pytest.raises(ValueError, match="sample 1 of the batch: found .*expected the keys"):
        NavDPCollator()(samples)
    with pytest.raises(ValueError, match="channel_order is 'gbr'"):
        NavDPCollator("gbr")


def test_steps_longer_than_diffusion_goes_are_refused():
    reach = NavDPCollator(action_scale=(4.0, 4.0, 4.0))
    sample = {"actions": torch.tensor([[0.24, 0.0, 0.1]] * 4 + [[0.0, 0.0, 0.0]] * 4)}
    assert len(reach([sample])["actions"]) == 1
    with pytest.raises(ValueError, match=r"steps of 0.48 m, expected at most 0.25 m"):
        reach([{"actions": 2 * sample["actions"]}])
