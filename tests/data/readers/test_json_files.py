import gzip
import json

import pytest

from internnav_hf.data.readers import json_files
from internnav_hf.data.readers.json_files import (
    check_text,
    numbered_lines,
    one_of_each,
    parse_object,
    read_json,
    whole_number,
)

GOOD = b'{"a": 1}'


@pytest.fixture
def lines(tmp_path):
    def read(content: bytes):
        path = tmp_path / "episodes.jsonl"
        path.write_bytes(content)
        return numbered_lines(path)

    return read


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (b'{"a": "caf\xe9"}', r":2: line: found .*invalid.*, expected text in UTF-8"),
        (b'{"a": "\\ud800"}', r":2: line: found .*half of a character"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, ":2: line: found .*nested too deep"),
        (b'{"a": 1, "a": 2}', ":2: line: found .*the key 'a' twice"),
        (b'{"a": ' + b"9" * 5000 + b"}", ":2: line: found .*digits"),
        (b'{"a": 1', ":2: line: found .*expected a JSON object"),
        (b"[1]", r":2: line: found '\[1\].*', expected a JSON object"),
        (b'{"a": "' + b"x" * 5_000_000 + b'"}', ":2: line: found more than 4194304 bytes"),
    ],
    ids=["latin-1", "surrogate", "deep", "twice", "huge number", "cut", "list", "long"],
)
def test_a_broken_line_is_named_and_leaves_the_others(lines, bad, message):
    first, second, third = lines(b"\n".join([GOOD, bad, b"", GOOD]))
    assert parse_object(*first) == parse_object(*third) == {"a": 1}
    assert third[0].endswith(":4")
    with pytest.raises(ValueError, match=message) as error:
        parse_object(*second)
    assert len(str(error.value).splitlines()) == 1


def test_marks_of_windows_are_harmless_and_its_utf16_is_named(lines):
    assert [parse_object(*line) for line in lines(b"\xef\xbb\xbf" + GOOD + b"\r\n")] == [{"a": 1}]
    with pytest.raises(ValueError, match="file: found text in UTF-16, expected text in UTF-8"):
        lines(GOOD.decode().encode("utf-16"))


def test_half_a_character_pair_is_no_pair(lines):
    (line,) = lines(json.dumps({"a": "\U0001f600"}).encode())
    assert parse_object(*line) == {"a": "\U0001f600"}


def test_files_may_be_packed_but_not_without_limit(tmp_path, monkeypatch):
    path = tmp_path / "train.json.gz"
    path.write_bytes(gzip.compress(GOOD))
    assert read_json(path) == {"a": 1}
    monkeypatch.setattr(json_files, "_USUAL_BYTES", 1000)
    path.write_bytes(gzip.compress(GOOD + b" " * 1_000_000))
    with pytest.raises(ValueError, match="bytes that unpack to more, expected at most"):
        read_json(path)
    path.write_bytes(gzip.compress(GOOD)[:-9])
    with pytest.raises(ValueError, match="expected a whole gzip file"):
        read_json(path)


def test_whole_numbers():
    assert [whole_number(value) for value in (3, [3], [[3.0]])] == [3, 3, 3]
    for value in (3.5, "3", True, None, [1, 2], {}, 2**31, 10**30, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="is not one whole number"):
            whole_number(value)


def test_texts():
    assert check_text("f:1", "tasks", "Go on. ") == "Go on. "
    for text in (None, 3, " \n", "x" * 10_001):
        with pytest.raises(ValueError, match="f:1: tasks: found"):
            check_text("f:1", "tasks", text)


@pytest.mark.parametrize(
    ("rows", "kept", "wrong"),
    [
        ([(0, "a"), (1, "b"), (1, "b")], ["a", "b"], [":2"]),
        ([(0, "a"), (0, "b"), (2, "c")], ["a", "c"], [":1"]),
        ([(1, "a"), (1, "b"), (2, "c")], ["b", "c"], [":0"]),
        ([(7, "a"), (7, "b"), (8, "c")], ["c"], [":0", ":1"]),
    ],
)
def test_of_lines_with_one_number_one_counts_at_most(rows, kept, wrong):
    found, errors = one_of_each("index", [(f":{i}", *row) for i, row in enumerate(rows)])
    assert found == kept
    assert [str(error).split(": ")[0] for error in errors] == wrong
