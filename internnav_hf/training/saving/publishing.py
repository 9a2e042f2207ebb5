"""A trainer that saves our card with every model and pushes both to the Hub in one commit: at the
end and, depending on `hub_strategy`, during training.

The licence, derived from base and data, and write access to the repository are checked before
training. Arguments of the run, logs, tokens and optimiser states are not pushed, the last unless
`hub_strategy` asks for checkpoints.
"""

import logging
import sys
from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel
from transformers.trainer_utils import HubStrategy, SaveStrategy, _is_peft_model

from internnav_hf.arguments.command import publishable
from internnav_hf.publishing.card import (
    CardFacts,
    check_licence,
    check_published,
    is_by_hand,
    render_card,
)
from internnav_hf.publishing.licences import parse_licence
from internnav_hf.publishing.origins import CARD, Origin, weights_origins
from internnav_hf.publishing.pushing import HUB_ERRORS, hub_problem
from internnav_hf.publishing.repository import (
    PUBLISHED,
    RESUMABLE,
    Repository,
    in_thread,
    stage,
    sweep,
)
from internnav_hf.training.saving.checkpoints import CheckpointTrainer
from internnav_hf.training.saving.provenance import cameras_of, data_origins, settings_of

logger = logging.getLogger(__name__)

ADAPTER = "adapter"
_TIMES = ("_runtime", "_per_second")


class PublishingTrainer(CheckpointTrainer):
    """See the module. `parents` are the sources of the model: folders, files, Hub names."""

    args: Any
    model: Any

    def __init__(self, model: Any, args: Any, parents: Sequence[str | None] = (), **kwargs):
        """Raise ValueError if the model cannot be published as `args` ask."""
        super().__init__(model, args, **kwargs)
        self.parents = [parent for parent in parents if parent is not None]
        self.repository: Repository | None = None
        self._pushes: list[tuple[Any, Any]] = []
        if self.is_world_process_zero() and self._has_card:
            check_licence(self.card_facts())
        if self.args.push_to_hub:
            self.open_repository()

    # The card

    @property
    def _plain_model(self) -> Any:
        return self.model.get_base_model() if _is_peft_model(self.model) else self.model

    @property
    def _has_card(self) -> bool:
        return isinstance(self._plain_model, PreTrainedModel)

    @cached_property
    def origins(self) -> list[Origin]:
        """Return the origins of the model."""
        kind = self._plain_model.config.model_type
        weights = [origin for name in self.parents for origin in weights_origins(name, kind)]
        data = [] if self.train_dataset is None else data_origins(self.train_dataset)
        return list(dict.fromkeys([*weights, *data]))

    @cached_property
    def _cameras(self) -> list[dict[str, Any]]:
        return cameras_of(self.train_dataset)

    def card_facts(self, **changes) -> CardFacts:
        """Return the facts of the current model for its card."""
        facts = {
            "config": self._plain_model.config,
            "origins": self.origins,
            "chosen": parse_licence(self.args.license) if self.args.license else None,
            "command": f"python {publishable(sys.argv)}",
            "settings": settings_of(self.args),
            "metrics": self._last_metrics(),
            "cameras": self._cameras,
            "base_models": [
                one.repository for one in self.origins if one.kind == "weights" and one.repository
            ],
            "is_adapter": _is_peft_model(self.model),
            "limits": self._limits(),
        }
        if self.repository is not None:
            facts["repository"] = self.repository.name
        return CardFacts(**(facts | changes))

    def create_model_card(self, folder: str | Path | None = None) -> None:
        """Write README.md into `folder`."""
        if self._has_card and self.args.should_save:
            path = Path(folder or self.args.output_dir, CARD)
            path.write_text(render_card(self.card_facts()), encoding="utf-8")

    def _last_metrics(self) -> dict[str, float]:
        entries = (one for one in reversed(self.state.log_history) if _metrics(one))
        return _metrics(next(entries, {}))

    def _limits(self) -> list[str]:
        state, limits = self.state, []
        if 0 < state.global_step < state.max_steps:
            limits.append(f"Its training went on: step {state.global_step} of {state.max_steps}.")
        data = [one for one in self.origins if one.kind == "data"]
        if data and all(one.licence and one.licence.id == "unrestricted" for one in data):
            limits.append("It has seen simulated rooms only, and no photograph of a real one.")
        return limits

    # Saving

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        """Save as Trainer does, with a card, and without the token in the saved `args`."""
        token, self.args.hub_token = self.args.hub_token, None
        try:
            super()._save(output_dir, state_dict)
        finally:
            self.args.hub_token = token
        self.create_model_card(output_dir)

    def save_adapter(self) -> None:
        """Save the LoRA, not merged, beside the final model if `push_adapter` is set."""
        if self.args.push_adapter:
            self.save_model(str(Path(self.args.output_dir, ADAPTER)), _internal_call=True)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save as Trainer does; push if `push_to_hub` is on and a user calls it."""
        super().save_model(output_dir, _internal_call=True)
        if self.args.push_to_hub and not _internal_call:
            self.publish("Model save")

    # The Hub

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """Do nothing: Trainer calls it before it has its model; see `open_repository`."""

    def open_repository(self, token: str | None = None, private: bool | None = None) -> None:
        """Create the repository. Raises ValueError if the model must not or cannot be pushed."""
        if not self.is_world_process_zero():
            return
        sweep(Path(self.args.output_dir))
        if self._has_card:
            check_published(self.card_facts())
        self._check_adapter()
        args = self.args
        repository = Repository(
            args.hub_model_id or Path(args.output_dir).absolute().name,
            args.hub_token if token is None else token,
            args.hub_private_repo if private is None else private,
            args.hub_revision,
        )
        repository.open(self.origins if self._has_card else [])
        self.repository = repository
        self.hub_model_id = self.args.hub_model_id = repository.name

    def push_to_hub(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
    ):
        """Save the model, then push it with our card; ValueError if the push fails."""
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        if self.repository is None or token is not None:
            self.open_repository(token, private)
        if self.repository is not None and revision is not None:
            self.repository.revision = revision
        self.save_model(_internal_call=True)
        return self.publish(commit_message or "End of training", blocking)

    def publish(self, message: str, blocking: bool = True):
        """Push the model saved in `output_dir`, or the adapter beside it."""
        if not self.is_world_process_zero() or self.repository is None:
            return None
        self._finish_current_push()
        folder = Path(self.args.output_dir)
        folder = folder / ADAPTER if self.args.push_adapter else folder
        logger.info("The model is saved in %s. It goes to %s.", folder, self.repository.name)
        try:
            return self._upload(folder, message, PUBLISHED, later=not blocking)
        except HUB_ERRORS as error:
            name = self.repository.name
            raise ValueError(
                f"{name}: {hub_problem(error)} The model is saved in {folder}; push it again with: "
                f"python scripts/push_to_hub.py {folder} {name}"
            ) from error

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Push a checkpoint as `hub_strategy` asks, while training continues."""
        strategy = self.args.hub_strategy
        has_no_name_yet = self._staging is not None
        if has_no_name_yet or not self.is_world_process_zero() or strategy == HubStrategy.END:
            return
        self._forget_done()
        if self._pushes and not self.args.hub_always_push:
            return
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        by_step = self.args.save_strategy == SaveStrategy.STEPS
        now = f"step {self.state.global_step}" if by_step else f"epoch {int(self.state.epoch or 0)}"
        message, folder = f"Training in progress, {now}", Path(checkpoint_folder)
        # An adapter and, at the end, a merged model in one place would be mixed.
        if self.args.push_adapter or not _is_peft_model(self.model):
            self._upload_later(folder, message, PUBLISHED)
        if strategy in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS):
            place = "last-checkpoint" if strategy == HubStrategy.CHECKPOINT else folder.name
            self._upload_later(folder, f"{message}, checkpoint", RESUMABLE, place)

    def _upload_later(self, folder: Path, message: str, patterns, place: str | None = None) -> None:
        try:
            self._upload(folder, message, patterns, place, later=True)
        except HUB_ERRORS as error:
            self._warn(error)

    def _upload(self, folder: Path, message: str, patterns, place=None, later: bool = False):
        assert self.repository is not None
        card = place is not None or not is_by_hand(self.repository.card())
        staged = stage(folder, Path(self.args.output_dir), patterns, card)
        upload = partial(self.repository.upload, Path(staged.name), message, place)
        if later:
            self._pushes.append((in_thread(upload), staged))
            return self._pushes[-1][0]
        with staged:
            return upload()

    def _finish_current_push(self) -> None:
        """Wait for the uploads in progress."""
        self._forget_done(wait=True)

    def _forget_done(self, wait: bool = False) -> None:
        for job, staged in list(self._pushes):
            if not (wait or job.done()):
                continue
            try:
                job.result()
            except HUB_ERRORS as error:
                self._warn(error)
            staged.cleanup()
            self._pushes.remove((job, staged))

    def _warn(self, error: Exception) -> None:
        name = self.args.hub_model_id
        logger.warning("%s: %s Training goes on.", name, hub_problem(error))

    def _check_adapter(self) -> None:
        """Raise ValueError if `--push_adapter` would push an adapter that cannot be loaded."""
        if not self.args.push_adapter:
            return
        if not _is_peft_model(self.model):
            raise ValueError("--push_adapter: there is no adapter without --lora_rank.")
        if self.parents and Path(self.parents[0]).exists():
            raise ValueError(
                f"--push_adapter: its base is {self.parents[0]}, a folder of this machine, which "
                "cannot be opened elsewhere: push the merged model, or name a base of the Hub."
            )


def _metrics(entry: dict[str, Any]) -> dict[str, float]:
    """Return the metrics of an evaluation, without its timings."""
    return {
        name: value
        for name, value in entry.items()
        if name.startswith("eval_") and isinstance(value, int | float) and not name.endswith(_TIMES)
    }
