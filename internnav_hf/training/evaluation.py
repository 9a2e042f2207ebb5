"""Evaluations that do not depend on how samples are put into batches or shared out.

- Batches are those of a single process, dealt out in turn; a process without a batch left repeats
  one that does not count, because all must take as many steps.
- A loss is a mean over the items that the model counts (`loss_counts`) in the whole set;
  `eval_loss` is the sum of losses weighted by the model's `loss_weights`.
- A sample whose loss is not finite is named and left out; `eval_num_left_out` counts them.
"""

import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset
from transformers import Trainer
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled
from transformers.trainer_pt_utils import nested_concat, nested_detach

from internnav_hf.signals import QuietWorker
from internnav_hf.training.samples import name_of
from internnav_hf.training.sums import Sums, mean_losses

logger = logging.getLogger(__name__)

_NAMED = 5
_WEIGHTS_BROKEN = """The evaluation after step {step}: every loss is not finite, and so are weights
of the model. What helps: a lower --learning_rate, a longer --warmup_steps, --max_grad_norm 1, bf16
and not fp16. Checkpoints in {output_dir} are intact: --resume_from_checkpoint true goes on from the
last one."""


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """`model` in evaluation mode, and then as it was."""
    was_training = model.training
    model.eval()
    yield
    model.train(was_training)


def deal(num_samples: int, batch_size: int, rank: int, num_processes: int) -> list:
    """Return process `rank`'s batches, equally many for each: (indices, whether they count)."""
    starts = range(0, num_samples, batch_size)
    batches = [list(range(i, min(i + batch_size, num_samples))) for i in starts]
    rounds = math.ceil(len(batches) / num_processes)
    mine = [turn * num_processes + rank for turn in range(rounds)]
    return [(batches[i % len(batches)], i < len(batches)) for i in mine]


@dataclass
class _Progress:
    """Progress of one evaluation: the `batches` still to come, the indices of the present one,
    whether it counts, and what was left out.
    """

    batches: Iterator
    indices: list[int] = field(default_factory=list)
    counts: bool = False
    left_out: list[int] = field(default_factory=list)


class ExactEvaluation(Trainer):
    """`Trainer.evaluate` and `Trainer.predict`; see the module."""

    model: Any
    _progress: _Progress | None = None
    _losses: Sums

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader:
        """Loader of `eval_dataset`, or of the entry of `self.eval_dataset` that it names."""
        given: Any = self.eval_dataset if eval_dataset is None else eval_dataset
        named = isinstance(given, str) and isinstance(self.eval_dataset, Mapping)
        return self._dealt(self.eval_dataset[given] if named else given)

    def get_test_dataloader(self, test_dataset: Any) -> DataLoader:
        """Loader as for an evaluation."""
        return self._dealt(test_dataset)

    def _dealt(self, dataset: Any) -> DataLoader:
        if dataset is None:
            raise ValueError("eval_dataset: found None, expected what to evaluate on.")
        if isinstance(dataset, IterableDataset):
            raise ValueError(
                "eval_dataset: found an IterableDataset, expected one with samples by index, so "
                "that each counts once."
            )
        if not len(dataset):
            raise ValueError("eval_dataset: found no sample in it.")
        args = self.args
        batches = deal(len(dataset), args.eval_batch_size, args.process_index, args.world_size)
        loader = DataLoader(
            dataset,
            batch_sampler=[indices for indices, _ in batches],  # type: ignore[arg-type]
            collate_fn=self.data_collator,
            num_workers=args.dataloader_num_workers,
            pin_memory=args.dataloader_pin_memory,
            prefetch_factor=args.dataloader_prefetch_factor,
            multiprocessing_context=args.dataloader_multiprocessing_context,
            worker_init_fn=QuietWorker(None) if args.dataloader_num_workers else None,
        )
        loader.dealt = batches  # type: ignore[attr-defined]
        return loader

    def evaluation_loop(self, dataloader, *args, metric_key_prefix: str = "eval", **kwargs):
        """Run Trainer's loop, with losses that are means over their items."""
        self._progress = _Progress(iter(dataloader.dealt))
        self._losses, self.gather_function = Sums(), self._gather
        try:
            output = super().evaluation_loop(
                dataloader, *args, metric_key_prefix=metric_key_prefix, **kwargs
            )
            metrics = self._evaluated(dataloader.dataset, self._progress)
        finally:
            self._progress = None
        named = {f"{metric_key_prefix}_{name}": value for name, value in metrics.items()}
        return output._replace(metrics=(output.metrics or {}) | named)

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        """Return predictions and labels; losses are summed up, and None here."""
        if self._progress is None:
            return super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)
        self._progress.indices, self._progress.counts = next(self._progress.batches)
        inputs = self._prepare_inputs(inputs)
        missing = [name for name in self.args.label_names or () if name not in inputs]
        if missing:
            raise ValueError(
                f"label_names: found {missing[0]!r}, expected names of what is in a batch: "
                f"{', '.join(inputs)}."
            )
        with torch.no_grad(), self.compute_loss_context_manager():
            outputs = model(**inputs)
        if self._progress.counts and outputs.get("loss") is not None:
            self._add(model, outputs, len(self._progress.indices))
        if prediction_loss_only:
            return None, None, None
        return None, *self._predicted(inputs, outputs, ignore_keys)

    def _add(self, model: nn.Module, outputs: Any, num_samples: int) -> None:
        if _is_finite(outputs):
            self._sum(outputs, num_samples)
            return
        progress = self._progress
        assert progress is not None
        if is_deepspeed_zero3_enabled():  # all processes would have to look
            progress.left_out += progress.indices
            return
        dataset: Any = self.callback_handler.eval_dataloader.dataset  # type: ignore[union-attr]
        for index in progress.indices:
            alone = self._prepare_inputs(self.data_collator([dataset[index]]))
            with torch.no_grad(), self.compute_loss_context_manager():
                outputs = model(**alone)
            if _is_finite(outputs):
                self._sum(outputs, 1)
            else:
                progress.left_out.append(index)

    def _sum(self, outputs: Any, num_samples: int) -> None:
        counts = outputs.get("loss_counts") or {}
        samples = torch.tensor(float(num_samples), device=outputs["loss"].device)
        if len({id(count) for count in counts.values()}) == 1:
            counts = {**counts, "loss": next(iter(counts.values()))}
        for name, value in outputs.items():
            if name.endswith("loss") and value is not None:
                self._losses.add(name, value, counts.get(name, samples))

    def _evaluated(self, dataset: Any, progress: _Progress) -> dict[str, float]:
        """Return losses over the whole set, and how many samples they leave out."""
        sums = self._losses.pop()
        left_out = sorted(gather_object(progress.left_out))
        means = mean_losses(sums)
        weights = getattr(self.model, "loss_weights", None)
        metrics = dict(means)
        if weights is not None and means:
            metrics["loss"] = sum(weights[name] * means[name] for name in weights if name in means)
        elif "loss" in sums:
            metrics["loss"] = sums["loss"][0] / sums["loss"][1]
        elif left_out:
            metrics["loss"] = math.nan
            if not all(bool(torch.isfinite(weight).all()) for weight in self.model.parameters()):
                where = {"step": self.state.global_step, "output_dir": self.args.output_dir}
                raise FloatingPointError(_WEIGHTS_BROKEN.format(**where))
        if left_out and self.is_world_process_zero():
            names = [name_of(dataset, index) for index in left_out[:_NAMED]]
            more = f" and {len(left_out) - _NAMED} more" if len(left_out) > _NAMED else ""
            logger.warning(
                "Evaluation: %d of %d samples are left out, their losses are not finite: %s%s.",
                len(left_out),
                len(dataset),
                "; ".join(names),
                more,
            )
        return metrics | {"num_left_out": float(len(left_out))}

    def _predicted(self, inputs, outputs, ignore_keys) -> tuple[Any, Any]:
        """Return a batch's predictions and labels; masks as numbers, so that padding shows."""
        ignored = ignore_keys
        if ignored is None:
            ignored = getattr(self.model.config, "keys_to_ignore_at_inference", [])
        losses = {name for name in outputs if name.endswith("loss")}
        kept = [v for k, v in outputs.items() if k not in {*ignored, *losses, "loss_counts"}]
        if not kept:
            raise ValueError(
                f"{type(self.model).__name__} predicts nothing that is alike for all samples; "
                "evaluate without compute_metrics."
            )
        known = [inputs[name] for name in self.label_names if inputs.get(name) is not None]
        labels = tuple(map(_number, known)) if len(known) == len(self.label_names) else ()
        predictions = nested_detach(tuple(map(_number, kept)))
        return (
            predictions[0] if len(predictions) == 1 else predictions,
            (labels[0] if len(labels) == 1 else labels) if labels else None,
        )

    def _gather(self, tree: Any) -> Any:
        """Gather the counted batches of all processes, in the order of the samples."""
        if self.args.world_size == 1:
            return tree
        assert self._progress is not None
        parts = gather_object([_to_cpu(tree) if self._progress.counts else None])
        counted = [part for part in parts if part is not None]
        together = counted[0]
        for part in counted[1:]:
            together = nested_concat(together, part, padding_index=-100)
        return together

    def _determine_best_metric(self, metrics, trial) -> bool:
        asked = self.args.metric_for_best_model
        name = asked and (asked if asked.startswith("eval_") else f"eval_{asked}")
        if asked is None or name in metrics:
            return super()._determine_best_metric(metrics, trial)
        self._save_checkpoint(self.model, trial)  # or the steps since the last would be lost
        known = sorted(key for key in metrics if key.startswith("eval_"))
        close = get_close_matches(str(name), known, n=1)
        raise ValueError(
            f"metric_for_best_model: found {asked!r}, expected one of {', '.join(known)}."
            + (f" Did you mean {close[0]!r}?" if close else "")
        )


def _is_finite(outputs: Any) -> bool:
    losses = [v for k, v in outputs.items() if k.endswith("loss") and v is not None]
    return bool(torch.isfinite(torch.stack([loss.detach().float() for loss in losses])).all())


def _number(value: Any) -> Any:
    return value.long() if isinstance(value, Tensor) and value.dtype is torch.bool else value


def _to_cpu(tree: Any) -> Any:
    if isinstance(tree, Tensor):
        return tree.detach().cpu()
    if isinstance(tree, Mapping):
        return {key: _to_cpu(value) for key, value in tree.items()}
    return type(tree)(map(_to_cpu, tree)) if isinstance(tree, list | tuple) else tree
