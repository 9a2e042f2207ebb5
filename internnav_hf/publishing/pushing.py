"""`push_to_hub` of models and processors in Python: one commit with our card and the files that
`save_pretrained` writes. An error of the Hub becomes a one-line ValueError.
"""

import errno
import tempfile
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, hf_hub_download, is_offline_mode
from huggingface_hub.errors import (
    EntryNotFoundError,
    HFValidationError,
    HTTPError,  # pyright: ignore[reportPrivateImportUsage]
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from transformers import PreTrainedModel

from internnav_hf.publishing.card import (
    PLACE,
    CardFacts,
    check_kept,
    check_published,
    is_by_hand,
    render_card,
    settle,
)
from internnav_hf.publishing.hiding import without_secrets
from internnav_hf.publishing.licences import parse_licence
from internnav_hf.publishing.origins import (
    CARD,
    LIBRARY,
    Origin,
    downloaded,
    read_card,
    weights_origins,
)

HUB_ERRORS = (OSError, ValueError, KeyError, RuntimeError, HTTPError)
WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
_ADVICE = {
    400: "the Hub refuses the request",
    401: "the Hub does not know the token; log in with `hf auth login`, or pass one that may write",
    402: "the account is out of storage, or needs a paid plan; look at its settings on the Hub",
    403: "the token may not write there; pass one that may, or name a repository of your own",
    404: "there is no such repository or branch, or the token may not see it; check the name",
    409: "the repository is being changed, or its name is taken; try again, or choose another name",
    429: "too many requests; try again later",
}
# Errors of this machine's disk, not of the Hub.
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.ENOENT)


class PushesWithCard:
    """A mixin that comes before transformers' class among the bases of a model or processor."""

    def push_to_hub(
        self,
        repo_id: str,
        *,
        license: str | None = None,
        private: bool | None = None,
        token: bool | str | None = None,
        revision: str | None = None,
        **options: Any,
    ) -> str:
        """Save to the Hub repository `repo_id`, which is created if it does not exist; returns the
        commit's address. `options` are `commit_message`, `commit_description`, `create_pr`, and
        those of `save_pretrained`.

        The card is that of the folder or repository that this was loaded from, else a new one. Its
        licence follows from its origins; `license` states one. Weights of another kind in the
        repository are deleted; a handwritten card in it is kept. Raises ValueError if the licence
        is not known, if `license` or the kept card is freer than the origins allow, or if the push
        fails.
        """
        this: Any = self
        card = _own_card(this)
        text = None if card is None else card.read_text(encoding="utf-8", errors="replace")
        facts = _facts(this, license, text is None)
        if facts is not None and text is not None and card is not None:
            text = settle(text, card.parent, facts.origins, facts.chosen)
        elif facts is not None:
            check_published(facts)
            text = render_card(facts)
        api = HfApi(token=token)
        names = ("commit_message", "commit_description", "create_pr")
        given = {name: options.pop(name, None) for name in names}
        commit: dict[str, Any] = {n: value for n, value in given.items() if value is not None}
        with tempfile.TemporaryDirectory() as folder:
            this.save_pretrained(folder, **options)
            Path(folder, CARD).unlink(missing_ok=True)
            try:
                repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
                there = card_there(repo_id, token, revision)
                if is_by_hand(there):
                    check_kept(there, repo_id, [] if facts is None else facts.origins)
                elif text is not None and not (facts is None and there):
                    named = text.replace(PLACE, repo_id)
                    Path(folder, CARD).write_text(named, encoding="utf-8")
                make_branch(api, repo_id, revision)
                stale = [] if facts is None else stale_weights(api, repo_id, revision, folder)
                commit = {"commit_message": f"Upload {type(self).__name__}"} | commit
                commit |= {"revision": revision, "delete_patterns": stale or None}
                return api.upload_folder(repo_id=repo_id, folder_path=folder, **commit)
            except HUB_ERRORS as error:
                raise ValueError(f"{repo_id}: {hub_problem(error)}") from error

    def save_pretrained(self, save_directory, push_to_hub: bool = False, **kwargs):
        """transformers' method; with `push_to_hub`, also pushes to the repository `repo_id`."""
        parent: Any = super()
        names = ("repo_id", "license", "commit_message", "private", "revision", "create_pr")
        given = {name: kwargs.pop(name) for name in names if push_to_hub and name in kwargs}
        saved = parent.save_pretrained(save_directory, **kwargs)
        if push_to_hub:
            repo_id = given.pop("repo_id", Path(save_directory).name)
            self.push_to_hub(repo_id, token=kwargs.get("token"), **given)
        return saved


def hub_problem(error: Exception) -> str:
    """What went wrong at the Hub or on the connection to it, and what to do, in one line."""
    response: Any = getattr(error, "response", None) or getattr(error.__cause__, "response", None)
    if response is not None:
        code = response.status_code
        known = "the Hub has an internal error; try again later" if code >= 500 else None
        return f"{_ADVICE.get(code, known) or _first_line(error)} (answer {code})."
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set, so nothing can be pushed: unset it, or do not push."
    if isinstance(error, HFValidationError):
        return f"not a name of a Hub repository; expected OWNER/NAME ({_first_line(error)})."
    if isinstance(error, OSError) and error.errno in _DISK:
        return f"{error.filename or 'the disk'}: {error.strerror}; make room, or check its owner."
    if isinstance(error, KeyError):
        return f"the server is no Hub (no {error} in its answer); check the network, HF_ENDPOINT."
    if isinstance(error, ValueError):
        return _first_line(error)
    return f"the Hub could not be reached ({_first_line(error)}); check the network and try again."


def card_there(repo_id: str, token: bool | str | None, revision: str | None) -> dict[str, Any]:
    """The head of the repository's card; empty if it has none."""
    try:
        return read_card(hf_hub_download(repo_id, CARD, token=token, revision=revision)) or {"": 1}
    except LocalEntryNotFoundError:
        if is_offline_mode():  # nothing is pushed either, except to a stand-in for the Hub
            return {}
        raise  # no answer: the repository may have a card
    except (EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError):
        return {}


def make_branch(api: HfApi, repo_id: str, revision: str | None) -> None:
    """Create the branch `revision` if one is named and does not exist."""
    if revision is not None and not revision.startswith("refs/pr"):
        api.create_branch(repo_id, branch=revision, exist_ok=True)


def stale_weights(api: HfApi, repo_id: str, revision: str | None, folder: str | Path) -> list[str]:
    """Weight files there that `folder` lacks and that open as another model; none if offline."""
    if is_offline_mode():
        return []
    names = api.list_repo_files(repo_id, revision=revision)
    patterns = (*WEIGHTS, "adapter_config.json")
    weights = [one for one in names if "/" not in one and any(fnmatch(one, p) for p in patterns)]
    return [name for name in weights if not Path(folder, name).exists()]


def _facts(this: Any, licence: str | None, is_new: bool) -> CardFacts | None:
    """The card facts of a model; None for a processor, which has no licence of its own."""
    config = getattr(this, "config", None)
    if config is None:
        return None
    parts = [part for part in this.modules() if isinstance(part, PreTrainedModel)]
    sources = dict.fromkeys((part.name_or_path, part.config.model_type) for part in parts)
    found = (one for name, kind in sources if name for one in weights_origins(name, kind))
    origins = list(dict.fromkeys(found))
    if is_new:
        origins.append(Origin("its training data", "data", None))
    chosen = parse_licence(licence) if licence else None
    return CardFacts(config, origins, chosen)


def _own_card(this: Any) -> Path | None:
    """Our card in the folder or Hub repository that `this` was loaded from; None without one."""
    source = this if hasattr(this, "config") else getattr(this, "tokenizer", None)
    name = getattr(source, "name_or_path", "") or "nowhere"
    path = Path(name, CARD) if Path(name).is_dir() else downloaded(name, CARD)
    return path if read_card(path).get("library_name") == LIBRARY else None


def _first_line(error: Exception) -> str:
    line = without_secrets((str(error).strip().splitlines() or [""])[0])
    return f"{type(error).__name__}: {line}" if not isinstance(error, ValueError) else line
