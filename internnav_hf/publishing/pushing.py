"""`push_to_hub` of models and processors in Python: with our card, in one commit, and with nothing
but what `save_pretrained` writes. What the Hub answers becomes one line.
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
    400: "the Hub refuses what it was sent",
    401: "the Hub does not know the token; log in with `hf auth login`, or pass one that may write",
    402: "the account has no room left, or must be paid for; look at its settings on the Hub",
    403: "the token may not write there; pass one that may, or name a repository of your own",
    404: "there is no such repository or branch, or the token may not see it; check the name",
    409: "it is being changed, or its name is taken; try again, or choose another name",
    429: "the Hub asks to wait; try again later",
}


# What a file of this machine refuses, and not the Hub.
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.ENOENT)


class PushesWithCard:
    """Before transformers' class among the bases of a model or processor."""

    def push_to_hub(
        self,
        repo_id: str,
        *,
        license: str | None = None,
        commit_message: str | None = None,
        commit_description: str | None = None,
        private: bool | None = None,
        token: bool | str | None = None,
        revision: str | None = None,
        create_pr: bool = False,
        **save_options,
    ) -> str:
        """Save into the repository `repo_id` of the Hub, which is made if it does not exist; the
        address of the commit.

        The card is that of the folder or repository where this was loaded from, else a new one; its
        licence follows from there, and `license` states one. Weights of another kind that lie in
        the repository go. A card that somebody wrote into the
        repository by hand stays. Raises ValueError where the licence is not known, where `license`
        or the card that stays is freer than it may be, and where the Hub does not take it.
        """
        this: Any = self
        card = _own_card(this)
        text = None if card is None else card.read_text(encoding="utf-8", errors="replace")
        facts = _facts(this, license, text is None)
        if facts is not None:
            text = _checked(facts, text, card)
        api = HfApi(token=token)
        with tempfile.TemporaryDirectory() as folder:
            this.save_pretrained(folder, **save_options)
            Path(folder, CARD).unlink(missing_ok=True)
            try:
                repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
                there = card_there(repo_id, token, revision)
                if is_by_hand(there):
                    check_kept(there, repo_id, [] if facts is None else facts.origins)
                elif text is not None and not (facts is None and there):
                    told = text.replace(PLACE, repo_id)
                    Path(folder, CARD).write_text(told, encoding="utf-8")
                make_branch(api, repo_id, revision)
                is_model = facts is not None
                stale = stale_weights(api, repo_id, revision, folder) if is_model else []
                return api.upload_folder(
                    repo_id=repo_id,
                    folder_path=folder,
                    commit_message=commit_message or f"Upload {type(self).__name__}",
                    commit_description=commit_description,
                    revision=revision,
                    create_pr=create_pr,
                    delete_patterns=stale or None,
                )
            except HUB_ERRORS as error:
                raise ValueError(f"{repo_id}: {hub_problem(error)}") from error

    def save_pretrained(self, save_directory, push_to_hub: bool = False, **kwargs):
        """transformers'; with `push_to_hub`, into the repository `repo_id` besides."""
        parent: Any = super()
        names = ("repo_id", "license", "commit_message", "private", "revision", "create_pr")
        given = {name: kwargs.pop(name) for name in names if push_to_hub and name in kwargs}
        saved = parent.save_pretrained(save_directory, **kwargs)
        if push_to_hub:
            repo_id = given.pop("repo_id", Path(save_directory).name)
            self.push_to_hub(repo_id, token=kwargs.get("token"), **given)
        return saved


def hub_problem(error: Exception) -> str:
    """What the Hub, or the way to it, answered, and what to do, in one line."""
    response: Any = getattr(error, "response", None) or getattr(error.__cause__, "response", None)
    if response is not None:
        code = response.status_code
        known = "the Hub is not well; try again later" if code >= 500 else None
        return f"{_ADVICE.get(code, known) or _first_line(error)} (answer {code})."
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set, so nothing can be pushed: unset it, or do not push."
    if isinstance(error, HFValidationError):
        return f"no name of a repository of the Hub; expected OWNER/NAME ({_first_line(error)})."
    if isinstance(error, OSError) and error.errno in _DISK:
        return f"{error.filename or 'the disk'}: {error.strerror}; make room, or look at its owner."
    if isinstance(error, KeyError):
        return f"what answered is no Hub (without {error}); look at the network and HF_ENDPOINT."
    if isinstance(error, ValueError):
        return _first_line(error)
    return f"the Hub could not be reached ({_first_line(error)}); look at the network, try again."


def card_there(repo_id: str, token: bool | str | None, revision: str | None) -> dict[str, Any]:
    """The head of the card that the repository has; empty where it has none."""
    try:
        return read_card(hf_hub_download(repo_id, CARD, token=token, revision=revision)) or {"": 1}
    except LocalEntryNotFoundError:
        if is_offline_mode():  # nothing is written either, but where the Hub is a stand-in
            return {}
        raise  # no answer: there may be one
    except (EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError):
        return {}


def make_branch(api: HfApi, repo_id: str, revision: str | None) -> None:
    """The branch `revision`, where it is named and is none yet."""
    if revision is not None and not revision.startswith("refs/pr"):
        api.create_branch(repo_id, branch=revision, exist_ok=True)


def stale_weights(api: HfApi, repo_id: str, revision: str | None, folder: str | Path) -> list[str]:
    """Those that the repository has and `folder` has not, from which another model would open;
    offline nobody can be asked.
    """
    if is_offline_mode():
        return []
    names = api.list_repo_files(repo_id, revision=revision)
    patterns = (*WEIGHTS, "adapter_config.json")
    weights = [one for one in names if "/" not in one and any(fnmatch(one, p) for p in patterns)]
    return [name for name in weights if not Path(folder, name).exists()]


def _checked(facts: CardFacts, text: str | None, card: Path | None) -> str:
    """`text` of `card`, that of a model, or a new one, with the licence that it must have."""
    if text is not None and card is not None:
        return settle(text, card.parent, facts.origins, facts.chosen)
    check_published(facts)
    return render_card(facts)


def _facts(this: Any, licence: str | None, is_new: bool) -> CardFacts | None:
    """Of a model; None for a processor, which has no licence of its own to check."""
    config = getattr(this, "config", None)
    if config is None:
        return None
    parts = [part for part in this.modules() if isinstance(part, PreTrainedModel)]
    sources = dict.fromkeys((part.name_or_path, part.config.model_type) for part in parts)
    found = (one for name, kind in sources if name for one in weights_origins(name, kind))
    origins = list(dict.fromkeys(found))
    if is_new:
        origins.append(Origin("what it was trained on", "data", None))
    chosen = parse_licence(licence) if licence else None
    return CardFacts(config, origins, chosen)


def _own_card(this: Any) -> Path | None:
    """Our card where `this` was loaded from: a folder, or a repository of the Hub."""
    source = this if hasattr(this, "config") else getattr(this, "tokenizer", None)
    name = getattr(source, "name_or_path", "") or "nowhere"
    path = Path(name, CARD) if Path(name).is_dir() else downloaded(name, CARD)
    return path if read_card(path).get("library_name") == LIBRARY else None


def _first_line(error: Exception) -> str:
    line = without_secrets((str(error).strip().splitlines() or [""])[0])
    return f"{type(error).__name__}: {line}" if not isinstance(error, ValueError) else line
