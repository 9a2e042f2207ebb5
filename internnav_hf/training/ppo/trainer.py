"""Decentralised PPO (arXiv 1911.00357) with the trainer of all models here.

Each process drives its own environments with the current weights, then takes the optimisation steps
of that rollout; gradients are averaged over processes. `epoch` in the log is the share of the run.
What `NavTrainer` does, it does here too: checkpoints, also on signals, from which a run goes on
exactly, with the rollout that was being learnt from; cards, the Hub, logs.

A run that resumes is the same run to the last bit if it has one process. With several it is, too,
unless a process was preempted, which depends on the time that each takes.
"""

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from internnav_hf.sim.episodes import scene_seeds
from internnav_hf.sim.point_goals import RESULTS, PointGoalTask
from internnav_hf.training.ppo.collector import Collector
from internnav_hf.training.ppo.losses import PPOOutput, ppo_loss
from internnav_hf.training.ppo.pool import EnvironmentPool
from internnav_hf.training.ppo.preemption import start_preemption
from internnav_hf.training.ppo.settings import PPOArguments
from internnav_hf.training.trainer import NavTrainer

logger = logging.getLogger(__name__)


class PPOTrainer(NavTrainer):
    """Trains `model`, a DD-PPO agent, on `task` by the rules of `settings`.

    `args.dataloader_num_workers` is the number of environment processes; 0: none but this one.
    """

    def __init__(
        self, model: Any, args: Any, task: PointGoalTask, settings: PPOArguments, **kwargs: Any
    ):
        """Raise ValueError for options that PPO cannot follow, see `PPOArguments.fit`."""
        settings.fit(args)
        super().__init__(model, args, train_dataset=task, **kwargs)
        self.task, self.settings = task, settings
        self.collector: Collector | None = None
        self._kept: dict[str, Any] = {}

    def run(self, resume_from_checkpoint: str | None = None) -> None:
        """Train and save as every trainer does, and end the environments' processes."""
        try:
            super().run(resume_from_checkpoint)
        finally:
            if self.collector is not None:
                self.collector.pool.close()

    # Experience in the place of a data set

    def get_train_dataloader(self) -> DataLoader:
        """Return minibatches of rollouts, without end."""
        self.collector = self._start_collector()
        return DataLoader(_Minibatches(self.collector, self._count), batch_size=None)

    def _start_collector(self) -> Collector:
        args, settings = self.args, self.settings
        split = f"environments of process {args.process_index}"
        own_seed, *seeds = scene_seeds(args.seed, split, 1 + settings.num_environments)
        views, num_workers = self.model.config.views, args.dataloader_num_workers
        pool = EnvironmentPool(self.task, seeds, views, num_workers)
        preemption = start_preemption(args.world_size, args.process_index, settings.sync_fraction)
        collector = Collector(
            self.model, pool, settings, own_seed, preemption, self.accelerator.autocast
        )
        saved = self._saved_rollout()
        if saved is None:
            collector.start()
        else:
            collector.restore(saved)
        return collector

    def _saved_rollout(self) -> dict[str, Any] | None:
        if self._resumed is None:
            return None
        path = Path(self._resumed, _file_of(self.args.process_index))
        if not path.is_file():
            logger.warning("%s is not there: its environments begin new episodes.", path)
            return None
        return torch.load(path, map_location="cpu", weights_only=True)

    def _count(self, frames: int, results: Tensor) -> None:
        """Note a rollout for the log."""
        self._sums.add("frames", torch.tensor(frames))
        for name, values in zip(RESULTS, results.unbind(1), strict=True):
            if len(values):
                self._sums.add(name, values.mean(), torch.tensor(len(values)))

    def _summary(self, sums: dict[str, tuple[float, float]], seconds: float) -> dict[str, float]:
        """Frames instead of samples, and means over the episodes that ended."""
        summary = super()._summary(sums, seconds)
        del summary["samples_per_second"]
        frames = sums.get("frames", (0.0, 0.0))[0]
        summary |= {"frames": frames, "frames_per_second": frames / seconds}
        ended = {name: sums[name] for name in RESULTS if name in sums}
        if ended:
            summary["episodes"] = ended[RESULTS[0]][1]
        return summary | {name: total / count for name, (total, count) in ended.items()}

    # The loss

    def _get_num_items_in_batch(self, batch_samples: list, device: torch.device) -> None:
        """Return None: the means of a minibatch are divided by nothing else."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Return PPO's loss, instead of the model's own."""
        objective = Objective(model, self.model, self.settings)
        return super().compute_loss(objective, inputs, return_outputs, num_items_in_batch)

    # Moments of the run

    def _maybe_log_save_evaluate(self, *args, **kwargs):
        self.state.epoch = self.state.global_step / self.state.max_steps
        super()._maybe_log_save_evaluate(*args, **kwargs)

    def _now(self, evaluation_due: bool = False):
        if self.collector is not None:
            self._kept = self.collector.state()
        return super()._now(evaluation_due)

    def _save_rng_state(self, output_dir: str) -> None:
        os.makedirs(output_dir, exist_ok=True)
        torch.save(self._kept, Path(output_dir, _file_of(self.args.process_index)))
        super()._save_rng_state(output_dir)


def _file_of(process: int) -> str:
    return f"rollout_{process}.pt"


class _Minibatches(IterableDataset):
    """A collector's, in place of a data set."""

    def __init__(self, collector: Collector, finished: Callable[[int, Tensor], None]):
        self.collector, self.finished = collector, finished

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        return self.collector.batches(self.finished)


class Objective(nn.Module):
    """PPO's loss of minibatches, through `wrapped`, which averages gradients of `model`."""

    def __init__(self, wrapped: nn.Module, model: Any, settings: PPOArguments):
        super().__init__()
        self.wrapped, self.model, self.settings = wrapped, model, settings

    def forward(
        self,
        actions: Tensor,
        log_probs: Tensor,
        advantages: Tensor,
        returns: Tensor,
        **observations: Tensor,
    ) -> PPOOutput:
        """Return the loss; what the model sees comes as it takes it."""
        output = self.wrapped(**observations)
        distribution = self.model.distribution(output.logits)
        return ppo_loss(
            distribution.log_prob(actions),
            log_probs,
            advantages,
            output.state_values,
            returns,
            distribution.entropy(),
            self.settings.clip,
            self.settings.value_weight,
            self.settings.entropy_weight,
        )
