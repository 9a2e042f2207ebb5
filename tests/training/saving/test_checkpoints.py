"""Runs that are left by a signal, or resumed from any checkpoint, are the uninterrupted run."""

import json
import os
import signal
import stat
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import TrainerCallback

from internnav_hf.files import StorageError
from tests.tiny.toy_model import ToyConfig, ToyDataset, ToyModel, toy_model
from tests.training.trainers import history, trainer

UNTIMED = ("runtime", "per_second", "data_wait_share", "total_flos")
# 20 samples, 2 x 2 a step: five steps an epoch; the run goes on into the third epoch
OPTIONS = {
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 2,
    "max_steps": 12,
    "logging_steps": 4,
    "eval_strategy": "steps",
    "eval_steps": 5,
    "save_strategy": "steps",
    "save_steps": 7,
}
EVERY_STEP = {"save_steps": 1, "save_total_limit": 20, "eval_strategy": "epoch"}
BY_EPOCH = {"eval_strategy": "epoch", "save_strategy": "epoch", "logging_strategy": "epoch"}


class Data(ToyDataset):
    """Calls `when_read` before each sample."""

    when_read = None

    def __getitem__(self, index):
        if self.when_read is not None:
            self.when_read()
        return super().__getitem__(index)


class Normed(ToyModel):
    def __init__(self, config):
        super().__init__(config)
        self.trunk.append(nn.BatchNorm1d(6))


def run(folder, seed=0, model=None, **options):
    model = model or toy_model(seed)
    model.trunk.append(nn.Dropout(0.5))  # draws in every forward pass
    made = trainer(
        folder,
        model,
        Data(20),
        eval_dataset=Data(6, seed=1),
        open_loop=lambda *_, **__: {"drawn": float(torch.rand(()))},
        **OPTIONS | options,
    )
    made.saved_beside.append(lambda folder: (folder / "beside").touch())
    return made


def numbers(made) -> list[dict]:
    return [
        {key: value for key, value in row.items() if not any(word in key for word in UNTIMED)}
        for row in made.state.log_history
    ]


def assert_same(made, reference):
    assert numbers(made) == numbers(reference)
    for ours, expected in zip(made.model.parameters(), reference.model.parameters(), strict=True):
        assert ours.equal(expected)


@pytest.fixture(scope="module")
def references(tmp_path_factory):
    """The uninterrupted run by steps and by epochs, with a checkpoint of every step."""
    made = []
    for name, options in (("steps", {}), ("epochs", BY_EPOCH)):
        made.append(run(tmp_path_factory.mktemp(name), **options))
        made[-1].train()
    return made


class After:
    """Sends a signal to this process at the call of a number."""

    def __init__(self, calls: int, number=signal.SIGTERM):
        self.calls, self.number = calls, number

    def __call__(self, *args, **kwargs):
        self.calls -= 1
        if self.calls == 0:
            os.kill(os.getpid(), self.number)


class At(TrainerCallback):
    """Calls at an event."""

    def __init__(self, event: str, call: After):
        setattr(self, event, call)


def in_forward(made, call):
    made.model.register_forward_pre_hook(call)


def in_data(made, call):
    made.train_dataset.when_read = call


def in_evaluation(made, call):
    made.eval_dataset.when_read = call


def in_open_loop(made, call):
    made.open_loop = lambda: {"drawn": call() or float(torch.rand(()))}


def in_save(made, call):
    made.saved_beside.append(call)


def at_end_of_epoch(made, call):
    made.add_callback(At("on_epoch_end", call))


def after_step(made, call):
    made.add_callback(At("on_step_end", call))


def leave(made, code=143):
    with pytest.raises(SystemExit) as left:
        made.run()
    assert left.value.code == code
    folder = Path(made.args.output_dir)
    checkpoint = folder / f"checkpoint-{made.state.global_step}"
    assert {"run.json", "progress.json", "beside"} <= {path.name for path in checkpoint.iterdir()}
    assert not list(folder.glob(".*"))
    for name in ("model.safetensors", "config.json", "train_results.json", "README.md"):
        assert not (folder / name).exists(), name
    return made.state.global_step


@pytest.mark.parametrize(
    ("strategy", "place", "call", "step"),
    [
        (0, in_forward, 12, None),
        (0, in_data, 24, None),
        (0, in_data, 41, None),  # the first of an epoch's
        (0, in_evaluation, 3, 5),
        (0, in_open_loop, 2, 10),
        (0, in_save, 1, None),
        (0, after_step, 6, 6),
        (0, at_end_of_epoch, 3, 12),
        (1, in_data, 41, None),
        (1, in_evaluation, 3, 5),
        (1, after_step, 5, 5),
        (1, at_end_of_epoch, 1, 5),
    ],
)
def test_a_signal_leaves_a_checkpoint_that_goes_on_exactly(
    tmp_path, references, strategy, place, call, step
):
    options = BY_EPOCH if strategy else {}
    made = run(tmp_path, **options)
    place(made, After(call))
    reached = leave(made)
    assert step in (None, reached)
    again = run(tmp_path, seed=1, **options)
    again.train(resume_from_checkpoint=True)
    assert_same(again, references[strategy])


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGUSR1, 138), (signal.SIGTERM, 143)]
)
def test_the_exit_code_tells_the_signal_and_handlers_are_put_back(tmp_path, number, code):
    before = signal.getsignal(number)
    made = run(tmp_path)
    after_step(made, After(2, number))
    assert leave(made, code) == 2
    assert signal.getsignal(number) is before


@pytest.fixture(scope="module")
def every_step(tmp_path_factory):
    """The run with a checkpoint of every step."""
    whole = run(tmp_path_factory.mktemp("every"), **EVERY_STEP)
    whole.train()
    return whole


@pytest.mark.parametrize("step", [1, 5, 7, 10, 12])
def test_every_checkpoint_goes_on_exactly_whatever_is_logged(tmp_path, every_step, step):
    again = run(tmp_path, seed=1, **EVERY_STEP)
    again.train(resume_from_checkpoint=f"{every_step.args.output_dir}/checkpoint-{step}")
    assert_same(again, every_step)


class IgnoredSignals(ToyDataset):
    def __getitem__(self, index):
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN, "this worker hears signals"
        return super().__getitem__(index)


def test_workers_leave_signals_to_their_run(tmp_path):
    made = trainer(tmp_path, dataset=IgnoredSignals(), dataloader_num_workers=1)
    next(iter(made.get_train_dataloader()))


def test_a_run_that_has_not_begun_leaves_nothing(tmp_path):
    made = run(tmp_path)
    in_data(made, After(1))
    with pytest.raises(SystemExit):
        made.run()
    assert not list(tmp_path.glob("*checkpoint*"))


def test_a_signal_while_the_end_is_written_does_not_cut_it(tmp_path):
    made = run(tmp_path, save_strategy="no")
    made.save_state = After(1)
    made.run()
    assert (tmp_path / "model.safetensors").is_file()


def test_batch_norms_that_learn_end_their_step_first(tmp_path):
    torch.manual_seed(0)
    whole = run(tmp_path / "whole", model=Normed(ToyConfig()))
    whole.train()
    torch.manual_seed(0)
    made = run(tmp_path / "left", model=Normed(ToyConfig()))
    in_forward(made, After(10))
    assert leave(made) == 5
    again = run(tmp_path / "left", model=Normed(ToyConfig()))
    again.train(resume_from_checkpoint=True)
    assert_same(again, whole)


def test_a_failed_save_leaves_the_checkpoint_before_and_one_line(tmp_path):
    made = run(tmp_path, save_steps=3, save_total_limit=1)

    def full(folder):
        if folder.name == "checkpoint-6":
            Path("/dev/full").write_text("x")

    made.saved_beside.append(full)
    with pytest.raises(
        StorageError, match=r"checkpoint-6: No space left.*checkpoint-3 is whole"
    ) as told:
        made.train()
    assert "\n" not in str(told.value)
    assert [path.name for path in tmp_path.glob(".*")] == []
    assert [path.name for path in tmp_path.glob("checkpoint*")] == ["checkpoint-3"]


def test_old_checkpoints_go_and_renamed_ones_stay(tmp_path):
    set_aside = tmp_path / "checkpoint-1.bak"
    set_aside.mkdir(parents=True)
    made = run(tmp_path, save_steps=2, save_total_limit=2)
    made.train()
    assert {path.name for path in tmp_path.glob("checkpoint*")} == {
        "checkpoint-1.bak",
        "checkpoint-10",
        "checkpoint-12",
    }


def test_others_may_read_what_the_umask_lets_them(tmp_path):
    before = os.umask(0o027)
    try:
        run(tmp_path, max_steps=2, save_steps=1).run()
    finally:
        os.umask(before)
    for path in (
        *tmp_path.glob("*.*"),
        *tmp_path.glob("checkpoint-2/*"),
        tmp_path / "checkpoint-2",
    ):
        expected = 0o750 if path.is_dir() else 0o640
        assert stat.S_IMODE(path.stat().st_mode) == expected, path


def test_the_best_checkpoint_is_named_where_it_lies(tmp_path):
    made = run(tmp_path, load_best_model_at_end=True, eval_steps=2, save_steps=2)
    made.train()
    best = made.state.best_model_checkpoint
    assert Path(best).is_dir()
    state = json.loads((tmp_path / "checkpoint-12" / "trainer_state.json").read_text())
    assert Path(state["best_model_checkpoint"]).parent == tmp_path


def test_the_named_losses_of_a_window_are_not_lost(references):
    assert len(history(references[0], "word_loss")) == 3
