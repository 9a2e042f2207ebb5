"""Evaluations with any batch size; with two processes: tests/training/two_processes.py."""

import json
import logging
import math

import numpy as np
import pytest
import torch
from torch.utils.data import IterableDataset

from internnav_hf.training.evaluation import deal
from tests.tiny.toy_model import ToyActionDataset, ToyDataset, toy_action_model, toy_model
from tests.training.evaluations import Broken, losses, trainer


@pytest.mark.parametrize("num_processes", [1, 2, 3])
@pytest.mark.parametrize(("num_samples", "batch_size"), [(10, 4), (12, 4), (1, 4), (7, 1)])
def test_every_sample_counts_once_and_all_take_as_many_steps(
    num_samples, batch_size, num_processes
):
    dealt = [deal(num_samples, batch_size, rank, num_processes) for rank in range(num_processes)]
    assert len({len(batches) for batches in dealt}) == 1
    counted = [i for batches in dealt for indices, counts in batches if counts for i in indices]
    assert sorted(counted) == list(range(num_samples))


@pytest.mark.parametrize("make", [toy_model, toy_action_model])
def test_losses_do_not_depend_on_the_batch_size(tmp_path, make):
    data = ToyDataset(13, seed=1) if make is toy_model else ToyActionDataset(13, seed=1)
    batch = {key: torch.stack([sample[key] for sample in data]) for key in data[0]}
    with torch.no_grad():
        expected = make().eval()(**batch).loss.item()
    for size in (1, 4, 13, 50):
        run = trainer(tmp_path, make(), data, per_device_eval_batch_size=size)
        assert run.evaluate()["eval_loss"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_broken_sample_is_named_and_left_out(tmp_path, caplog, value):
    data, whole = Broken(ToyDataset(13, seed=1), value), ToyDataset(13, seed=1)
    whole.samples.pop(3)
    expected = losses(trainer(tmp_path, eval_dataset=whole).evaluate())
    for size in (1, 5):
        run = trainer(tmp_path, eval_dataset=data, per_device_eval_batch_size=size)
        assert losses(run.evaluate()) == pytest.approx(expected | {"eval_num_left_out": 1})
    assert "1 of 13 samples are left out" in caplog.text
    assert "sample 3 (scene 3)" in caplog.text


def test_a_training_goes_on_and_saves_where_held_out_samples_are_broken(tmp_path):
    options = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1}
    data = Broken(ToyDataset(8, seed=1), indices=range(8))
    run = trainer(tmp_path, eval_dataset=data, **options)
    run.train()
    assert run.state.global_step == 3
    assert (tmp_path / "checkpoint-3").is_dir()
    told = [entry for entry in run.state.log_history if "eval_loss" in entry]
    assert math.isnan(told[0]["eval_loss"])
    assert told[0]["eval_num_left_out"] == 8


def test_broken_weights_are_told_apart_from_broken_samples(tmp_path):
    model = toy_model()
    model.words.weight.data[0, 0] = math.nan
    with pytest.raises(FloatingPointError, match=r"evaluation after step 0.*weights"):
        trainer(tmp_path, model, ToyDataset(4)).evaluate()


def test_a_broken_sample_of_training_is_named_with_the_right_advice(tmp_path):
    data = Broken(ToyDataset(8, seed=1), indices=(5,))
    run = trainer(tmp_path, dataset=data, per_device_train_batch_size=4)
    with pytest.raises(FloatingPointError, match=r"sample 5 \(scene 5\): goal_pixel") as raised:
        run.train()
    assert "learning_rate" not in str(raised.value)
    assert "check_dataset.py" in str(raised.value)


# predictions


def test_predictions_and_labels_are_in_the_order_of_the_samples(tmp_path):
    data = ToyActionDataset(13, seed=1)
    seen = {}

    def metrics(prediction):
        seen["labels"] = prediction.label_ids
        return {"count": len(prediction.predictions)}

    for size in (1, 4, 50):
        run = trainer(tmp_path, toy_action_model(), data, metrics, per_device_eval_batch_size=size)
        assert run.evaluate()["eval_count"] == 13
        found = run.predict(data)
        with torch.no_grad():
            plans = toy_action_model()(torch.stack([s["input_ids"] for s in data])).plan
        np.testing.assert_allclose(found.predictions, plans, atol=1e-6)
        masks = torch.stack([sample["frame_mask"] for sample in data]).long()
        np.testing.assert_array_equal(found.label_ids, masks)
        np.testing.assert_array_equal(seen["labels"], masks)
        assert found.metrics["test_loss"] > 0


def test_a_model_without_predictions_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match="ToyModel predicts nothing that is alike"):
        trainer(tmp_path).predict(ToyDataset(4))


def test_labels_that_no_batch_has_are_refused(tmp_path):
    run = trainer(tmp_path, eval_dataset=ToyDataset(4), label_names=["label"])
    with pytest.raises(ValueError, match="label_names: found 'label', expected.*goal_mask"):
        run.evaluate()


@pytest.mark.parametrize(
    "options",
    [
        {"eval_do_concat_batches": False},
        {"eval_accumulation_steps": 1},
        {"eval_use_gather_object": True},
        {"include_for_metrics": ["inputs"]},
        {"skip_memory_metrics": False},
        {"eval_on_start": True, "eval_strategy": "steps", "eval_steps": 3},
        {"eval_delay": 2, "eval_strategy": "steps", "eval_steps": 1},
        {"dataloader_drop_last": True},
        {"dataloader_num_workers": 1, "dataloader_prefetch_factor": 1},
    ],
)
def test_options_of_evaluations_change_no_loss(tmp_path, options):
    data, seen = ToyActionDataset(13, seed=1), []
    run = trainer(
        tmp_path,
        toy_action_model(),
        data,
        lambda prediction: seen.append(prediction) or {},
        dataset=ToyActionDataset(),
        per_device_eval_batch_size=4,
        **options,
    )
    expected = trainer(tmp_path, toy_action_model(), data).evaluate()["eval_loss"]
    assert run.evaluate()["eval_loss"] == pytest.approx(expected, abs=1e-6)
    if "include_for_metrics" in options:
        assert len(seen[0].inputs) == 13
    run.train()
    evaluated = [entry["step"] for entry in run.state.log_history if "eval_loss" in entry]
    if options.get("eval_on_start"):
        assert evaluated == [0, 3]
    if options.get("eval_delay"):
        assert evaluated == [2, 3]


def test_a_prediction_may_be_left_out(tmp_path):
    run = trainer(tmp_path, toy_action_model(), prediction_loss_only=True)
    found = run.predict(ToyActionDataset(5))
    assert found.predictions is None
    assert found.metrics["test_loss"] > 0


# what cannot be evaluated


def test_a_stream_and_nothing_are_refused(tmp_path):
    class Stream(IterableDataset):
        def __iter__(self):
            return iter([])

    for data, message in ((Stream(), "found an IterableDataset"), ([], "found no sample")):
        with pytest.raises(ValueError, match=message):
            trainer(tmp_path).evaluate(data)


def test_several_held_out_sets_have_metrics_of_their_own(tmp_path):
    sets = {"seen": ToyDataset(5, seed=1), "unseen": ToyDataset(7, seed=2)}
    found = trainer(tmp_path, eval_dataset=sets).evaluate()
    alone = trainer(tmp_path, eval_dataset=sets["unseen"]).evaluate()
    assert found["eval_unseen_loss"] == pytest.approx(alone["eval_loss"])
    assert "eval_seen_goal_loss" in found


def test_a_metric_that_there_is_not_is_told_after_the_steps_are_saved(tmp_path):
    options = {"eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps"}
    options |= {"metric_for_best_model": "wrod_loss", "save_steps": 2}
    run = trainer(tmp_path, eval_dataset=ToyDataset(4), **options)
    with pytest.raises(ValueError, match="found 'wrod_loss'.*Did you mean 'eval_word_loss'"):
        run.train()
    assert json.loads((tmp_path / "checkpoint-2" / "trainer_state.json").read_text())


@pytest.fixture(autouse=True)
def _quiet():
    logging.getLogger("internnav_hf").setLevel(logging.INFO)
