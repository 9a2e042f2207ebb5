"""Environments in processes of their own are those of this process."""

import os
import signal

import pytest
import torch

from internnav_hf.sim.episodes import scene_seeds
from internnav_hf.training.ppo.pool import EnvironmentPool
from internnav_hf.training.ppo.settings import SceneArguments
from tests.tiny.ddppo import tiny_ddppo
from tests.training.ppo.runs import ROOM

SEEDS = scene_seeds(0, "pool", 3)
ACTIONS = torch.randint(0, 4, (20, 3), generator=torch.Generator().manual_seed(0))


def pool(num_workers, **scenes):
    model = tiny_ddppo(image_height=16, image_width=16, views=("depth", "rgb"))
    task = SceneArguments(**ROOM | scenes).task(model.config, seed=0)
    return EnvironmentPool(task, SEEDS, model.config.views, num_workers)


def driven(environments, actions):
    seen = []
    for row in actions:
        environments.step(row)
        seen.append({name: tensor.clone() for name, tensor in environments.board.items()})
    return seen


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_processes_change_nothing_and_none_is_left_behind():
    alone, several = pool(0), pool(2)
    for environments in (alone, several):
        environments.reset()
    expected = driven(alone, ACTIONS)
    assert any(step["done"].any() for step in expected)
    for ours, theirs in zip(driven(several, ACTIONS), expected, strict=True):
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    states = several.states()
    assert states == alone.states()
    later = driven(several, ACTIONS[:5])
    several.restore(states)
    again = driven(several, ACTIONS[:5])
    assert all(torch.equal(a["depth"], b["depth"]) for a, b in zip(again, later, strict=True))
    first, second = (worker.process.pid for worker in several._workers)
    os.kill(second, signal.SIGKILL)
    told = r"Environment process 2 of 2 \(environments 2 to 2\), number \d+, was ended by SIGKILL"
    with pytest.raises(RuntimeError, match=told):
        several.step(ACTIONS[0])
    several.close()
    assert not alive(first)


def test_what_a_process_refuses_is_told_here():
    environments = pool(1, min_distance=50.0, max_distance=60.0)
    with pytest.raises(ValueError, match="Scene scene_.*: no start is 50 to 60 m"):
        environments.reset()
    environments.close()
