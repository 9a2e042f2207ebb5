"""Random numbers of an episode."""

import torch

from internnav_hf.policies.episodes import episode_generator


def draw(seed: int, name: str) -> list[float]:
    return torch.rand(3, generator=episode_generator(seed, name)).tolist()


def test_draws_are_those_of_seed_and_name():
    assert draw(1, "scene/0") == draw(1, "scene/0")
    assert draw(1, "scene/0") != draw(1, "scene/1")
    assert draw(1, "scene/0") != draw(2, "scene/0")
