"""PPO with the trainer of all models: logs, resumed runs, several processes, and it learns."""

import json
import math
import os
import signal
import sys
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from internnav_hf import DDPPOModel
from internnav_hf.publishing.licences import UNRESTRICTED
from internnav_hf.training.ppo.collector import Collector
from internnav_hf.training.ppo.pool import EnvironmentPool
from internnav_hf.training.ppo.trainer import Objective
from internnav_hf.training.trainer import checkpoint_to_resume
from tests.processes import run_ranks
from tests.tiny.ddppo import tiny_ddppo
from tests.training.ppo.runs import ppo_trainer
from tests.training.ppo.two_processes import OPTIONS, own_trainer
from tests.training.trainers import history

UNTIMED = ("runtime", "per_second", "data_wait_share", "total_flos")


def told(folder) -> list[dict]:
    rows = json.loads((Path(folder) / "trainer_state.json").read_text())["log_history"]
    return [{k: v for k, v in row.items() if not k.endswith(UNTIMED)} for row in rows]


class Interrupt(TrainerCallback):
    """Asks for a checkpoint after a step, and ends the run there."""

    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            control.should_save = control.should_training_stop = True


def test_a_run_logs_and_saves(tmp_path):
    run = ppo_trainer(tmp_path, max_steps=8)
    before = {name: weight.clone() for name, weight in run.model.named_parameters()}
    run.run()
    assert history(run, "frames") == [24, 0, 24, 0]  # a rollout takes four steps
    episodes = sum(history(run, "episodes"))
    assert episodes >= 3
    for name in ("success", "spl", "episode_return", "episode_steps"):
        assert all(abs(value) < 20 for value in history(run, name)), name
    for name in ("action_loss", "value_loss", "entropy_loss", "frames_per_second"):
        assert len(history(run, name)) == 4
    assert history(run, "entropy_loss")[0] == pytest.approx(-math.log(4), abs=0.01)
    assert [row["epoch"] for row in told(tmp_path)][:4] == [0.25, 0.5, 0.75, 1.0]
    saved = DDPPOModel.from_pretrained(tmp_path)
    changed = [name for name, weight in saved.named_parameters() if not weight.equal(before[name])]
    assert len(changed) == len(before)
    assert [(one.name, one.licence) for one in run.origins] == [("simulated", UNRESTRICTED)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What a run that nobody interrupts leaves."""
    folder = tmp_path_factory.mktemp("whole")
    ppo_trainer(folder).run()
    return folder


def check_goes_on(left, whole):
    resumed = ppo_trainer(left, resume_from_checkpoint="auto")
    resumed.run(checkpoint_to_resume(resumed.args))
    assert told(left) == told(whole)
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (left, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("step", [3, 4])  # within a rollout, and between two
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path, whole, step):
    first = ppo_trainer(tmp_path / "left")
    first.add_callback(Interrupt(step))
    first.train()
    [checkpoint] = (tmp_path / "left").glob("checkpoint-*")
    assert checkpoint.name == f"checkpoint-{step}"
    check_goes_on(tmp_path / "left", whole)


def test_a_signal_while_it_drives_costs_one_rollout_and_changes_nothing(tmp_path, whole):
    run, calls = ppo_trainer(tmp_path), []

    class Interrupted(EnvironmentPool):
        def step(self, actions):
            calls.append(actions)
            if len(calls) == 12:  # the second rollout of eight steps
                os.kill(os.getpid(), signal.SIGTERM)
            super().step(actions)

    interrupted = patch("internnav_hf.training.ppo.trainer.EnvironmentPool", Interrupted)
    with interrupted, pytest.raises(SystemExit) as ended:
        run.run()
    assert ended.value.code == 128 + signal.SIGTERM
    assert [folder.name for folder in tmp_path.glob("checkpoint-*")] == ["checkpoint-4"]
    check_goes_on(tmp_path, whole)


def test_an_agent_that_sees_colours_learns_their_statistics(tmp_path):
    run = ppo_trainer(
        tmp_path,
        model=tiny_ddppo(image_height=16, image_width=16, views=("rgb", "depth")),
        max_steps=4,
    )
    run.run()
    assert run.model.visual_encoder.statistics.count == 4 * 12  # in the optimisation alone


def test_accumulation_is_refused(tmp_path):
    with pytest.raises(ValueError, match="gradient_accumulation_steps: found 2, expected 1"):
        ppo_trainer(tmp_path, gradient_accumulation_steps=2)


@pytest.mark.slow
def test_two_processes_step_by_the_mean_of_their_gradients(tmp_path):
    command = [sys.executable, "-m", "tests.training.ppo.two_processes", str(tmp_path)]
    run_ranks(command, cwd=Path(__file__).parents[3])
    gradients = []
    for process in range(2):
        run = own_trainer(tmp_path / "alone")
        run.args.distributed_state.process_index = process
        gradients.append(first_gradient(run))
    start = dict(own_trainer(tmp_path / "alone").model.named_parameters())
    together = load_file(tmp_path / "two" / "model.safetensors")
    for name, weight in start.items():
        mean = torch.stack([gradient[name] for gradient in gradients]).mean(0)
        expected = weight.detach() - OPTIONS["learning_rate"] * mean
        torch.testing.assert_close(together[name], expected, rtol=1e-4, atol=1e-6)


def first_gradient(run) -> dict[str, torch.Tensor]:
    """Of a process that trains alone."""
    collector: Collector = run._start_collector()
    batch = next(collector.batches(lambda *_: None))
    run.model.train()
    objective = Objective(run.model, run.model, run.settings)
    objective(**batch).loss.backward()
    return {name: weight.grad for name, weight in run.model.named_parameters()}
