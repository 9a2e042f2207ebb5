"""Atomic checkpoints with all that an exact resume needs, also saved when a signal asks the run to
end.

In addition to Trainer's files a checkpoint has `run.json`, the facts of the run and the list of its
files (see `resume`), and `progress.json`: for each process the losses since the last line of the
log, and what was due when the run was left. All are written into a hidden folder that is renamed
last.

A single process stops at once when a signal comes, also in the middle of a step, of an evaluation,
or while it waits for data; its state after the last whole step is saved. Several processes agree
after each step, and before each batch of an evaluation, and stop together.
"""

import json
import logging
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list, gather_object
from transformers import Trainer, TrainerCallback
from transformers.integrations import TensorBoardCallback
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from internnav_hf.files import (
    flush,
    give_umask,
    remove_folder,
    remove_stale,
    replace_folder,
    temporary_beside,
    writing,
)
from internnav_hf.signals import QuietWorker
from internnav_hf.training.saving.interruption import (
    Interrupted,
    Interruption,
    forgets_steps,
    may_be_left_anywhere,
)
from internnav_hf.training.saving.moments import (
    PROGRESS_FILE,
    Moment,
    generator_states,
    plain,
    read_progress,
    set_generators,
)
from internnav_hf.training.saving.resume import (
    check_same_run,
    checkpoints,
    describe_run,
    warn_of_new_length,
    what_is_left,
    write_record,
)

logger = logging.getLogger(__name__)

_STAGING = "saving"


class CheckpointTrainer(Trainer):
    """Trainer whose weights and log do not change by interruption, kill and resume."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.interruption = Interruption()
        self.saved_beside: list[Callable[[Path], Any]] = []
        """Called with the folder of a model while it is written, in the main process."""
        self._run: dict[str, Any] = {}
        self._resumed: str | None = None
        self._moment: Moment | None = None
        self._staging: Path | None = None
        self._rng_to_load: dict[str, Any] | None = None
        self._ends_epoch = self._leaves = False
        self._saved_step = self._first_counted_step = 0
        self._last_rates: tuple[float | None, float | None] = (None, None)
        self.add_callback(_Watch(self))

    # NavTrainer overrides these for its named losses and clock

    def _unlogged(self) -> dict[str, Any]:
        """Return the values for the next line of the log: JSON, or tensors."""
        return {}

    def _set_unlogged(self, unlogged: dict[str, Any]) -> None:
        """Restore the values of `_unlogged`."""

    # Signals

    @contextmanager
    def saving_when_interrupted(self) -> Iterator[None]:
        """Save a checkpoint on a signal, and end the program with 128 + its number."""
        if self.interruption.is_heard:
            yield
            return
        with self.interruption.heard():
            try:
                yield
                return
            except Interrupted:
                # workers ended by the same signal would raise in the middle of the save
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._save_interrupted()
        raise SystemExit(128 + (self.interruption.number or 0))

    @contextmanager
    def finishing(self) -> Iterator[None]:
        """Write the final files of a run despite signals; Ctrl-C twice ends it."""
        begun = time.time() - 1
        with self.interruption.heard(), writing(self.args.output_dir):
            yield
            if self.args.should_save:
                for path in Path(self.args.output_dir).glob("*.*"):
                    if path.stat().st_mtime >= begun:
                        give_umask(path)

    def _save_interrupted(self) -> None:
        assert self.interruption.number is not None
        name = signal.Signals(self.interruption.number).name
        step, output_dir = self.state.global_step, self.args.output_dir
        folder = Path(output_dir, f"{PREFIX_CHECKPOINT_DIR}-{step}")
        if step == 0:
            logger.warning("%s: the run ends before its first step is done.", name)
            return
        if self._saved_step != step:
            self._save_moment()
        logger.warning(
            "%s: the run ends after step %d, saved in %s. --resume_from_checkpoint auto goes on.",
            name,
            step,
            folder,
        )
        self._flush_logs()

    def _save_moment(self) -> None:
        if not self.is_in_train:  # its end was logged; a resumed run will log it
            history = self.state.log_history
            self.state.log_history = [row for row in history if "train_loss" not in row]
        if self._moment is not None:
            set_generators(self._moment.rng)
            self.state.num_input_tokens_seen = self._moment.num_tokens
        self._leaves = True
        self._save_checkpoint(self.model, None)

    def _flush_logs(self) -> None:
        """Flush TensorBoard's writer, which would lose the last lines."""
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, TensorBoardCallback) and callback.tb_writer is not None:
                callback.tb_writer.flush()

    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs):
        """Train as Trainer does; a resumed run must be the same run."""
        self._resumed = resume_from_checkpoint if isinstance(resume_from_checkpoint, str) else None
        self._run = describe_run(self.args, self.model, self.train_dataset)
        if self._resumed:
            check_same_run(self._resumed, self._run, self.args.resume_anyway)
        if self.args.should_save and Path(self.args.output_dir).is_dir():
            remove_stale(Path(self.args.output_dir))
        output_dir = self.args.output_dir
        with self.saving_when_interrupted(), writing(output_dir, what_is_left(output_dir)):
            return super().train(resume_from_checkpoint, **kwargs)

    def prediction_step(self, *args, **kwargs):
        """Run Trainer's step; several processes leave an evaluation together."""
        several = not may_be_left_anywhere(self.accelerator)
        heard = self.interruption.is_heard
        if heard and several and self.interruption.agree(self.accelerator):
            assert self.interruption.number is not None
            raise Interrupted(self.interruption.number)
        return super().prediction_step(*args, **kwargs)

    def _release(self) -> None:
        if may_be_left_anywhere(self.accelerator):
            self.interruption.release()

    def _evaluate(self, *args, **kwargs):
        self._moment = self._now(evaluation_due=True)
        self._release()
        try:
            return super()._evaluate(*args, **kwargs)
        finally:
            self.interruption.hold()

    def _get_dataloader(self, *args, **kwargs):
        loader = super()._get_dataloader(*args, **kwargs)
        if loader.num_workers:
            inner = getattr(loader, "base_dataloader", loader)  # accelerate's shell starts none
            inner.worker_init_fn = QuietWorker(inner.worker_init_fn)
        return loader

    # A run's moments

    def _maybe_log_save_evaluate(self, tr_loss, grad_norm, *args, learning_rate=None, **kwargs):
        """Run Trainer's, after a step and after an epoch; handle a pending signal here."""
        norm = grad_norm.item() if isinstance(grad_norm, torch.Tensor) else grad_norm
        self._last_rates = (norm, learning_rate)
        rest = {**kwargs, "learning_rate": learning_rate}
        if self.interruption.is_heard and self.interruption.agree(self.accelerator):
            due = self.control.should_evaluate
            self.control.should_evaluate = self.control.should_save = False
            super()._maybe_log_save_evaluate(tr_loss, grad_norm, *args, **rest)
            self._moment = self._now(evaluation_due=due)
            assert self.interruption.number is not None
            raise Interrupted(self.interruption.number)
        super()._maybe_log_save_evaluate(tr_loss, grad_norm, *args, **rest)
        self._moment = self._now()
        self._release()

    def _now(self, evaluation_due: bool = False) -> Moment:
        progress = {
            "tr_loss": self._tr_loss.detach().clone(),
            "total_loss": self._total_loss_scalar,
            "last_logged": self._globalstep_last_logged,
            "rates": self._last_rates,
            "unlogged": self._unlogged(),
            "evaluation_due": evaluation_due,
            "epoch_end_due": self._ends_epoch,
        }
        return Moment(generator_states(), progress, self.state.num_input_tokens_seen)

    def _begin(self) -> None:
        """Restore the checkpoint's progress at the first step of this process."""
        if self.state.global_step > self.state.max_steps:
            raise ValueError(
                f"{self._resumed} was saved at step {self.state.global_step}, but the run ends at "
                f"step {self.state.max_steps}: raise --max_steps or --num_train_epochs."
            )
        if self._resumed:
            warn_of_new_length(self._resumed, self.state.max_steps)
        progress = read_progress(self._resumed, self.args.process_index)
        if progress is None:
            self._first_counted_step = self.state.global_step
        else:
            self._tr_loss += progress["tr_loss"]
            self._total_loss_scalar = progress["total_loss"]
            self._globalstep_last_logged = progress["last_logged"]
            self._set_unlogged(progress["unlogged"])
            if progress["evaluation_due"] or progress["epoch_end_due"]:
                self._catch_up(progress)
        self._moment = self._now()
        if self.interruption.is_heard:
            self._release()

    def _catch_up(self, progress: dict[str, Any]) -> None:
        """Do what was due when the run was left: an evaluation, the end of an epoch."""
        super()._load_rng_state(self._resumed)
        norm, rate = progress["rates"]
        args = (self._tr_loss, norm, self.model_wrapped, None, self.state.epoch, None, time.time())
        self.control.should_evaluate = progress["evaluation_due"]
        super()._maybe_log_save_evaluate(*args, learning_rate=rate)
        if progress["epoch_end_due"]:
            handler = self.callback_handler
            self.control = handler.on_epoch_end(self.args, self.state, self.control)
            self._ends_epoch = False
            super()._maybe_log_save_evaluate(*args, learning_rate=rate)
        self._rng_to_load = generator_states()

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if self._rng_to_load is None:
            super()._load_rng_state(checkpoint)
        else:  # what was due has drawn random numbers since
            set_generators(self._rng_to_load)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Load as Trainer does; one line if the state is another optimiser's."""
        try:
            super()._load_optimizer_and_scheduler(checkpoint)
            if self.optimizer is not None:
                _check_settings(self.optimizer)
        except ValueError as error:
            raise ValueError(
                f"{checkpoint}/optimizer.pt does not fit the optimiser asked for ({error}); with "
                "--resume_anyway, delete it, and a new one starts."
            ) from error

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log as Trainer does; the mean loss of a resumed training is over all of its steps."""
        if "train_loss" in logs and self.state.global_step > self._first_counted_step:
            num_steps = self.state.global_step - self._first_counted_step
            logs["train_loss"] = self._total_loss_scalar / num_steps
        super().log(logs, start_time)

    # Saving

    def _get_output_dir(self, trial) -> str:
        return str(self._staging) if self._staging else super()._get_output_dir(trial)

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        self.accelerator.wait_for_everyone()

    def _save_checkpoint(self, model, trial) -> None:
        """Save into a hidden folder that becomes the checkpoint when all have written."""
        self.interruption.hold()
        output_dir = Path(self.args.output_dir)
        final = output_dir / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        moment = self._moment if self._leaves else None
        progress = plain((moment or self._now()).progress)
        staging = broadcast_object_list([str(temporary_beside(output_dir / _STAGING))])[0]
        self._staging = Path(staging)
        try:
            with writing(final, what_is_left(output_dir)):
                super()._save_checkpoint(model, trial)
                everyone = gather_object([progress])
                if self.args.should_save:
                    self._finish_checkpoint(self._staging / final.name, final, everyone)
                self.accelerator.wait_for_everyone()
        finally:
            if self.args.should_save:
                shutil.rmtree(self._staging, ignore_errors=True)
            self._staging = None
        if self.args.push_to_hub:
            self._push_from_checkpoint(str(final))
        self._saved_step = self.state.global_step
        if self.args.should_save:
            self._remove_old(final)

    def _finish_checkpoint(self, written: Path, final: Path, progress: list[dict]) -> None:
        if self.state.best_model_checkpoint == str(written):
            self.state.best_model_checkpoint = str(final)
            self.state.save_to_json(str(written / TRAINER_STATE_NAME))
        (written / PROGRESS_FILE).write_text(json.dumps(progress, indent=1))
        write_record(written, self._run)
        give_umask(written)
        flush(written)
        replace_folder(written, final)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        super()._save(output_dir, state_dict)
        if self.args.should_save:
            for save in self.saved_beside:
                save(Path(output_dir or self.args.output_dir))

    def _remove_old(self, newest: Path) -> None:
        """Remove checkpoints above `save_total_limit`, oldest first; never renamed ones."""
        limit = self.args.save_total_limit
        if limit is None or limit <= 0:
            return
        kept = {newest, Path(self.state.best_model_checkpoint or newest)}
        found = sorted(checkpoints(self.args.output_dir), key=lambda f: (f.stat().st_mtime, f.name))
        for folder in found[: max(0, len(found) - max(limit, len(kept)))]:
            if folder not in kept:
                remove_folder(folder)

    def _finalize_training(self, *args, **kwargs):
        # Trainer would remove anything whose name begins like a checkpoint's
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        try:
            return super()._finalize_training(*args, **kwargs)
        finally:
            self.args.save_total_limit = limit


class _Watch(TrainerCallback):
    """Reports the position of the loop to a CheckpointTrainer."""

    def __init__(self, trainer: CheckpointTrainer):
        self.trainer = trainer
        self.forgets_steps: bool | None = None

    def on_train_begin(self, args, state, control, **kwargs):
        self.trainer._begin()

    def on_step_begin(self, args, state, control, **kwargs):
        self.trainer._ends_epoch = False
        if not self.forgets_steps:  # only known after a step
            self.trainer.interruption.hold()

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        self.trainer.interruption.hold()
        if self.forgets_steps is None:
            self.forgets_steps = forgets_steps(model)

    def on_step_end(self, args, state, control, **kwargs):
        is_last = state.global_step >= state.max_steps
        self.trainer._ends_epoch = is_last or float(state.epoch).is_integer()

    def on_epoch_end(self, args, state, control, **kwargs):
        self.trainer._ends_epoch = False


def _check_settings(optimizer: Any) -> None:
    """Raise ValueError if a loaded state lacks a setting of this optimiser."""
    defaults = getattr(optimizer, "optimizer", optimizer).defaults
    lacking = [name for group in optimizer.param_groups for name in defaults.keys() - group.keys()]
    if lacking:
        raise ValueError(f"it has no {lacking[0]!r}")
