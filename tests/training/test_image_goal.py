"""Learning rates by epoch and averaged weights of the image-goal recipe are the published ones."""

import json
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from transformers import TrainerState

from internnav_hf.arguments.training import parse_arguments
from internnav_hf.training.image_goal import (
    ImageGoalTrainer,
    WeightAverage,
    average_decay,
    documented_shares,
    executed_shares,
    open_image_goals,
)
from tests.data.trajectories import write_root
from tests.golden import GOLDEN
from tests.recipes.image_goal import KINDS
from tests.tiny.gnm import tiny_image_goal

NOTES = json.loads((GOLDEN / "gnm_family_data.json").read_text())


@pytest.mark.parametrize(("name", "rate", "steps"), [("vint", 5e-4, 1), ("nomad", 1e-4, 2)])
def test_the_executed_rates_are_the_published_ones(name, rate, steps):
    shares = executed_shares(100, 4, steps)
    expected = NOTES[f"lr_{name}_per_epoch"]
    assert [rate * share for share in shares] == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_the_documented_rates_rise_and_fall_once():
    shares = documented_shares(100, 4)
    assert shares[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert shares[4:] == sorted(shares[4:], reverse=True)
    assert 0 < shares[-1] < 1e-3
    assert documented_shares(2, 0) == [1.0, 0.5]


@pytest.mark.parametrize(("drops", "first"), [(False, [0, 0, 0, 0.5]), (True, [0, 0, 0.5, 0.5])])
def test_rates_change_with_the_epoch(drops, first):
    """Ten samples in batches of two by two processes: the last batch is half."""
    args = SimpleNamespace(train_batch_size=2, world_size=2, gradient_accumulation_steps=1)
    args.dataloader_drop_last = drops
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 1.0)
    trainer = SimpleNamespace(args=args, train_dataset=range(10), optimizer=optimizer)
    trainer.lr_scheduler, trainer.epoch_shares = None, lambda count: [n / 2 for n in range(count)]
    schedule, rates = ImageGoalTrainer.create_scheduler(trainer, 9), []
    for _ in first:
        rates += schedule.get_last_lr()
        optimizer.step()
        schedule.step()
    assert rates == first


def test_the_average_forgets_as_published():
    for step, decay in NOTES["ema_decay_by_step"].items():
        assert average_decay(int(step), 0.75) == pytest.approx(decay, abs=1e-12), step


def test_the_average_follows_the_weights_and_copies_buffers():
    model = nn.BatchNorm1d(1)
    average = WeightAverage(model, 0.75)
    state, expected = TrainerState(), 1.0
    for step in range(1, 6):
        with torch.no_grad():
            model.weight.fill_(float(step))
            model.running_mean.fill_(float(step))
        state.global_step = step
        average.on_step_end(None, state, None)
        decay = average_decay(step - 1, 0.75)
        expected = decay * expected + (1 - decay) * step
    assert average.weights["weight"].item() == pytest.approx(expected)
    with average.applied():
        assert model.weight.item() == pytest.approx(expected)
        assert model.running_mean.item() == 5
    assert model.weight.item() == 5


def units(data) -> list[str]:
    return data.episodes["unit"].to_pylist()


def opened(tmp_path, *options: str):
    """Samples of two data sets, of which the second has longer steps and a group of its own."""
    write_root(tmp_path / "slow", ("one", "held"), step=0.2)
    write_root(tmp_path / "fast", ("two", "held", "late"), step=0.8)
    roots = ("--data_root", f"{tmp_path}/slow", f"{tmp_path}/fast")
    given = [*roots, f"--cache_dir={tmp_path}/cache", "--use_cpu", *options]
    return open_image_goals(tiny_image_goal("vint"), parse_arguments(KINDS, given)[1], (0, 10), 0)


def test_every_data_set_has_its_own_held_out_groups_and_options(tmp_path):
    own = ("--end_slack", "2", "5", "--waypoint_spacing", "1", "2")
    train, held_out = opened(tmp_path, "--eval_groups", "held", "late", *own)
    assert [part.rules.end_slack for part in train.datasets] == [2, 5]
    assert list(train.spacings.values()) == list(held_out.spacings.values()) == [1, 2]
    assert [units(part) for part in train.datasets] == [["one"], ["two"]]
    assert [units(part) for part in held_out.datasets] == [["held"], ["held", "late"]]
    only_fast = opened(tmp_path, "--eval_groups", "late")[1]
    assert [part.data_root.name for part in only_fast.datasets] == ["fast"]


def test_held_out_trajectories_are_not_trained_on(tmp_path):
    (tmp_path / "names.txt").write_text("held\n")
    split = str(tmp_path / "names.txt")
    with pytest.raises(ValueError, match="--eval_splits: found .* without --splits, expected both"):
        opened(tmp_path, "--eval_splits", split, split)
    with pytest.raises(ValueError, match="found groups .*one.* and the split .*, expected one of"):
        opened(tmp_path, "--splits", split, split, "--eval_groups", "held")


@pytest.mark.parametrize("option", ["end_slack", "waypoint_spacing", "splits", "eval_splits"])
def test_options_for_another_number_of_data_sets_are_one_error(tmp_path, option):
    with pytest.raises(ValueError, match=f"--{option}: found 3, expected 2, as --data_root"):
        opened(tmp_path, f"--{option}", "1", "2", "3")
