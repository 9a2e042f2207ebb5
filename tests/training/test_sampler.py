"""Samples of about equal length in a batch, in an order that processes and resumed runs share."""

import numpy as np
import pytest

from internnav_hf.training.sampler import LengthGroups
from tests.tiny.toy_model import ToyDataset
from tests.training.trainers import history, trainer

LENGTHS = np.random.default_rng(0).integers(10, 200, size=403)


class DatasetWithLengths(ToyDataset):
    """Notes what is read."""

    def __init__(self, size: int = 96):
        super().__init__(size)
        self.lengths, self.read = list(range(10, 10 + size)), []

    def __getitem__(self, index: int):
        self.read.append(index)
        return super().__getitem__(index)


def test_every_sample_is_drawn_once_and_an_epoch_has_its_own_order():
    sampler = LengthGroups(LENGTHS, 8, seed=0)
    first = list(sampler)
    assert len(sampler) == len(first)
    assert sorted(first) == list(range(403))
    assert list(sampler) == first
    sampler.set_epoch(1)
    assert list(sampler) != first
    assert list(LengthGroups(LENGTHS, 8, seed=1)) != first


def test_the_lengths_of_a_batch_differ_little_and_batches_are_mixed():
    order = LENGTHS[list(LengthGroups(LENGTHS, 8, seed=0))]
    batches = order[:400].reshape(-1, 8)
    shuffled = np.random.default_rng(1).permutation(LENGTHS)[:400].reshape(-1, 8)
    assert np.ptp(batches, axis=1).mean() < 0.25 * np.ptp(shuffled, axis=1).mean()
    means = batches.mean(axis=1)
    assert abs(np.corrcoef(means[:-1], means[1:])[0, 1]) < 0.5


def test_a_set_smaller_than_a_batch_is_one():
    assert sorted(LengthGroups([3, 1, 2], 8, seed=0)) == [0, 1, 2]


GROUPED = {"train_sampling_strategy": "group_by_length", "per_device_train_batch_size": 4}


def test_the_trainer_goes_by_the_lengths_however_a_step_is_shared_out(tmp_path):
    orders = []
    for changes in ({}, {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}):
        dataset = DatasetWithLengths()
        trainer(tmp_path, dataset=dataset, max_steps=30, **GROUPED | changes).train()
        orders.append(dataset.read)
    assert orders[0][:120] == orders[1][:120]
    assert orders[0][:24] != orders[0][96:120]
    steps = np.array(orders[0][:96]).reshape(24, 4)
    assert np.ptp(steps, axis=1).mean() < 20  # of 96; 58 in any order


@pytest.mark.parametrize("stop_at", [3, 24, 26])
def test_a_resumed_run_draws_what_it_would_have_drawn(tmp_path, stop_at):
    run = GROUPED | {
        "max_steps": 30,
        "save_strategy": "steps",
        "save_steps": 1,
        "save_total_limit": None,
    }
    whole = trainer(tmp_path, dataset=DatasetWithLengths(), **run)
    whole.train()
    again = trainer(tmp_path, dataset=DatasetWithLengths(), **run)
    again.train(str(tmp_path / f"checkpoint-{stop_at}"))
    assert history(again, "loss") == history(whole, "loss")


def test_evaluations_keep_the_order_of_their_set(tmp_path):
    dataset = DatasetWithLengths(5)
    training = DatasetWithLengths(5)
    run = trainer(tmp_path, dataset=training, eval_dataset=dataset, max_steps=1, **GROUPED)
    run.evaluate()
    assert dataset.read == [0, 1, 2, 3, 4]


def test_without_lengths_it_is_trainers_own(tmp_path):
    run = trainer(tmp_path, max_steps=1)
    assert not isinstance(run._get_train_sampler(), LengthGroups)
