"""Random numbers of an episode, and settings that count."""

import pytest
import torch

from internnav_hf.policies.episodes import check_count, check_numbers, episode_generator


def draw(seed: int, name: str) -> list[float]:
    return torch.rand(3, generator=episode_generator(seed, name)).tolist()


def test_draws_are_those_of_seed_and_name():
    assert draw(1, "scene/0") == draw(1, "scene/0")
    assert draw(1, "scene/0") != draw(1, "scene/1")
    assert draw(1, "scene/0") != draw(2, "scene/0")


@pytest.mark.parametrize("count", [0, -1, 2.5, "3", True, None, 11])
def test_a_setting_that_counts_is_a_whole_number(count):
    check_count("num_samples", 10, 10)
    with pytest.raises(ValueError, match="num_samples: found .*, expected 1 to 10"):
        check_count("num_samples", count, 10)


@pytest.mark.parametrize("seed", [-1, 1.5, "3", None, True])
def test_a_seed_is_a_whole_number(seed):
    check_numbers(7, guidance_scale=None)
    with pytest.raises(ValueError, match="seed: found .*, expected a whole number"):
        check_numbers(seed)
    with pytest.raises(ValueError, match="guidance_scale: found nan, expected a number"):
        check_numbers(0, guidance_scale=float("nan"))


def test_the_name_of_an_episode_is_text():
    with pytest.raises(ValueError, match=r"name of an episode: found 3, expected text"):
        episode_generator(0, 3)
    assert draw(0, "\ud800") != draw(0, "")
