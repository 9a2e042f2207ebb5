"""One optimisation step of PPO in each of two processes, and who waits for whom."""

import sys
from pathlib import Path

from accelerate import PartialState

from internnav_hf.training.ppo.preemption import start_preemption
from internnav_hf.training.ppo.trainer import PPOTrainer
from tests.training.ppo.runs import ppo_trainer

OPTIONS = {"max_steps": 1, "optim": "sgd", "learning_rate": 0.5, "max_grad_norm": 0.0}


def own_trainer(folder: Path) -> PPOTrainer:
    """The same in every process, but for its environments."""
    return ppo_trainer(folder, **OPTIONS)


if __name__ == "__main__":
    own_trainer(Path(sys.argv[1], "two")).run()
    state = PartialState()
    preemption = start_preemption(2, state.process_index, fraction=0.5)
    assert preemption is not None
    if state.is_main_process:
        assert not preemption.ends(99, 100)
    state.wait_for_everyone()
    if not state.is_main_process:
        preemption.finish()
    state.wait_for_everyone()
    if state.is_main_process:
        assert preemption.ends(99, 100)
    state.wait_for_everyone()
    PartialState().destroy_process_group()
