"""The repository of the Hub that a training pushes to: found out about before it begins, and given
nothing but what a model needs to be used.
"""

import fnmatch
import json
import logging
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
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


class Repository:
    """One of the Hub, for a model. `private` counts where it is made, `revision` is a branch."""

    def __init__(
        self,
        name: str,
        token: str | None = None,
        private: bool | None = None,
        revision: str | None = None,
    ):
        self.name, self.token, self.private, self.revision = name, token, private, revision
        self.api = HfApi(token=token)
        self._one_at_a_time = threading.Lock()

    def open(self, origins: Sequence[Origin]) -> None:
        """Make it if it is not there, and ask whether it may be written. Raises ValueError if not,
        or if its card, written by hand, frees what `origins` restrict.
        """
        try:
            within(SECONDS_TO_ANSWER, self._open)
            there = self.card()
            if is_by_hand(there):
                check_kept(there, self.name, origins)
        except HUB_ERRORS as error:
            raise ValueError(f"{self.name}: {hub_problem(error)}") from error

    def card(self) -> Mapping[str, Any]:
        """The head of the card that it has."""
        return card_there(self.name, self.token, self.revision)

    def upload(self, folder: Path, message: str, place: str | None = None) -> Any:
        """All of `folder`, in one commit; weights of another kind that lie there go."""
        with self._one_at_a_time:
            return self._upload(folder, message, place)

    def upload_later(self, folder: Path, message: str, place: str | None = None) -> Future:
        """`upload`, while the training goes on. It does not keep a program that ends from ending,
        as the threads of the Hub's client would.
        """
        future: Future = Future()

        def run() -> None:
            try:
                future.set_result(self.upload(folder, message, place))
            except BaseException as error:  # noqa: BLE001  (whoever asks for the result gets it)
                future.set_exception(error)

        threading.Thread(target=run, daemon=True).start()
        return future

    def _upload(self, folder: Path, message: str, place: str | None) -> Any:
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
    """The commit that brings the model in `folder` to the Hub, with the card that lies there.

    Raises ValueError where there is no model or card, where the licence is neither said by the card
    or `licence` nor follows, or where one of them frees what the model was made from.
    """
    if not any(folder.glob(pattern) for pattern in WEIGHTS) or not (folder / CARD).is_file():
        raise ValueError(f"{folder}: found no model with weights and {CARD}, as a training leaves.")
    told = (folder / CARD).read_text(encoding="utf-8", errors="replace")
    origins = weights_origins(folder)
    text = settle(told, folder, origins, licence)
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


def within(seconds: float, ask: Callable[[], None]) -> None:
    """`ask()`, or TimeoutError: the Hub's client would wait for an answer without an end."""
    future: Future = Future()

    def run() -> None:
        try:
            future.set_result(ask())
        except BaseException as error:  # noqa: BLE001  (raised again below)
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        future.result(seconds)
    except TimeoutError as error:
        told = f"no answer in {seconds:g} s"
        raise error if future.done() else TimeoutError(told) from None


def stage(folder: Path, beside: Path, patterns: Sequence[str], card: bool = True):
    """A temporary folder, in `beside`, of what of `folder` is published: links where the disk can,
    settings without the paths of this machine. It goes with `cleanup`.
    """
    staged = tempfile.TemporaryDirectory(prefix=_STAGED, dir=beside, ignore_cleanup_errors=True)
    for file in sorted(folder.iterdir()):
        if file.is_dir() and fnmatch.fnmatch(file.name, "global_step*") and patterns is RESUMABLE:
            shutil.copytree(file, Path(staged.name, file.name), copy_function=_link)
        if file.is_file() and _matches(file.name, patterns) and (card or file.name != CARD):
            _put(file, Path(staged.name, file.name))
    return staged


def sweep(folder: Path) -> None:
    """Remove what a killed run had staged."""
    for left in folder.glob(f"{_STAGED}*"):
        shutil.rmtree(left, ignore_errors=True)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for pattern in patterns)


def _put(file: Path, place: Path) -> None:
    if file.suffix == ".json" and file.stat().st_size < _LARGEST_SETTINGS:
        told = json.loads(file.read_text(encoding="utf-8"))
        if _without_paths(told):
            place.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
            return
    _link(file, place)


def _link(file: str | Path, place: str | Path) -> None:
    """The same file, which stays when the checkpoint it belongs to is deleted."""
    try:
        os.link(file, place)
    except OSError:
        shutil.copyfile(file, place)


def _without_paths(told: Any) -> bool:
    """Put names for paths of this machine, in place; whether there were any."""
    changed = False
    for key, value in list(told.items()) if isinstance(told, dict) else []:
        if key in _PATHS and isinstance(value, str) and _is_here(value):
            told[key], changed = Path(value).name, True
    values = told.values() if isinstance(told, dict) else told if isinstance(told, list) else ()
    inner = [_without_paths(value) for value in values if isinstance(value, dict | list)]
    return changed or any(inner)


def _is_here(path: str) -> bool:
    return path.startswith(("/", "~", ".", "\\")) or path[1:2] == ":" or Path(path).exists()
