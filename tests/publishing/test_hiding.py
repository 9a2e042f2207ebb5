"""Secrets are found in texts by their form, their name, and what the environment holds."""

import io
import logging

import pytest

from internnav_hf.publishing.hiding import hide_in_logs, is_secret, without_secrets

TOKEN = "hf_" + "S" * 30


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"with {TOKEN}.", "with ***."),
        ("at https://ann:hunter22@host/a?b=1", "at https://***@host/a?b=1"),
        (
            "at https://host/a?X-Amz-Signature=abcdef&b=1",
            "at https://host/a?X-Amz-Signature=***&b=1",
        ),
        ("is in-the-environment", "is ***"),
        ("nothing of it", "nothing of it"),
    ],
)
def test_secrets_are_hidden(text, told):
    assert without_secrets(text, {"MY_API_KEY": "in-the-environment", "HOME": "nothing"}) == told


def test_names_tell_secrets():
    assert is_secret("--hub_token")
    assert is_secret("AWS_SECRET_ACCESS_KEY")
    assert not is_secret("pad_token_id")
    assert not is_secret("--max_new_tokens")


def test_logs_tell_no_secret(monkeypatch):
    told = io.StringIO()
    handler = logging.StreamHandler(told)
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    hide_in_logs()
    logger = logging.getLogger("tests.somebody")
    logger.warning("PUT %s %d", f"https://ann:hunter22@host/x?X-Amz-Signature=abc&t={TOKEN}", 200)
    assert told.getvalue() == "PUT https://***@host/x?X-Amz-Signature=***&t=*** 200\n"
