"""Hides tokens, keys and passwords in everything that others may read: cards, logs, messages."""

import logging
import os
import re
from collections.abc import Mapping
from contextlib import suppress

HIDDEN = "***"
_SECRET_NAMES = {"token", "key", "apikey", "secret", "password", "credentials", "auth"}
_SECRET = re.compile(
    r"\b(hf|api_org)_[A-Za-z0-9]{16,}|\bsk-[\w-]{16,}|\b(gh[pousr]|github_pat|glpat)[_-]\w{16,}"
    r"|\bwandb_v1_\w+|\b(AKIA|ASIA)[A-Z0-9]{16}\b|\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*"
)
_USER_IN_ADDRESS = re.compile(r"(?<=://)[^/\s@]+@")
_SECRET_IN_ADDRESS = re.compile(
    r"(?i)([?&][^=&\s]*(?:token|key|secret|password|signature)[^=&\s]*=)[^&\s'\"]+"
)
_SECRET_IN_MAPPING = re.compile(
    r"""(?ix) (["']? [\w-]* (?:token|api_?key|secret|password) ["']? \s* [:=] \s*) (["']?)
    (?!\d+\b) [^\s,"'}]+ \2"""
)
_SHORTEST = 8


def without_secrets(text: str, environ: Mapping[str, str] = os.environ) -> str:
    """`text` with tokens, keys and passwords hidden, also those that `environ` holds."""
    held = {value for name, value in environ.items() if is_secret(name)}
    for value in sorted((one for one in held if len(one) >= _SHORTEST), key=len, reverse=True):
        text = text.replace(value, HIDDEN)
    text = _USER_IN_ADDRESS.sub(f"{HIDDEN}@", text)
    text = _SECRET_IN_ADDRESS.sub(rf"\g<1>{HIDDEN}", text)
    text = _SECRET_IN_MAPPING.sub(rf"\g<1>\g<2>{HIDDEN}\g<2>", text)
    return _SECRET.sub(HIDDEN, text)


def is_secret(name: str) -> bool:
    """True if an option or environment variable of this name holds a secret."""
    words = name.lstrip("-").replace("-", "_").lower().split("_")
    return not _SECRET_NAMES.isdisjoint(words) and words[-1] != "id"  # pad_token_id


class SecretsHidden(logging.Filter):
    """A filter for a log handler that hides secrets, such as those in upload addresses."""

    def filter(self, record: logging.LogRecord) -> bool:
        """True; the record's message is changed."""
        with suppress(TypeError, ValueError):  # the handler reports arguments that do not fit
            record.msg, record.args = without_secrets(record.getMessage()), None
        return True


def hide_in_logs() -> None:
    """Hide secrets in everything that this process logs from now on."""
    for name in (None, "huggingface_hub", "transformers"):
        for handler in logging.getLogger(name).handlers:
            handler.addFilter(SecretsHidden())
