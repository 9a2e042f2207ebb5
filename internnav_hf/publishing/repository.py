"""The Hub repository of a training run: checked before it, given only what using a model needs."""

import fnmatch
import json
import logging
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, HfApi, constants
from transformers.utils import CONFIG_NAME

from internnav_hf.publishing.card import PLACE, check_kept, is_by_hand, settle
from internnav_hf.publishing.licences import Licence
from internnav_hf.publishing.origins import CARD, Origin, weights_origins
from internnav_hf.publishing.pushing import (
    HUB_ERRORS,
    WEIGHTS,
    card_there,
    hub_problem,
    make_branch,
    stale_weights,
)

logger = logging.getLogger(__name__)

PUBLISHED = (
    *WEIGHTS,
    CARD,
    CONFIG_NAME,
    "*_config.json",
    "tokenizer*.json",
    "vocab*.*",
    "merges.txt",
    "*_tokens*.json",
    "chat_template*.*",
    "*.model",
    "eval_results.json",
)
RESUMABLE = (*PUBLISHED, "optimizer*", "scheduler*", "scaler*", "rng_state*", "trainer_state.json")
_STAGED = ".hub-"
_PATHS = ("_name_or_path", "name_or_path", "base_model_name_or_path", "best_model_checkpoint")
_LARGEST_SETTINGS = 50_000_000
SECONDS_TO_ANSWER = 60.0


@dataclass
class Repository:
    """A model repository of the Hub; `private` applies to a new one, `revision` is a branch."""

    name: str
    token: str | None = None
    private: bool | None = None
    revision: str | None = None

    def __post_init__(self) -> None:
        self.api = HfApi(token=self.token)
        self._one_at_a_time = threading.Lock()

    def open(self, origins: Sequence[Origin]) -> None:
        """Create it if it does not exist, and check write access. Raises ValueError without access,
        or if its handwritten card has a freer licence than `origins` allow.
        """
        try:
            within(SECONDS_TO_ANSWER, self._open)
            there = self.card()
            if is_by_hand(there):
                check_kept(there, self.name, origins)
        except HUB_ERRORS as error:
            raise ValueError(f"{self.name}: {hub_problem(error)}") from error

    def card(self) -> Mapping[str, Any]:
        """The head of its card; empty without one."""
        return card_there(self.name, self.token, self.revision)

    def upload(self, folder: Path, message: str, place: str | None = None) -> Any:
        """Upload all of `folder` in one commit; weights of another kind in the repository go."""
        with self._one_at_a_time:
            stale = [] if place else stale_weights(self.api, self.name, self.revision, folder)
            return self.api.upload_folder(
                repo_id=self.name,
                folder_path=folder,
                path_in_repo=place,
                commit_message=message,
                revision=self.revision,
                delete_patterns=stale or None,
            )

    def _open(self) -> None:
        url = self.api.create_repo(self.name, private=self.private, exist_ok=True)
        self.name = url.repo_id
        if not constants.HF_HUB_OFFLINE:
            make_branch(self.api, self.name, self.revision)
            question = CommitOperationAdd(CARD, b"# May this be written?\n")
            self.api.preupload_lfs_files(self.name, [question], revision=self.revision)


def push_folder(folder: Path, repository: Repository, licence: Licence | None = None) -> Any:
    """Push the model in `folder` with its card; returns the commit.

    Raises ValueError if there is no model or card, if the licence is neither stated by the card or
    `licence` nor follows from the origins, or if a stated licence is freer than the origins allow.
    """
    if not any(folder.glob(pattern) for pattern in WEIGHTS) or not (folder / CARD).is_file():
        raise ValueError(f"{folder}: found no weights with a {CARD}, expected a trained model.")
    card = (folder / CARD).read_text(encoding="utf-8", errors="replace")
    origins = weights_origins(folder)
    text = settle(card, folder, origins, licence)
    repository.open(origins)
    keeps = is_by_hand(repository.card())
    with stage(folder, folder, PUBLISHED, card=False) as staged:
        if not keeps:
            text = text.replace(PLACE, repository.name)
            (Path(staged) / CARD).write_text(text, encoding="utf-8")
        try:
            return repository.upload(Path(staged), "Upload model")
        except HUB_ERRORS as error:
            raise ValueError(f"{repository.name}: {hub_problem(error)}") from error


def in_thread(work: Callable[[], Any]) -> Future:
    """Start `work`; unlike a thread of the Hub's client, it lets the program end."""
    future: Future = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001  (raised by future.result())
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def within(seconds: float, ask: Callable[[], None]) -> None:
    """Run `ask`; TimeoutError after `seconds`, since the Hub's client would wait forever."""
    future = in_thread(ask)
    try:
        future.result(seconds)
    except TimeoutError as error:
        message = f"no answer in {seconds:g} s"
        raise error if future.done() else TimeoutError(message) from None


def stage(folder: Path, beside: Path, patterns: Sequence[str], card: bool = True):
    """A temporary folder in `beside` with the files of `folder` that are published: hard links if
    possible, JSON files without paths of this machine. Its `cleanup` removes it.
    """
    staged = tempfile.TemporaryDirectory(prefix=_STAGED, dir=beside, ignore_cleanup_errors=True)
    for file in sorted(folder.iterdir()):
        if file.is_dir() and fnmatch.fnmatch(file.name, "global_step*") and patterns is RESUMABLE:
            shutil.copytree(file, Path(staged.name, file.name), copy_function=_link)
        is_published = any(fnmatch.fnmatch(file.name, pattern) for pattern in patterns)
        if file.is_file() and is_published and (card or file.name != CARD):
            _put(file, Path(staged.name, file.name))
    return staged


def sweep(folder: Path) -> None:
    """Remove the staged folders of killed runs."""
    for left in folder.glob(f"{_STAGED}*"):
        shutil.rmtree(left, ignore_errors=True)


def _put(file: Path, place: Path) -> None:
    if file.suffix == ".json" and file.stat().st_size < _LARGEST_SETTINGS:
        settings = json.loads(file.read_text(encoding="utf-8"))
        if _without_paths(settings):
            place.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
            return
    _link(file, place)


def _link(file: str | Path, place: str | Path) -> None:
    """Link `file` to `place` (or copy it), so that it survives the deletion of its checkpoint."""
    try:
        os.link(file, place)
    except OSError:
        shutil.copyfile(file, place)


def _without_paths(node: Any) -> bool:
    """Replace paths of this machine by their last part, in place; True if there were any."""
    changed = False
    for key, value in list(node.items()) if isinstance(node, dict) else []:
        if key in _PATHS and isinstance(value, str):
            begins = value.startswith(("/", "~", ".", "\\")) or value[1:2] == ":"
            if begins or Path(value).exists():
                node[key], changed = Path(value).name, True
    values = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    inner = [_without_paths(value) for value in values if isinstance(value, dict | list)]
    return changed or any(inner)
