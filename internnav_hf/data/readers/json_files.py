"""Third-party JSON, read in bounded memory: objects line by line, and whole files, gzipped or not.

Each error is one ValueError that names the file and the line. An error in one line leaves the
others readable: lines are read as bytes, and parsed one by one.
"""

import gzip
import json
import os
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from internnav_hf.data.readers.errors import broken, shown
from internnav_hf.data.readers.folders import open_file

LONGEST_LINE = 2**22  # bytes
LONGEST_TEXT = 10_000  # characters of an instruction; RxR's have up to three thousand
LARGEST_FILE = 2**30  # bytes, unpacked
LARGEST_NUMBER = 2**31 - 1  # of counts and indices
_USUAL_BYTES, _MOST_PACKED = 2**26, 200  # a smaller file is never refused; times its packed size
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_BOM = b"\xef\xbb\xbf"

Row = TypeVar("Row")
Record = TypeVar("Record")  # with an `episode_index`


def numbered_lines(
    path: Path, expected: str = "a line for each episode"
) -> list[tuple[str, bytes]]:
    """Return (`file:line`, bytes) of the non-blank lines, at least one; for `parse_object`."""
    data = read_bytes(path, expected)
    if data.startswith(_UTF16):
        raise broken(path, "file", "text in UTF-16", "text in UTF-8")
    numbered = enumerate(data.removeprefix(_BOM).split(b"\n"), start=1)
    lines = [(f"{path}:{number}", line) for number, line in numbered if line.strip()]
    if not lines:
        raise broken(path, "file", "no line", expected)
    return lines


def parse_object(where: str, line: bytes) -> dict[str, Any]:
    """Parse the JSON object of one line."""
    if len(line) > LONGEST_LINE:
        found = f"more than {LONGEST_LINE} bytes: {_start(line)}"
        raise broken(where, "line", found, "a JSON object of a common size")
    content = _parsed(where, "line", line, "a JSON object")
    if not isinstance(content, dict):
        raise broken(where, "line", _start(line), "a JSON object")
    return content


def read_json(path: Path, kind: type = dict, expected: str = "a JSON object") -> Any:
    """Read a dict, or another kind, from a file of JSON, gzipped or not."""
    content = _parsed(path, "file", read_bytes(path, expected), expected)
    if not isinstance(content, kind):
        raise broken(path, "file", shown(content), expected)
    return content


def read_bytes(path: Path, expected: str = "a file") -> bytes:
    """Read the bytes of a file, unpacked if gzipped; an implausible size is refused."""
    with open_file(path, expected) as stream:
        size = os.fstat(stream.fileno()).st_size
        is_packed = stream.peek(2)[:2] == b"\x1f\x8b"
        limit = max(_USUAL_BYTES, _MOST_PACKED * size) if is_packed else LARGEST_FILE
        limit = min(limit, LARGEST_FILE)
        try:
            data = (gzip.GzipFile(fileobj=stream) if is_packed else stream).read(limit + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise broken(path, "file", f"{size} bytes ({error})", "a whole gzip file") from error
    if len(data) > limit:
        found = f"{size} bytes{' that unpack to more' if is_packed else ''}"
        raise broken(path, "file", found, f"at most {limit} bytes")
    return data


def decoded(where: Path | str, field: str, data: bytes) -> str:
    """Decode UTF-8, with or without byte-order mark."""
    if data.startswith(_UTF16):
        raise broken(where, field, "text in UTF-16", "text in UTF-8")
    try:
        return data.removeprefix(_BOM).decode("utf-8")
    except UnicodeDecodeError as error:
        found = f"{_start(data[max(0, error.start - 20) :])} ({error.reason})"
        raise broken(where, field, found, "text in UTF-8") from error


def _parsed(where: Path | str, field: str, data: bytes, expected: str) -> Any:
    text = decoded(where, field, data)
    try:
        content = json.loads(text, object_pairs_hook=_each_once)
        if b"\\u" in data:
            _check_unicode(content)
        return content
    except (ValueError, RecursionError) as error:
        reason = "nested too deep" if isinstance(error, RecursionError) else error
        raise broken(where, field, f"{_start(data)} ({reason})", expected) from error


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the key {shown(twice)} twice")
    return row


def _check_unicode(content: Any) -> None:
    """Refuse half a surrogate pair, which is no text."""
    try:
        json.dumps(content, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{error.object[error.start]!a}, half of a character") from error


def _start(data: bytes) -> str:
    return shown(data[:60].decode("utf-8", "backslashreplace"))


def whole_number(value: Any) -> int:
    """Return a number, also from a list of one; ValueError unless it is whole and fits an index."""
    numbers = np.ravel(value).tolist()
    number = numbers[0] if len(numbers) == 1 else None
    is_number = type(number) in (int, float) and abs(number) <= LARGEST_NUMBER
    if not is_number or number != int(number):
        raise ValueError(f"{shown(value)} is not one whole number up to {LARGEST_NUMBER}")
    return int(number)


def word_ids(where: Path | str, row: dict[str, Any]) -> list[int]:
    """Return the `instruction_tokens` of an object; empty if none are stored."""
    tokens = row.get("instruction_tokens") or []
    if not isinstance(tokens, list) or not all(
        type(token) is int and 0 <= token <= LARGEST_NUMBER for token in tokens
    ):
        raise broken(where, "instruction_tokens", shown(tokens), "a list of word ids")
    return tokens


def check_text(where: Path | str, field: str, text: Any, expected: str = "an instruction") -> str:
    """Check and return a non-blank text of at most `LONGEST_TEXT` characters."""
    if not isinstance(text, str) or not text.strip():
        raise broken(where, field, shown(text), expected)
    if len(text) > LONGEST_TEXT:
        found = f"{len(text)} characters: {shown(text)}"
        raise broken(where, field, found, f"at most {LONGEST_TEXT}")
    return text


def episode_lines(
    path: Path, parse: Callable[[str, int, dict[str, Any]], Record]
) -> tuple[list[Record], list[ValueError]]:
    """Return the records that `parse` makes of the lines, given `file:line`, number and object,
    each `episode_index` once; and the errors of the others.
    """
    rows, wrong = [], []
    for number, (where, line) in enumerate(numbered_lines(path)):
        try:
            record = parse(where, number, parse_object(where, line))
            rows.append((where, record.episode_index, record))
        except ValueError as error:
            wrong.append(error)
    records, twice = one_of_each("episode_index", rows)
    return records, wrong + twice


def one_of_each(
    field: str, rows: Iterable[tuple[str, int, Row]]
) -> tuple[list[Row], list[ValueError]]:
    """Return each number of rows (`file:line`, number, content) once, and errors of the others.

    Of equal lines the first counts. If lines of one number differ, the one whose position among all
    lines is its number counts; if there is none, no line does.
    """
    rows = list(rows)
    lines_of: dict[int, list[int]] = {}
    for line, (_, number, _) in enumerate(rows):
        lines_of.setdefault(number, []).append(line)
    kept, wrong = [], []
    for line, (where, number, content) in enumerate(rows):
        if line == _chosen(number, lines_of[number], rows):
            kept.append(content)
        else:
            wrong.append(broken(where, field, f"{number} again", "each once"))
    return kept, wrong


def _chosen(number: int, lines: Sequence[int], rows: Sequence[tuple[str, int, Any]]) -> int | None:
    if all(rows[line][2] == rows[lines[0]][2] for line in lines):
        return lines[0]
    return number if number in lines else None
