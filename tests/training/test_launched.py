"""Signals to trainings that a launcher started."""

import json
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.processes import run_ranks, started
from tests.warm import Program

ROOT = Path(__file__).parents[2]
PROGRAM = """
import time
import numpy as np
from internnav_hf.arguments.training import NavTrainingArguments, run_recipe
from internnav_hf.evaluation.open_loop.common import own_batches
from internnav_hf.training.trainer import NavTrainer, checkpoint_to_resume
from tests.tiny.toy_model import ToyDataset, toy_model


class Slow(ToyDataset):
    def __getitem__(self, index):
        time.sleep(0.02)
        return super().__getitem__(index)


def open_loop(dataset, **chosen):
    for _ in own_batches(np.arange(9), 2):
        time.sleep(0.05)
    return {}


def main(args):
    data = {"train_dataset": Slow(40), "eval_dataset": Slow(8, seed=1)}
    trainer = NavTrainer(toy_model(), args, open_loop=open_loop, **data)
    trainer.run(checkpoint_to_resume(args))


run_recipe(main, [NavTrainingArguments], None)
"""
OPTIONS = {
    "use_cpu": True,
    "report_to": "none",
    "disable_tqdm": True,
    "max_steps": 20,
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 2,
    "logging_steps": 3,
    "eval_steps": 4,
    "save_strategy": "steps",
    "save_steps": 8,
    "dataloader_num_workers": 1,
    "resume_from_checkpoint": "auto",
}
TWO = ["--multi_gpu", "--num_processes", "2", "--main_process_port", "0"]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def program(tmp_path: Path, out: str) -> list[str]:
    (tmp_path / "program.py").write_text(PROGRAM)
    options = [f"--{name}={value}" for name, value in OPTIONS.items()]
    return [str(tmp_path / "program.py"), f"--output_dir={tmp_path / out}", *options]


def command(tmp_path: Path, out: str, *launcher: str) -> list[str]:
    common = ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    words = [sys.executable, "-m", "accelerate.commands.launch", *common, *launcher]
    return [*words, *program(tmp_path, out)]


def programs(launcher: psutil.Process) -> list[psutil.Process]:
    """The trainings below it, the first rank first; not their workers."""
    found = []
    for child in launcher.children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # one that ended meanwhile
            if "program.py" in " ".join(child.cmdline()):
                found.append(child)
    return found[:2]


def wait_until(holds, seconds=120):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def lives(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def losses(folder: Path) -> list:
    history = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    keys = ("step", "loss", "word_loss", "grad_norm", "eval_loss", "eval_word_loss", "train_loss")
    return [[row.get(key) for key in keys] for row in history]


@pytest.mark.slow
def test_two_processes_save_together_when_one_is_told(tmp_path):
    words = command(tmp_path, "left", *TWO)
    with started(words, cwd=ROOT, env=ENVIRONMENT, start=Program) as launcher:
        wait_until((tmp_path / "left").exists)
        found = programs(psutil.Process(launcher.pid))  # on busy cores this takes steps
        wait_until((tmp_path / "left" / "checkpoint-8" / "trainer_state.json").exists)
        found[-1].send_signal(signal.SIGUSR1)
        assert launcher.wait(60) != 0
        wait_until(lambda: not any(map(lives, found)), 5)
    assert not list((tmp_path / "left").glob("*.safetensors"))
    assert not (tmp_path / "left" / "train_results.json").exists()
    steps = {int(path.name.split("-")[1]) for path in (tmp_path / "left").glob("checkpoint-*")}
    assert max(steps) not in (8, 16, 20)
    for out in ("left", "whole"):
        run_ranks([sys.executable, *program(tmp_path, out)], cwd=ROOT, env=ENVIRONMENT)
    assert losses(tmp_path / "left") == losses(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_training_whose_launcher_is_ended_saves_and_ends(tmp_path, number):
    words = command(tmp_path, "left", "--num_processes", "1")
    with started(words, cwd=ROOT, env=ENVIRONMENT) as launcher:
        wait_until((tmp_path / "left" / "checkpoint-8").exists)
        family = psutil.Process(launcher.pid).children(recursive=True)
        launcher.send_signal(number)
        assert launcher.wait(10) != 0
        wait_until(lambda: not any(map(lives, family)), 20)
    steps = {int(path.name.split("-")[1]) for path in (tmp_path / "left").glob("checkpoint-*")}
    assert max(steps) not in (8, 16, 20)
    assert not list((tmp_path / "left").glob(".*"))
