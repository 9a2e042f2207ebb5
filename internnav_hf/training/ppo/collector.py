"""Rollouts: what a model met and did in its environments, and the minibatches made of them.

Legend: N environments, T steps.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from internnav_hf.sim.point_goals import RESULTS
from internnav_hf.training.ppo.losses import generalised_advantages
from internnav_hf.training.ppo.pool import EnvironmentPool
from internnav_hf.training.ppo.preemption import Preemption
from internnav_hf.training.ppo.settings import PPOArguments

_OF_STATE = ("hidden_states", "previous_actions", "masks")


class Collector:
    """Drives a model through a pool's environments.

    `batches` yields minibatches for ever; `state` is all that the next ones depend on, apart from
    the model's weights.
    """

    def __init__(
        self,
        model: Any,
        pool: EnvironmentPool,
        settings: PPOArguments,
        seed: int,
        preemption: Preemption | None = None,
        autocast: Callable[[], AbstractContextManager] = nullcontext,
    ):
        self.model, self.pool, self.settings, self.preemption = model, pool, settings, preemption
        self._autocast = autocast
        self.generator = torch.Generator().manual_seed(seed)
        self._rollout: dict[str, Tensor] = {}
        self._parts: list[list[int]] = []  # environments of the minibatches that are left
        self._now: dict[str, Tensor] = {}
        self._environments: list[dict[str, Any]] = []

    def start(self) -> None:
        """Begin everywhere."""
        self.pool.reset()
        self._environments, self._parts = self.pool.states(), []
        count, device = len(self.pool.done), self.model.device
        config = self.model.config
        size = (2 * config.num_recurrent_layers, config.hidden_size)
        self._now = {
            "hidden_states": torch.zeros(count, *size, device=device),
            "previous_actions": torch.zeros(count, dtype=torch.long, device=device),
            "masks": torch.zeros(count, dtype=torch.bool, device=device),
        }

    def batches(self, finished: Callable[[int, Tensor], Any]) -> Iterator[dict[str, Tensor]]:
        """Minibatches; after each rollout `finished` is told its frames and the `RESULTS` (E, 4) of
        the episodes that ended.
        """
        while True:
            if not self._parts:
                frames, results = self.collect()
                finished(frames, results)
            while self._parts:
                yield self._minibatch(self._parts.pop(0))

    def collect(self) -> tuple[int, Tensor]:
        """A rollout, for minibatches to come; its frames, and results (E, 4) of ended episodes."""
        was_training = self.model.training
        self.model.eval()
        with torch.no_grad(), self._autocast():
            steps, results = self._drive()
            rollout = {name: torch.stack(rows, 1) for name, rows in steps.items()}
            next_values = self._look().state_values[:, 0]
        self.model.train(was_training)
        settings, rewards = self.settings, rollout.pop("rewards")
        masks = torch.cat([rollout["masks"], self._now["masks"][:, None]], dim=1)
        values = rollout.pop("values")
        weights = (settings.discount, settings.gae_lambda)
        advantages = generalised_advantages(rewards, values, next_values, masks, *weights)
        rollout |= {"advantages": advantages, "returns": advantages + values}
        self._rollout |= rollout
        self._environments = self.pool.states()
        self._parts = self._draw_parts(len(rewards))
        return rewards.numel(), results

    def _drive(self) -> tuple[dict[str, list[Tensor]], Tensor]:
        steps: dict[str, list[Tensor]] = {}
        results = [torch.zeros(0, len(RESULTS))]
        self._rollout = {"hidden_states": self._now["hidden_states"]}
        for step in range(1, self.settings.rollout_steps + 1):
            seen = self._seen()
            output = self._look(seen)
            logits = output.logits[:, 0]
            distribution = self.model.distribution(logits)
            drawn = torch.multinomial(distribution.probs.cpu(), 1, generator=self.generator)
            actions = drawn[:, 0].to(logits.device)
            self.pool.step(drawn[:, 0])
            done = self.pool.done.to(logits.device, copy=True)
            row = seen | {
                "previous_actions": self._now["previous_actions"],
                "masks": self._now["masks"],
                "actions": actions,
                "log_probs": distribution.log_prob(actions),
                "values": output.state_values[:, 0],
                "rewards": self.pool.rewards.to(logits.device, copy=True),
            }
            for name, value in row.items():
                steps.setdefault(name, []).append(value)
            results.append(self.pool.results[self.pool.done])
            state = (output.hidden_states, actions, ~done)
            self._now = dict(zip(_OF_STATE, state, strict=True))
            if self.preemption and self.preemption.ends(step, self.settings.rollout_steps):
                break
        if self.preemption:
            self.preemption.finish()
        return steps, torch.cat(results)

    def _seen(self) -> dict[str, Tensor]:
        device = self.model.device
        return {name: seen.to(device, copy=True) for name, seen in self.pool.observations.items()}

    def _look(self, seen: dict[str, Tensor] | None = None) -> Any:
        seen = self._seen() if seen is None else seen
        inputs = seen | {name: self._now[name] for name in ("previous_actions", "masks")}
        inputs = {name: value[:, None] for name, value in inputs.items()}
        return self.model(**inputs, hidden_states=self._now["hidden_states"])

    def _draw_parts(self, count: int) -> list[list[int]]:
        """Environments of each minibatch, of all passes."""
        parts = []
        for _ in range(self.settings.ppo_epochs):
            order = torch.randperm(count, generator=self.generator)
            parts += [part.tolist() for part in order.tensor_split(self.settings.num_minibatches)]
        return parts

    def _minibatch(self, environments: Sequence[int]) -> dict[str, Tensor]:
        return {name: tensor[environments] for name, tensor in self._rollout.items()}

    def state(self) -> dict[str, Any]:
        """For `restore`; not changed by what comes after. Has the rollout if some of it is left."""
        return {
            "environments": self._environments,
            "generator": self.generator.get_state(),
            "now": self._now,
            "parts": list(self._parts),
            "rollout": self._rollout if self._parts else {},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state`."""
        device = self.model.device
        self._environments = state["environments"]
        self.pool.restore(self._environments)
        self.generator.set_state(state["generator"])
        self._now = {name: tensor.to(device) for name, tensor in state["now"].items()}
        self._parts = list(state["parts"])
        self._rollout = {name: tensor.to(device) for name, tensor in state["rollout"].items()}
