"""What stands in the place of a file, and JSON that is none, is one clear error."""

import json
import os

import pytest
import torch
from safetensors.torch import save_file

from internnav_hf.weights.weight_files import check_file, map_tensors, read_header, read_json


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[1]", "found a list, expected names and values"),
        (b"{", "expected JSON"),
        (b"\xff\xfe", "expected JSON"),
        (b"[" * 100_000, "expected JSON"),
        (b'{"a":' * 100 + b"1" + b"}" * 100, "found values within 60 others"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "expected JSON"),
        (b" " * (33 << 20), r"found \d+ bytes, expected"),
        (b"", "found an empty file"),
        (b"<html>", "found a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    ],
)
def test_json_that_is_none_is_named(tmp_path, content, message):
    file = tmp_path / "config.json"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=rf"config.json: .*{message}"):
        read_json(file)


def test_json_is_read(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"a": [1, {"b": None}]}))
    assert read_json(tmp_path / "a.json") == {"a": [1, {"b": None}]}


def test_what_is_no_file_is_named(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("nowhere")
    for name, told in (
        ("pipe", "found a pipe or device"),
        ("", "found a folder"),
        ("loop", "cannot be opened"),
        ("dangling", "there is no such file"),
        ("a" * 300, "cannot be opened"),
    ):
        with pytest.raises(ValueError, match=told):
            check_file(tmp_path / name)


def test_a_header_says_shapes_and_bytes(tmp_path):
    weights = {"a": torch.ones(2, 3), "b": torch.ones(4, dtype=torch.bfloat16)}
    save_file(weights, tmp_path / "a.safetensors", {"format": "pt"})
    found = read_header(tmp_path / "a.safetensors")
    assert {name: tuple(entry) for name, entry in found.items()} == {
        "a": ((2, 3), 24),
        "b": ((4,), 8),
    }
    mapped = map_tensors([tmp_path / "a.safetensors"])
    assert all(torch.equal(mapped[name], value) for name, value in weights.items())
