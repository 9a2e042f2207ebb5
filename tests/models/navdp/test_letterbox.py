from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.testing import assert_close

from internnav_hf.models.navdp.letterbox import (
    goal_mask,
    letterbox,
    letterbox_depth,
    marked_rectangle,
)

GOLDEN = Path(__file__).parents[2] / "golden"
PREPROCESSED = load_file(GOLDEN / "navdp_repo_preprocess.safetensors")


def assert_within_one(found: torch.Tensor, expected: torch.Tensor) -> None:
    """The same uint8 images up to one step of 255."""
    assert found.dtype == torch.uint8
    assert (found.int() - expected.int()).abs().max() <= 1


def test_golden_colours():
    squares = letterbox(PREPROCESSED["image_u8"].numpy(), 224)
    assert_within_one(squares.permute(0, 2, 3, 1), PREPROCESSED["image_out_u8"])


def test_golden_depth():
    found = letterbox_depth(PREPROCESSED["depth"][..., 0].numpy(), 224)
    assert_close(found, PREPROCESSED["depth_out"][..., 0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("index", range(6))
def test_golden_masks_of_inference(index):
    u, v = PREPROCESSED["pixel_goals"][index].tolist()
    assert_within_one(goal_mask((u, v), (60, 80), 224), PREPROCESSED["pixel_masks_u8"][index])


def test_golden_mask_and_depth_of_training():
    golden = load_file(GOLDEN / "navdp_dataset_items.safetensors")
    found = marked_rectangle((101.5, 94.2), (270, 480), 224, (8, 8, 8, 8))
    assert_within_one(found, golden["mid/pixel_mask"])
    v, u = np.mgrid[:270, :480]
    depth = (80 * u + 120 * v + 500 * 12) % 65000 / 1e4
    found = letterbox_depth(depth, 224, cut_before_last_resize=True)
    assert_close(found, golden["mid/depth"][..., 0], atol=1e-5, rtol=0)


def test_many_views_are_preprocessed_as_one_by_one():
    views = np.random.default_rng(0).integers(0, 256, (2, 3, 27, 48, 3), np.uint8)
    together = letterbox(views, 32)
    assert together.shape == (2, 3, 3, 32, 32)
    assert torch.equal(together[1, 2], letterbox(views[1, 2], 32))
    depth = views[..., 0] / 60
    assert torch.equal(letterbox_depth(depth, 32)[1, 2], letterbox_depth(depth[1, 2], 32))


@pytest.mark.parametrize(("height", "width"), [(27, 48), (48, 27), (30, 30), (3, 64), (96, 128)])
def test_a_white_view_stays_white_between_its_black_margins(height, width):
    square = letterbox(np.full((height, width, 3), 255, np.uint8), 64)
    assert square.shape == (3, 64, 64)
    middle = square[:, 32, 32]
    assert torch.equal(middle, torch.full((3,), 255, dtype=torch.uint8))
    share = (square > 127).float().mean().item()
    assert share == pytest.approx(min(height, width) / max(height, width), abs=0.05)


def test_an_odd_margin_is_stretched_away():
    """45 of 64 rows leave 19: 9 above, 9 below, and 63 rows become 64."""
    square = letterbox(np.full((45, 64, 3), 255, np.uint8), 64)
    lit = square[0, :, 0] > 127
    assert lit.sum() == 46
    assert not lit[:9].any()
    assert not lit[-9:].any()


def test_depth_that_says_nothing_is_zero():
    depth = np.full((8, 8), 2.0, np.float32)
    depth[0] = [np.nan, np.inf, -np.inf, 0.05, 5.01, -1.0, 0.1, 5.0]
    found = letterbox_depth(depth, 8)
    assert_close(found[0], torch.tensor([0, 0, 0, 0, 0, 0, 0.1, 5.0]))
    assert (found[1:] == 2).all()


def test_the_orders_of_depth_differ_only_where_the_margin_is_odd():
    rng = np.random.default_rng(0)
    even, odd = rng.uniform(0, 7, (32, 64)), rng.uniform(0, 7, (45, 64))
    assert torch.equal(letterbox_depth(even, 64), letterbox_depth(even, 64, True))
    assert not torch.equal(letterbox_depth(odd, 64), letterbox_depth(odd, 64, True))


@pytest.mark.parametrize(
    ("pixel", "rows", "columns"),
    [
        ((-40.0, 20.0), slice(0, 40), slice(0, 10)),
        ((30.0, -1.0), slice(0, 10), slice(0, 64)),
        ((500.0, 20.0), slice(0, 40), slice(54, 64)),
        ((30.0, 39.0), slice(30, 40), slice(0, 64)),
        ((54.0, 30.0), slice(20, 40), slice(44, 64)),
        ((12.7, 13.2), slice(3, 23), slice(2, 22)),
    ],
)
def test_a_goal_out_of_view_is_a_band_along_the_edge(pixel, rows, columns):
    expected = torch.zeros(64, 64, dtype=torch.uint8)
    expected[12:52][rows, columns] = 255
    assert torch.equal(goal_mask(pixel, (40, 64), 64), expected)


def test_a_marked_rectangle_has_its_own_reach_on_each_side():
    expected = torch.zeros(64, 64, dtype=torch.uint8)
    expected[28:38, 14:26] = 255
    assert torch.equal(marked_rectangle((20.9, 32.1), (64, 64), 64, (6, 4, 5, 5)), expected)
    for outside in ((-0.5, 3.0), (64.0, 3.0), (3.0, -1.0), (3.0, 64.2)):
        assert not marked_rectangle(outside, (64, 64), 64, (6, 6, 6, 6)).any()


@pytest.mark.filterwarnings("error")
def test_read_only_and_flipped_arrays_will_do():
    view = np.random.default_rng(0).integers(0, 256, (27, 48, 3), np.uint8)
    read_only = np.asarray(Image.fromarray(view))
    assert torch.equal(letterbox(read_only, 32), letterbox(view, 32))
    flipped = letterbox(view[:, ::-1, ::-1], 32)
    assert torch.equal(flipped, letterbox(view, 32).flip(0, 2))
    depth = np.broadcast_to(np.float64(2.0), (8, 8))
    assert (letterbox_depth(depth, 8) == 2).all()


def test_what_is_no_picture_is_refused():
    with pytest.raises(ValueError, match=r"image: found float64 of shape \(4, 4, 3\), expected"):
        letterbox(np.zeros((4, 4, 3)), 8)
    with pytest.raises(ValueError, match=r"found uint8 of shape \(4, 4\)"):
        letterbox(np.zeros((4, 4), np.uint8), 8)
