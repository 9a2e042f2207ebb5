"""Damage of images is drawn by the generator, leaves the rest alone, and is checked."""

import numpy as np
import pytest
import torch

from internnav_hf.data.tasks.planner_noise import ImageNoise


def damaged(**fields) -> torch.Tensor:
    view = torch.full((40, 60), 2.0)
    view[:, 30:], view[0] = 4.0, 0.0
    noise = ImageNoise(**fields)
    found = noise.depth(view, np.random.default_rng(0))
    torch.testing.assert_close(found, noise.depth(view, np.random.default_rng(0)))
    assert found.dtype == torch.float32
    return found


def test_depth_is_damaged_as_asked_for():
    view = damaged()
    assert (view[1:, :30] == 2).all()
    assert (view[0] == 0).all()
    hit = (damaged(depth_pixels=0.2) != view).float().mean()
    assert 0.05 < hit < 0.2  # half of them keep their value, or nearly
    noisy = damaged(depth_deviation_m=0.1)
    assert (noisy[0] == 0).all()
    assert 2 <= noisy[1:].min() < noisy[1:].max() <= 4
    assert 0 < (damaged(depth_polygons=3, depth_polygon_size=20) != view).sum() < 1200
    blurred = damaged(depth_edges=True) != view
    assert blurred[5:, 29:31].all()
    assert not blurred[5:, :25].any()
    unknown = torch.zeros(4, 6)
    assert ImageNoise(depth_pixels=1).depth(unknown, np.random.default_rng(0)) is unknown


def test_classes_become_unknown_as_asked_for():
    view, rng = torch.full((3, 40, 60), 7, dtype=torch.uint8), np.random.default_rng(0)
    assert (ImageNoise().semantics(view, rng) == 7).all()
    assert not ImageNoise(black_share=1).semantics(view, rng).any()
    found = ImageNoise(semantic_pixels=0.3).semantics(view, rng)
    assert (found == 0).float().mean() == pytest.approx(0.3, abs=0.05)
    assert ((found == 0).all(0) | (found == 7).all(0)).all()
    assert (ImageNoise(semantic_polygons=2).semantics(view, rng) == 0).any()


def test_what_cannot_be_is_refused():
    for name, value in {"depth_pixels": 2, "depth_polygons": -1, "black_share": "all"}.items():
        with pytest.raises(ValueError, match=f"{name}: found {value!r}, expected a"):
            ImageNoise(**{name: value})
