"""Drift of System2's plans while System2 learns below an action expert, and a loss that limits it.

An expert learns to read the plans of one System2; once System2 changes, its plans mean something
else. So the plans of a fixed set of dialogues, the probes, are recorded before the first step, and
later compared with System2's plans for the same probes. The latent queries, which learn
separately, are reset to their recorded values for that, so that System2's drift alone is measured.
No second copy of the model is kept.

Legend: B samples, Q query tokens, D width.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.data import DataLoader, Dataset, Subset

from internnav_hf.arguments.training import NavTrainingArguments
from internnav_hf.models.dual_system.model import DualSystemModel
from internnav_hf.training.evaluation import evaluating

PROMPT_KEYS = ("input_ids", "attention_mask", "mm_token_type_ids", "pixel_values", "image_grid_thw")


class LatentDrift:
    """Drift of the plans for `probes`, batches of a `DualSystemModel`; only the dialogue is kept.

    `weight` above 0 makes `loss` a term of the training loss that keeps the plans: distillation
    from the earlier model. Each process measures all probes.
    """

    def __init__(self, probes: Sequence[Mapping[str, Tensor]], weight: float = 0.0):
        if not probes:
            raise ValueError("Latent drift: expected at least one probe batch, found none.")
        if weight < 0:
            raise ValueError(f"distillation_weight: found {weight}, expected 0 or more.")
        self.probes = [{key: batch[key] for key in PROMPT_KEYS} for batch in probes]
        self.weight = weight
        self._plans: list[Tensor] = []  # (B, Q, D) each
        self._queries: Tensor | None = None  # (Q, D)

    @torch.no_grad()
    def record(self, model: nn.Module) -> None:
        """Record the current plans and queries of `model` as the reference."""
        self._queries = dict(model.named_parameters())[_query_name(model)].detach().clone()
        with evaluating(model):
            self._plans = [self._plan(model, probe) for probe in self.probes]

    @torch.no_grad()
    def measure(self, model: nn.Module) -> float:
        """Return 1 - cosine of current and recorded plans, mean over samples and query tokens."""
        with evaluating(model):
            cosines = [
                F.cosine_similarity(self._plan(model, probe), plan, dim=-1).flatten()
                for probe, plan in zip(self.probes, self._plans, strict=True)
            ]
        return 1 - torch.cat(cosines).mean().item()

    def loss(self, model: nn.Module, step: int) -> Tensor | None:
        """`weight` times the squared error of one probe batch's plans over their mean square, with
        gradient; None if `weight` is 0. Probe batches take turns by `step`.
        """
        if self.weight == 0:
            return None
        plan = self._plans[step % len(self.probes)]
        now = self._plan(model, self.probes[step % len(self.probes)])
        return self.weight * F.mse_loss(now, plan) / plan.square().mean()

    def _plan(self, model: nn.Module, probe: Mapping[str, Tensor]) -> Tensor:
        assert self._queries is not None, "record() comes first"
        inputs = {key: value.to(self._queries.device) for key, value in probe.items()}
        queries = {_query_name(model): self._queries}
        return functional_call(model, queries, kwargs=inputs).plan.float()


def drift_of(
    model: DualSystemModel,
    dataset: Dataset,
    collator: Callable[[list], Mapping[str, Tensor]],
    args: NavTrainingArguments,
    num_probes: int,
    weight: float = 0.0,
) -> LatentDrift | None:
    """Return `LatentDrift` over `num_probes` samples drawn by the seed; None if System2 is frozen.

    Raises ValueError for a `weight` that would then have no effect.
    """
    if model.system2_is_frozen:
        if weight > 0:
            raise ValueError(f"distillation_weight: found {weight}, but System2 is frozen: use 0.")
        return None
    samples: Any = dataset  # sized
    order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(args.seed))
    chosen = Subset(dataset, order[:num_probes].tolist())
    loader = DataLoader(chosen, args.train_batch_size, collate_fn=collator)
    return LatentDrift(list(loader), weight)


def _query_name(model: nn.Module) -> str:
    """Return the name of the latent queries' weight; PEFT adds a frozen copy and renames both."""
    names = (name for name, _ in model.named_parameters() if "latent_queries." in name)
    return next(name for name in names if ".original_module." not in name)
