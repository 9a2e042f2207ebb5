import json
import logging
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback

from internnav_hf.training.latent_drift import LatentDrift
from internnav_hf.training.trainer import last_complete_checkpoint
from tests.tiny.toy_model import (
    ToyActionDataset,
    ToyDataset,
    toy_action_model,
    toy_model,
    toy_probe,
)
from tests.training.trainers import history, trainer


class GradientRecorder(TrainerCallback):
    def __init__(self):
        self.gradients = []

    def on_pre_optimizer_step(self, args, state, control, model, **kwargs):
        self.gradients.append([parameter.grad.clone() for parameter in model.parameters()])


class LossBreaker(TrainerCallback):
    """Makes a weight NaN before the step after `step`."""

    def __init__(self, step: int):
        self.step = step

    def on_step_begin(self, args, state, control, model, **kwargs):
        if state.global_step == self.step:
            model.words.weight.data[0, 0] = math.nan


# exact accumulation


def test_accumulation_is_exact_with_unequal_counts_of_labels_and_goals(tmp_path):
    recorded = []
    for batch_size, accumulation in [(8, 1), (2, 4), (1, 8)]:
        run = trainer(
            tmp_path,
            per_device_train_batch_size=batch_size,
            gradient_accumulation_steps=accumulation,
            max_grad_norm=0,
            max_steps=4,
        )
        run.add_callback(recorder := GradientRecorder())
        run.train()
        recorded.append((history(run, "loss"), recorder.gradients, run))
    for losses, gradients, run in recorded[1:]:
        assert losses == pytest.approx(recorded[0][0], abs=1e-6)
        for ours, expected in zip(gradients, recorded[0][1], strict=True):
            torch.testing.assert_close(ours, expected, atol=1e-6, rtol=1e-5)
        for name in ("word_loss", "goal_loss"):
            assert history(run, name) == pytest.approx(history(recorded[0][2], name), abs=1e-6)


def test_accumulation_is_exact_without_labels(tmp_path):
    recorded = []
    for batch_size, accumulation in [(8, 1), (2, 4), (1, 8)]:
        run = trainer(
            tmp_path,
            toy_action_model(),
            ToyActionDataset(),
            per_device_train_batch_size=batch_size,
            gradient_accumulation_steps=accumulation,
            max_grad_norm=0,
        )
        run.add_callback(recorder := GradientRecorder())
        run.train()
        recorded.append((history(run, "loss"), recorder.gradients))
        assert history(run, "action_loss") == pytest.approx(history(run, "loss"), abs=1e-6)
    for losses, gradients in recorded[1:]:
        assert losses == pytest.approx(recorded[0][0], abs=1e-6)
        for ours, expected in zip(gradients, recorded[0][1], strict=True):
            torch.testing.assert_close(ours, expected, atol=1e-6, rtol=1e-5)


def test_named_losses_are_means_over_their_items_and_add_up_to_the_loss(tmp_path):
    run = trainer(tmp_path, gradient_accumulation_steps=2, max_steps=2)
    run.train()
    total = [
        w + g for w, g in zip(history(run, "word_loss"), history(run, "goal_loss"), strict=True)
    ]
    assert history(run, "loss") == pytest.approx(total, abs=1e-6)


def test_a_loss_without_items_is_not_logged(tmp_path):
    without_goals = [s for s in ToyDataset().samples if not s["goal_mask"]]
    run = trainer(tmp_path, dataset=without_goals)
    run.train()
    assert len(history(run, "word_loss")) == 3
    assert not history(run, "goal_loss")
    assert all(math.isfinite(loss) for loss in history(run, "loss"))


def test_inputs_keep_their_type_whatever_deepspeed_computes_in(tmp_path):
    goal = torch.tensor([639.0, 479.0])
    assert (
        trainer(tmp_path)._prepare_inputs({"goal_pixel": goal})["goal_pixel"].dtype is torch.float32
    )


# evaluation


def test_evaluation_logs_named_losses_and_the_open_loop(tmp_path):
    data, model = ToyDataset(seed=1), toy_model()
    run = trainer(
        tmp_path,
        model,
        eval_dataset=data,
        eval_strategy="steps",
        eval_steps=2,
        max_steps=2,
        per_device_eval_batch_size=5,
        open_loop=lambda *_, **__: {"pixel_error": 7.0, "was_training": float(model.training)},
    )
    run.train()
    evaluation = next(entry for entry in run.state.log_history if "eval_loss" in entry)
    assert evaluation["eval_pixel_error"] == 7.0
    assert evaluation["eval_was_training"] == 0.0
    batch = {key: torch.stack([sample[key] for sample in data]) for key in data[0]}
    with torch.no_grad():
        expected = run.model(**batch)
    assert evaluation["eval_word_loss"] == pytest.approx(expected.word_loss.item(), abs=1e-6)
    assert evaluation["eval_goal_loss"] == pytest.approx(expected.goal_loss.item(), abs=1e-6)


def test_a_model_without_labels_is_evaluated_too(tmp_path):
    data = ToyActionDataset(seed=1)
    run = trainer(
        tmp_path,
        toy_action_model(),
        data,
        eval_dataset=data,
        eval_strategy="steps",
        eval_steps=3,
        per_device_eval_batch_size=5,
    )
    run.train()
    batch = {key: torch.stack([sample[key] for sample in data]) for key in data[0]}
    with torch.no_grad():
        expected = run.model(**batch).loss.item()
    assert history(run, "eval_action_loss") == [pytest.approx(expected, abs=1e-6)]
    assert len(history(run, "eval_loss")) == 1


def test_training_losses_are_the_same_with_and_without_evaluations(tmp_path):
    losses = []
    for options in ({}, {"eval_strategy": "steps", "eval_steps": 1, "eval_dataset": ToyDataset()}):
        run = trainer(tmp_path, logging_steps=2, max_steps=4, **options)
        run.train()
        losses.append((history(run, "word_loss"), history(run, "loss")))
    assert losses[0] == losses[1]


# latent drift


@pytest.mark.parametrize("accumulation", [1, 4])
def test_drift_is_logged_and_distillation_is_a_term_of_the_loss(tmp_path, accumulation):
    data = ToyActionDataset()
    run = trainer(
        tmp_path,
        toy_action_model(),
        data,
        drift=LatentDrift([toy_probe()], weight=0.5),
        eval_dataset=data,
        eval_strategy="steps",
        eval_steps=3,
        per_device_train_batch_size=8 // accumulation,
        gradient_accumulation_steps=accumulation,
        learning_rate=1e-3,
    )
    run.train()
    drift = history(run, "latent_drift")
    assert 0 < drift[0] < drift[-1]
    assert history(run, "eval_latent_drift") == [pytest.approx(drift[-1], abs=1e-6)]
    held = history(run, "distillation_loss")
    assert held[0] == 0 < held[-1]
    total = [a + d for a, d in zip(history(run, "action_loss"), held, strict=True)]
    assert history(run, "loss") == pytest.approx(total, abs=1e-5)


def test_distillation_does_not_depend_on_accumulation_and_holds_the_plans(tmp_path):
    drift = {}
    for key in [(0.0, 1), (5.0, 1), (5.0, 4)]:
        run = trainer(
            tmp_path,
            toy_action_model(),
            ToyActionDataset(),
            drift=LatentDrift([toy_probe(0), toy_probe(1)], weight=key[0]),
            per_device_train_batch_size=8 // key[1],
            gradient_accumulation_steps=key[1],
            max_steps=6,
        )
        run.train()
        drift[key] = history(run, "latent_drift")
    assert drift[5.0, 4] == pytest.approx(drift[5.0, 1], abs=1e-6)
    assert drift[5.0, 1][-1] < drift[0.0, 1][-1]


def test_a_resumed_run_measures_drift_from_the_base(tmp_path):
    def start(folder):
        drift = LatentDrift([toy_probe()], weight=0.5)
        options = {"save_strategy": "steps", "save_steps": 2, "max_steps": 4}
        return trainer(folder, toy_action_model(), ToyActionDataset(), drift=drift, **options)

    whole, again = start(tmp_path / "whole"), start(tmp_path / "again")
    whole.train()
    again.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    assert history(again, "latent_drift") == history(whole, "latent_drift")
    assert history(again, "loss") == history(whole, "loss")


# learning rates


def test_the_scheduler_honours_every_rate_and_frozen_modules_stay(tmp_path):
    model = toy_model()
    model.tower.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    rates = {"trunk": 0.01, "goal_head": 0.0}
    run = trainer(
        tmp_path,
        model,
        module_learning_rates=rates,
        lr_scheduler_type="linear",
        warmup_steps=2,
        max_steps=8,
    )
    run.train()
    now = {group["name"]: group["lr"] for group in run.optimizer.param_groups}
    assert now == {"other": 0.0, "trunk": 0.0, "goal_head": 0.0}
    run.create_optimizer()
    starts = {group["name"]: group["initial_lr"] for group in run.optimizer.param_groups}
    assert starts == {"other": 0.05, "trunk": 0.01, "goal_head": 0.0}
    assert history(run, "learning_rate")[:4] == pytest.approx([0, 0.025, 0.05, 0.05 * 5 / 6])
    changed = {n for n, value in model.state_dict().items() if not value.equal(before[n])}
    assert not any(name.startswith(("tower", "goal_head")) for name in changed)
    assert {"trunk.0.weight", "words.weight"} <= changed
    assert "frozen" in (tmp_path / "parameter_groups.txt").read_text()


def test_a_schedule_may_end_before_the_run_and_stays(tmp_path):
    run = trainer(
        tmp_path,
        module_learning_rates={"trunk": 0.01},
        lr_scheduler_type="polynomial",
        lr_scheduler_kwargs={"lr_end": 0.025},
        lr_scheduler_steps=4,
        max_steps=6,
    )
    run.train()
    rates = [0.05, 0.04375, 0.0375, 0.03125, 0.025, 0.025]
    assert history(run, "learning_rate") == pytest.approx(rates)
    now = {group["name"]: group["lr"] for group in run.optimizer.param_groups}
    assert now == pytest.approx({"other": 0.025, "trunk": 0.005})


# epochs


class CountingEpochs(ToyDataset):
    """Remembers which sample was read in which epoch."""

    def __init__(self, size: int):
        super().__init__(size)
        self.epoch = -1
        self.read = []

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __getitem__(self, index):
        self.read.append((self.epoch, index))
        return super().__getitem__(index)


@pytest.mark.parametrize("stop_at", [5, 7])
def test_the_training_set_knows_the_epoch_also_where_a_run_goes_on(tmp_path, stop_at):
    """20 samples, 2 x 2 a step: five steps an epoch."""

    def start(folder):
        dataset = CountingEpochs(20)
        options = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
        saving = {"save_strategy": "steps", "save_steps": 1, "save_total_limit": 20}
        return dataset, trainer(folder, dataset=dataset, max_steps=12, **options, **saving)

    dataset, whole = start(tmp_path / "whole")
    whole.train()
    assert [epoch for epoch, _ in dataset.read[:48]] == [0] * 20 + [1] * 20 + [2] * 8
    again, run = start(tmp_path / "again")
    run.train(resume_from_checkpoint=str(tmp_path / "whole" / f"checkpoint-{stop_at}"))
    assert again.read[: 48 - 4 * stop_at] == dataset.read[4 * stop_at : 48]


# throughput and guard


def test_throughput_is_logged(tmp_path):
    run = trainer(tmp_path, gradient_accumulation_steps=2, max_steps=2)
    run.train()
    for samples, tokens in zip(
        history(run, "samples_per_second"), history(run, "tokens_per_second"), strict=True
    ):
        assert tokens == pytest.approx(6 * samples, rel=1e-6)
    assert all(0 <= share <= 1 for share in history(run, "data_wait_share"))


def test_a_loss_that_is_not_finite_stops_and_keeps_the_checkpoints(tmp_path):
    run = trainer(tmp_path, save_strategy="steps", save_steps=1, max_steps=4)
    run.add_callback(LossBreaker(step=2))
    with pytest.raises(FloatingPointError, match=r"Step 3: the loss is not finite.*word_loss nan"):
        run.train()
    assert Path(last_complete_checkpoint(tmp_path)).name == "checkpoint-2"


def test_a_gradient_that_is_not_finite_stops_before_the_weights_change(tmp_path):
    model = toy_model()
    model.words.weight.register_hook(lambda gradient: gradient * math.inf)
    before = model.trunk[0].weight.clone()
    with pytest.raises(FloatingPointError, match="Step 1: the loss is finite, but its gradient"):
        trainer(tmp_path, model).train()
    assert model.trunk[0].weight.equal(before)


def test_steps_without_any_label_are_told(tmp_path, caplog):
    data = ToyDataset()
    for sample in data.samples:
        sample["labels"] = torch.full_like(sample["labels"], -100)
    with caplog.at_level(logging.WARNING, logger="internnav_hf.training.trainer"):
        run = trainer(tmp_path, dataset=data, logging_steps=3)
        run.train()
    assert "No text was learnt in 3 of 3 steps" in caplog.text
    assert all(math.isfinite(loss) for loss in history(run, "loss"))


def test_out_of_memory_says_what_to_change(tmp_path):
    class Full(TrainerCallback):
        def on_step_begin(self, *args, **kwargs):
            raise torch.OutOfMemoryError("CUDA out of memory.")

    run = trainer(tmp_path)
    run.add_callback(Full())
    with pytest.raises(torch.OutOfMemoryError, match="--per_device_train_batch_size"):
        run.train()


# checkpoints


@pytest.mark.parametrize("stop_at", [3, 5])
def test_resuming_gives_the_losses_of_the_uninterrupted_run(tmp_path, stop_at):
    """20 samples, 2 x 2 a step: five steps an epoch; the run goes on into the third epoch."""
    options = {
        "dataset": ToyDataset(20),
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "max_steps": 12,
        "save_strategy": "steps",
        "save_steps": 1,
        "save_total_limit": 20,
        "module_learning_rates": {"goal_head": 0.01},
    }
    whole = trainer(tmp_path, **options)
    whole.train()
    again = trainer(tmp_path / "again", model=toy_model(seed=1), **options)
    again.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{stop_at}"))
    for name in ("loss", "word_loss", "goal_loss", "grad_norm", "learning_rate"):
        assert history(again, name) == history(whole, name)
    for ours, expected in zip(again.model.parameters(), whole.model.parameters(), strict=True):
        assert ours.equal(expected)


def test_the_best_model_is_loaded_at_the_end(tmp_path):
    run = trainer(
        tmp_path,
        eval_dataset=ToyDataset(seed=1),
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="steps",
        save_steps=1,
        max_steps=3,
        learning_rate=5.0,  # gets worse
        load_best_model_at_end=True,
    )
    run.train()
    losses = history(run, "eval_loss")
    assert losses[-1] > min(losses)
    assert run.evaluate()["eval_loss"] == pytest.approx(min(losses), abs=1e-6)


def test_a_checkpoint_that_does_not_fit_is_refused(tmp_path):
    trainer(tmp_path, save_strategy="steps", save_steps=1).train()
    weights = tmp_path / "checkpoint-1" / "model.safetensors"
    tensors = load_file(weights)
    del tensors["words.weight"]
    save_file(tensors, weights, {"format": "pt"})
    with pytest.raises(ValueError, match=r"checkpoint-1 does not fit.*words\.weight"):
        trainer(tmp_path).train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))


def test_a_checkpoint_cut_short_is_passed_over(tmp_path, caplog):
    options = {"save_strategy": "steps", "save_steps": 1}
    trainer(tmp_path, **options).train()
    (tmp_path / "checkpoint-3" / "trainer_state.json").unlink()
    (tmp_path / "checkpoint-10").mkdir()
    (tmp_path / "checkpoint-10" / "trainer_state.json").write_text('{"global_step": 1')
    assert Path(last_complete_checkpoint(tmp_path)).name == "checkpoint-2"
    assert "checkpoint-3 was cut short" in caplog.text
    assert "checkpoint-10 was cut short" in caplog.text
    run = trainer(tmp_path, **options)
    run.train(resume_from_checkpoint=True)
    assert run.state.global_step == 3
    assert json.loads((tmp_path / "checkpoint-3" / "trainer_state.json").read_text())


def test_resuming_a_run_at_its_end_changes_nothing(tmp_path):
    """Four steps an epoch: it ended in the middle of the second."""
    run = {"max_steps": 6, "save_strategy": "steps", "save_steps": 6}
    whole = trainer(tmp_path, lr_scheduler_type="constant", **run)
    whole.train()
    again = trainer(tmp_path, lr_scheduler_type="constant", **run)
    again.train(resume_from_checkpoint=True)
    assert again.state.global_step == 6
    assert history(again, "loss") == history(whole, "loss")
    for ours, expected in zip(again.model.parameters(), whole.model.parameters(), strict=True):
        assert ours.equal(expected)


def test_nothing_to_resume_from_is_one_clear_error(tmp_path):
    with pytest.raises(ValueError, match="no complete checkpoint"):
        trainer(tmp_path).train(resume_from_checkpoint=True)


def test_a_checkpoint_keeps_everything_that_resuming_needs(tmp_path):
    trainer(tmp_path, save_strategy="steps", save_steps=3).train()
    names = {path.name for path in (tmp_path / "checkpoint-3").iterdir()}
    needed = "model.safetensors optimizer.pt scheduler.pt rng_state.pth trainer_state.json"
    assert set(needed.split()) <= names
