"""Random numbers of an episode, and depth that can be depth."""

import numpy as np
import pytest
import torch

from internnav_hf.policies.episodes import checked_depth, episode_generator


def draw(seed: int, name: str) -> list[float]:
    return torch.rand(3, generator=episode_generator(seed, name)).tolist()


def test_draws_are_those_of_seed_and_name():
    assert draw(1, "scene/0") == draw(1, "scene/0")
    assert draw(1, "scene/0") != draw(1, "scene/1")
    assert draw(1, "scene/0") != draw(2, "scene/0")


def test_depth_is_metres_of_the_view():
    view = {"rgb": np.zeros((6, 8, 3), np.uint8), "depth": np.full((6, 8), 2.5)}
    assert checked_depth(view) is view["depth"]
    unknown = np.full((3, 4), np.nan)  # half as large
    assert checked_depth(view | {"depth": unknown}) is unknown
    with pytest.raises(ValueError, match="found a median of 2500, expected metres"):
        checked_depth(view | {"depth": 1000 * view["depth"]})
    with pytest.raises(ValueError, match=r"found \(8, 6\), expected the shape of 'rgb', \(6, 8\)"):
        checked_depth(view | {"depth": view["depth"].T})
