"""Open loop: what DD-PPO's agent would do at each step of held-out walks, no simulator.

The views are those of the walk, whatever the model would have done. It is compared, on the same
steps, with always the most frequent action, and with the action before once more: see `vln`.
"""

from collections.abc import Callable
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor

from internnav_hf.evaluation.open_loop.common import answer_samples
from internnav_hf.evaluation.open_loop.vln import Answer, by_episode, summarize
from internnav_hf.training.evaluation import evaluating


def evaluate_ddppo_open_loop(
    model: Any,
    dataset: Any,
    collator: Callable[[list], dict[str, Tensor]],
    num_samples: int | None = None,
    batch_size: int = 16,
    seed: int = 0,
) -> dict[str, float]:
    """Means over the steps of `num_samples` walks drawn with `seed` (None: all).

    `action_accuracy`, `stop_recall`, `forward_recall`, `turn_left_recall`, `turn_right_recall`,
    `stop_precision`; `majority_accuracy`, `repeat_accuracy`. What a set has nothing of is left out.
    """

    @torch.no_grad()
    def answer(rows: list[int]) -> list[Answer]:
        batch = collator([dataset[row] for row in rows])
        batch = {name: value.to(model.device) for name, value in batch.items()}
        return by_episode(batch, {"actions": model(**batch).logits.argmax(-1)})

    with evaluating(model):
        answers = answer_samples(answer, dataset, num_samples, batch_size, seed)
    return summarize(gather_object(answers))
