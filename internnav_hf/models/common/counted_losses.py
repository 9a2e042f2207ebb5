"""Base of models whose losses are means over the valid items of a whole optimisation step."""

from typing import Any

import torch
from torch import Tensor, distributed


class CountedLosses:
    """To be listed before `PreTrainedModel` among a model's bases.

    `loss_count_keys` maps the key of a batch that is counted to the argument of `forward` that
    takes its sum over the whole optimisation step. NavTrainer passes these sums; transformers' own
    Trainer does not, so that with gradient accumulation its gradients would depend on how samples
    are grouped into batches: that is refused.
    """

    accepts_loss_kwargs = True
    loss_count_keys: dict[str, str] = {}
    _is_in_trainer = False

    def num_parameters(self, only_trainable: bool = False, exclude_embeddings: bool = False) -> int:
        """As for every model, cached: trainers ask for it without embeddings after every batch."""
        self._is_in_trainer |= exclude_embeddings
        parent: Any = super()
        return parent.num_parameters(only_trainable, exclude_embeddings)

    def check_counts(self, **counts: Tensor | int | None) -> None:
        """Raise ValueError if a Trainer accumulates, or distributes samples, without counts.

        To be called in `forward` with the counts of all losses that are in use.
        """
        model: Any = self
        if not (self._is_in_trainer and model.training and torch.is_grad_enabled()):
            return
        missing = [name for name, count in counts.items() if count is None]
        shares = distributed.is_initialized() and distributed.get_world_size() > 1
        accumulates = any(parameter.grad is not None for parameter in model.parameters())
        if missing and (shares or accumulates):
            raise ValueError(
                f"{type(self).__name__}: {missing[0]}: found None while gradients are accumulated, "
                "expected its sum over the whole optimisation step, which transformers' Trainer "
                "does not know: train with internnav_hf.NavTrainer, which is exact."
            )


def masked(values: Tensor, mask: Tensor) -> Tensor:
    """`values` (..., *) with zeros outside `mask` (...), where they may be anything, even NaN."""
    return values.where(mask.reshape(*mask.shape, *(1,) * (values.dim() - mask.dim())), 0)
