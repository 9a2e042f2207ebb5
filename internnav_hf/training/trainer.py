"""The trainer of every model here: transformers' Trainer with additions for navigation models.

- Every `*_loss` of the model's output is logged by name, averaged over its own count.
- Gradient accumulation and data parallelism are exact for every count that a loss divides by.
- Each module has its own learning rate; the table of groups is logged, and is in `output_dir`.
- `set_epoch` of a training set is called at each epoch, in every process and resumed run; a set
  with `lengths` can be drawn in groups of about equal length, or in packs without padding.
- Samples/s, tokens/s and the share of time spent waiting for data are logged.
- A loss or gradient that is not finite stops the run before it reaches a checkpoint.
- Signals save a checkpoint, and a resumed run equals the uninterrupted one (`saving`).
- If System2 learns below an action expert, `LatentDrift` measures how far its plans have moved, and
  can limit it.

A model supports this by declaring `loss_counts` in its output (name of a loss -> number of items it
averages) and `loss_count_keys` on its class (key of the batch -> argument of `forward` that gets
its sum over the whole optimisation step). Both are optional. Batches need no `labels`: a model
without them divides its loss by those counts alone.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled
from transformers.trainer_utils import IntervalStrategy, _is_peft_model

from internnav_hf.arguments.options import check_fit
from internnav_hf.arguments.training import NavTrainingArguments
from internnav_hf.training.evaluation import ExactEvaluation
from internnav_hf.training.latent_drift import LatentDrift
from internnav_hf.training.loading import TrainingSamples
from internnav_hf.training.lora import merge_lora
from internnav_hf.training.sampler import SetEpochCallback
from internnav_hf.training.samples import (
    BROKEN_SAMPLES,
    INDEX_KEY,
    NOT_FINITE,
    diagnose,
    some_samples,
)
from internnav_hf.training.saving.publishing import PublishingTrainer
from internnav_hf.training.saving.resume import checkpoint_to_resume, last_complete_checkpoint
from internnav_hf.training.sums import Sums, mean_losses
from internnav_hf.training.tuning import parameter_groups, parameter_table
from internnav_hf.weights.loading import check_loading

__all__ = ["NavTrainer", "checkpoint_to_resume", "last_complete_checkpoint"]

logger = logging.getLogger(__name__)

_OUT_OF_MEMORY = """Out of memory on {device}: {error}
What helps, cheapest first: a smaller --per_device_train_batch_size, and larger by the same factor
--gradient_accumulation_steps (same result); --gradient_checkpointing true; fewer or smaller images;
ZeRO-2 or ZeRO-3 (recipes/accelerate/); freezing modules, or LoRA; a smaller base model.
Checkpoints in {output_dir} are intact: --resume_from_checkpoint true goes on from the last one."""


class NavTrainer(PublishingTrainer, ExactEvaluation, TrainingSamples):
    """Trainer with named losses, exact accumulation, learning rates by module, and a guard."""

    args: NavTrainingArguments
    model: Any

    def __init__(
        self,
        model: nn.Module,
        args: NavTrainingArguments,
        eval_dataset: Any = None,
        num_eval_samples: int | None = None,
        open_loop: Callable[..., dict[str, float]] | None = None,
        drift: LatentDrift | None = None,
        packing_length: int | None = None,
        **kwargs,
    ):
        """At most `num_eval_samples` of `eval_dataset`, drawn by the seed, are evaluated; without
        `eval_dataset` nothing is. In every evaluation, on every process, `open_loop(eval_dataset,
        num_samples=..., batch_size=..., seed=...)` returns metrics of the same samples. `drift`
        records the plans of `model` before a checkpoint is loaded. With `packing_length` the
        training samples are packed (`packing`).
        """
        if eval_dataset is None:
            args.eval_strategy, open_loop = IntervalStrategy.NO, None
        if open_loop is not None:
            drawn = {"num_samples": num_eval_samples, "seed": args.seed}
            size = args.eval_batch_size
            open_loop = partial(open_loop, eval_dataset, batch_size=size, **drawn)
        if eval_dataset is not None and num_eval_samples is not None:
            eval_dataset = some_samples(eval_dataset, num_eval_samples, args.seed)
        if kwargs.get("train_dataset") is not None:
            check_fit(args, model, kwargs["train_dataset"], kwargs.get("compute_loss_func"))
        args.check_evaluation(eval_dataset)
        super().__init__(model, args, eval_dataset=eval_dataset, **kwargs)
        self.open_loop = open_loop
        self.drift = drift
        if open_loop is not None and is_deepspeed_zero3_enabled():
            # each process generates for its own samples, so they would wait for each other's layers
            logger.warning("ZeRO-3 shares the weights out: evaluations leave the open loop out.")
            self.open_loop = None
        if packing_length is not None:
            self.pack(packing_length)
        self._set_epoch = SetEpochCallback()
        self.add_callback(self._set_epoch)
        # the keys that a batch needs to be scored in evaluations
        self.label_names = self.label_names or list(getattr(self.model, "loss_count_keys", ()))
        if self.drift is not None:
            with self.accelerator.autocast():
                self.drift.record(self.model.to(args.device))
        self._sums = Sums()
        self._window_start: float | None = None

    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs):
        """Train. `resume_from_checkpoint=True` continues from the last complete checkpoint."""
        output_dir = self.args.output_dir
        if resume_from_checkpoint is True:
            resume_from_checkpoint = last_complete_checkpoint(output_dir)
            if resume_from_checkpoint is None:
                raise ValueError(f"{output_dir} has no complete checkpoint to resume from.")
        try:
            return super().train(resume_from_checkpoint, **kwargs)
        except torch.OutOfMemoryError as error:
            where = {"device": self.args.device, "output_dir": output_dir}
            raise torch.OutOfMemoryError(_OUT_OF_MEMORY.format(error=error, **where)) from error

    def run(self, resume_from_checkpoint: str | None = None) -> None:
        """Train, evaluate if there is held-out data, save metrics and the final model.

        LoRA is merged into the final model, so that it loads like any other.
        """
        with self.saving_when_interrupted():
            result = self.train(resume_from_checkpoint)
            metrics = self.evaluate() if self.eval_dataset is not None else None
        with self.finishing():
            self._save_final(result.metrics, metrics)
        self.publish("Model save")

    def _save_final(self, train_metrics: dict, eval_metrics: dict | None) -> None:
        if _is_peft_model(self.model):
            self.save_adapter()
            is_main, shared = self.is_world_process_zero(), is_deepspeed_zero3_enabled()
            self.model, weights = merge_lora(self.model, shared, is_main)
            if self.args.should_save:  # save_model would save what DeepSpeed still wraps
                self._save(self.args.output_dir, weights)
        else:
            self.save_model(_internal_call=True)
        self.save_metrics("train", train_metrics | {"world_size": self.args.world_size})
        if eval_metrics is not None:
            self.save_metrics("eval", eval_metrics)
        self.save_state()

    def _run_epoch(self, *args, **kwargs):
        # if a run is resumed at its end, Trainer would take one step more
        if self.state.global_step < self.state.max_steps:
            super()._run_epoch(*args, **kwargs)

    # Learning rates by module

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Create the optimiser `args.optim` over `parameter_groups`, and log their table."""
        model = self.model if model is None else model
        if self.optimizer is None:
            args = self.args
            rates, decay = args.rates_by_module, (args.weight_decay, args.decays_vectors)
            groups = parameter_groups(model, args.learning_rate, rates, *decay)
            if self.is_world_process_zero():
                table = parameter_table(groups)
                logger.info("Parameter groups:\n%s", table)
                Path(args.output_dir, "parameter_groups.txt").write_text(table + "\n")
            trained = [group for group in groups if group.pop("trainable")]
            optimizer_class, options = self.get_optimizer_cls_and_kwargs(args, model)
            self.optimizer_cls_and_kwargs = (optimizer_class, {**options, "params": trained})
        return super().create_optimizer(model)

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None):
        """Create Trainer's scheduler, over `args.lr_scheduler_steps` if given."""
        num_steps = self.args.lr_scheduler_steps or num_training_steps
        return super().create_scheduler(num_steps, optimizer)

    # Exact accumulation

    def _get_num_items_in_batch(self, batch_samples: list, device: torch.device):
        """Return Trainer's count of labels; add the `loss_count_keys` counts to every micro-batch.

        Without labels, return their sum, so that Trainer sees that the loss is already divided.
        """
        num_items = super()._get_num_items_in_batch(batch_samples, device)
        count_keys = getattr(self.model, "loss_count_keys", {})
        if not count_keys:
            return num_items
        counts = torch.zeros(len(count_keys), device=device)
        for index, key in enumerate(count_keys):
            for batch in batch_samples:
                if key in batch:
                    counts[index] += batch[key].sum().to(device)
        if self.args.average_tokens_across_devices and self.args.world_size > 1:
            counts = self.accelerator.reduce(counts, "sum")
        for batch in batch_samples:
            batch.update(zip(count_keys.values(), counts, strict=True))
        return counts.sum() if num_items is None else num_items

    def _prepare_input(self, data):
        """Move to the device, not cast: under DeepSpeed, Trainer would round pixels to bfloat16."""
        if isinstance(data, Tensor):
            return data.to(self.args.device)
        return super()._prepare_input(data)

    # Named losses and throughput, kept on the device until they are logged

    def get_batch_samples(self, epoch_iterator: Iterator, num_batches: int, device: torch.device):
        """Return the micro-batches of one optimisation step; measure the time to load them."""
        if self._window_start is None:
            self._window_start = time.perf_counter()
        timed = self._timed(epoch_iterator)
        batches, num_items = super().get_batch_samples(timed, num_batches, device)
        for batch in batches:
            self._sums.add("samples", torch.tensor(len(batch[self.model.main_input_name])))
            if "attention_mask" in batch:
                self._sums.add("tokens", batch["attention_mask"].sum())
        if num_items is not None and "labels" in batches[0]:
            self._sums.add("steps_without_labels", torch.as_tensor(num_items) == 0)
        return batches, num_items

    def _timed(self, iterator: Iterator) -> Iterator:
        while True:
            start = time.perf_counter()
            batch = next(iterator, None)
            self._sums.add("wait", torch.tensor(time.perf_counter() - start))
            if batch is None:
                return
            yield batch

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Return Trainer's loss; sum up the named ones, and stop if one is not finite."""
        outputs: Any
        indices = inputs.pop(INDEX_KEY, None)
        forward = model if "labels" in inputs else _without_num_items(model)
        loss, outputs = super().compute_loss(forward, inputs, True, num_items_in_batch)
        named = {name: value.detach() for name, value in outputs.items() if name.endswith("_loss")}
        # once a step, with its last micro-batch: the same whatever the accumulation
        if model.training and self.drift is not None and self.accelerator.sync_gradients:
            held = self.drift.loss(self.model, self.state.global_step)
            if held is not None:
                loss = loss + held
                named["distillation_loss"] = held.detach()
        counts = outputs.get("loss_counts") or {}
        for name, value in named.items():
            self._sums.add(name, value, counts.get(name))
        if not torch.isfinite(loss):
            self._stop("the loss is not finite", named, indices)
        return (loss, outputs) if return_outputs else loss

    def _get_grad_norm(self, model, grad_norm=None):
        grad_norm = super()._get_grad_norm(model, grad_norm)
        # fp16 may overflow: its scaler then skips the step
        if grad_norm is not None and not self.args.fp16 and not math.isfinite(grad_norm):
            self._stop("the loss is finite, but its gradient is not", {})
        return grad_norm

    def _stop(self, what: str, losses: dict[str, Tensor], indices: Tensor | None = None) -> None:
        listed = ", ".join(f"{name} {value.item():.4g}" for name, value in losses.items())
        samples, is_data = self._diagnosis(indices)
        raise FloatingPointError(
            (BROKEN_SAMPLES if is_data else NOT_FINITE).format(
                step=self.state.global_step + 1,
                what=what,
                losses=listed or "see the log",
                samples="; ".join(samples),
                output_dir=self.args.output_dir,
            )
        )

    def _diagnosis(self, indices: Tensor | None) -> tuple[list[str], bool]:
        if indices is None or is_deepspeed_zero3_enabled():  # all processes would have to look
            return [], False

        @torch.no_grad()
        def is_finite(batch: Any) -> bool:
            return bool(torch.isfinite(self.model(**self._prepare_inputs(batch))["loss"]))

        self.model.eval()
        return diagnose(self.train_dataset, indices.tolist(), self.data_collator, is_finite)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add named losses and throughput to Trainer's log during training."""
        if "loss" in logs and self._window_start is not None:
            logs |= self._summary(self._sums.pop(), time.perf_counter() - self._window_start)
            self._window_start = None
            logs |= self._drift_now()
        super().log(logs, start_time)

    def _drift_now(self) -> dict[str, float]:
        if self.drift is None:
            return {}
        with self._clock_stopped(), self.accelerator.autocast():
            return {"latent_drift": self.drift.measure(self.model)}

    def _summary(self, sums: dict[str, tuple[float, float]], seconds: float) -> dict[str, float]:
        steps, world_size = sums.get("steps_without_labels"), self.args.world_size
        if steps is not None and steps[0] > 0 and self.is_world_process_zero():
            empty, all_steps = round(steps[0] / world_size), round(steps[1] / world_size)
            logger.warning("No text was learnt in %d of %d steps: no label.", empty, all_steps)
        summary = mean_losses(sums)
        summary["samples_per_second"] = sums["samples"][0] / seconds
        if "tokens" in sums:
            summary["tokens_per_second"] = sums["tokens"][0] / seconds
        summary["data_wait_share"] = sums["wait"][0] / world_size / seconds
        return summary

    def evaluation_loop(self, *args, metric_key_prefix: str = "eval", **kwargs):
        """Add the metrics of `open_loop` in evaluations."""
        metrics: dict[str, float] = {}
        with self._clock_stopped():
            output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **kwargs)
            if metric_key_prefix.startswith("eval"):
                metrics |= self._drift_now()
                if self.open_loop is not None:
                    with torch.no_grad(), self.accelerator.autocast():
                        metrics |= self.open_loop()
        named = {f"{metric_key_prefix}_{name}": value for name, value in metrics.items()}
        return output._replace(metrics=(output.metrics or {}) | named)

    @contextmanager
    def _clock_stopped(self):
        start = time.perf_counter()
        yield
        if self._window_start is not None:
            self._window_start += time.perf_counter() - start

    # Checkpoints

    def _save_checkpoint(self, model, trial) -> None:
        with self._clock_stopped():
            super()._save_checkpoint(model, trial)

    def _unlogged(self) -> dict[str, Any]:
        start = self._window_start
        return {
            "sums": dict(self._sums.by_name),
            "seconds": None if start is None else time.perf_counter() - start,
        }

    def _set_unlogged(self, unlogged: dict[str, Any]) -> None:
        device = self.args.device
        self._sums.by_name = {
            n: torch.tensor(s, device=device) for n, s in unlogged["sums"].items()
        }
        if unlogged["seconds"] is not None:
            self._window_start = time.perf_counter() - unlogged["seconds"]

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model=None) -> None:
        """Load by `from_pretrained`, strictly. Trainer uses the keys on disk, which differ for
        Qwen-VL from those in memory, and would continue with the weights it has.
        """
        model = self.model if model is None else model
        if self.is_fsdp_enabled or not isinstance(model, PreTrainedModel):
            return super()._load_from_checkpoint(resume_from_checkpoint, model)
        model_class: Any = type(model)
        loaded, info = model_class.from_pretrained(
            resume_from_checkpoint, config=model.config, dtype=model.dtype, output_loading_info=True
        )
        check_loading(resume_from_checkpoint, info)
        model.load_state_dict(loaded.state_dict())

    def _load_best_model(self) -> None:
        if self.is_deepspeed_enabled or self.is_fsdp_enabled or _is_peft_model(self.model):
            super()._load_best_model()
        else:
            self._load_from_checkpoint(str(self.state.best_model_checkpoint))


def _without_num_items(model: nn.Module) -> Callable[..., Any]:
    """Wrap `model`: Trainer passes its count of labels if the model `accepts_loss_kwargs`."""

    def forward(num_items_in_batch=None, **inputs):
        return model(**inputs)

    return forward
