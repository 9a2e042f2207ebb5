"""Packs of samples: every sample once, no pack too long, the same plan wherever it is made."""

import numpy as np
import pytest

from internnav_hf.training.packing import plan_packs
from tests.tiny.toy_model import ToyModel, toy_model
from tests.training.test_sampler import LENGTHS, DatasetWithLengths
from tests.training.trainers import history, trainer


@pytest.fixture(autouse=True)
def drops_padding(monkeypatch):
    """The toy's samples have none."""
    monkeypatch.setattr(ToyModel, "drop_padding", lambda model: None, raising=False)


def test_every_sample_is_in_one_pack_and_packs_are_nearly_full():
    packs = plan_packs(LENGTHS, 500, seed=0)
    assert sorted(index for pack in packs for index in pack) == list(range(len(LENGTHS)))
    tokens = np.array([LENGTHS[pack].sum() for pack in packs])
    assert tokens.max() <= 500
    assert np.sort(tokens)[1:].min() > 475  # one is what is left over
    assert plan_packs(LENGTHS.tolist(), 500, seed=0) == packs
    assert plan_packs(LENGTHS, 500, seed=1) != packs


PACKED = {"per_device_train_batch_size": 2, "max_steps": 30, "packing_length": 300}


def test_an_epoch_reads_every_sample_and_counts_all(tmp_path):
    dataset = DatasetWithLengths()
    run = trainer(tmp_path, dataset=dataset, **PACKED | {"max_steps": -1, "num_train_epochs": 1})
    run.train()
    assert sorted(dataset.read) == list(range(96))
    assert run.state.max_steps == -(-len(plan_packs(dataset.lengths, 300, run.args.seed)) // 2)


def test_accumulated_packs_have_the_loss_of_one_batch(tmp_path):
    """Samples of a step are the same, and each counts once, however they are shared out."""
    losses = []
    for changes in ({}, {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 2}):
        options = PACKED | {"max_steps": 5} | changes
        run = trainer(tmp_path, toy_model(), DatasetWithLengths(), **options)
        run.train()
        losses.append(history(run, "loss") + history(run, "goal_loss"))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize("stop_at", [3, 26])
def test_a_resumed_run_trains_on_what_it_would_have_trained_on(tmp_path, stop_at):
    run = PACKED | {"save_strategy": "steps", "save_steps": 1, "save_total_limit": None}
    whole = trainer(tmp_path, dataset=DatasetWithLengths(), **run)
    whole.train()
    again = trainer(tmp_path, dataset=DatasetWithLengths(), **run)
    again.train(str(tmp_path / f"checkpoint-{stop_at}"))
    assert history(again, "loss") == history(whole, "loss")


def test_a_broken_sample_of_a_pack_is_named(tmp_path):
    dataset = DatasetWithLengths()
    dataset.samples[41]["goal_pixel"][:] = float("nan")
    dataset.samples[41]["goal_mask"][...] = True
    with pytest.raises(FloatingPointError, match="sample 41: goal_pixel not finite"):
        trainer(tmp_path, dataset=dataset, **PACKED).train()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"packing_length": 100}, "found 100, but 5 of 96 samples are longer, sample 95 most;"
         " expected at least its 105 tokens"),
        ({"train_sampling_strategy": "group_by_length"}, "packs have no padding"),
    ],
)  # fmt: skip
def test_what_cannot_be_packed_is_told(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        trainer(tmp_path, dataset=DatasetWithLengths(), **PACKED | changes)


def test_a_set_without_lengths_is_refused(tmp_path):
    with pytest.raises(ValueError, match="does not say how long its samples are"):
        trainer(tmp_path, **PACKED)
