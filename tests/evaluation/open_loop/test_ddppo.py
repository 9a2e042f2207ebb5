"""Open loop of DD-PPO's agent on small walks."""

import pytest

from internnav_hf.data import DDPPOCollator, DDPPODataset
from internnav_hf.evaluation.open_loop.ddppo import evaluate_ddppo_open_loop
from tests.data.vln_pe import write_root
from tests.tiny.ddppo import tiny_ddppo


def test_it_is_the_same_in_any_batch_and_counts_steps(tmp_path):
    model = tiny_ddppo().train()
    root = write_root(tmp_path / "data")
    dataset = DDPPODataset(root, model.config, cache_dir=tmp_path / "cache")
    one, three = (
        evaluate_ddppo_open_loop(model, dataset, DDPPOCollator(), batch_size=size)
        for size in (1, 3)
    )
    assert one == pytest.approx(three)
    assert one["num_frames"] == dataset.lengths.sum()
    assert one["num_walks"] == len(dataset)
    assert 0 <= one["action_accuracy"] <= 1
    assert model.training
