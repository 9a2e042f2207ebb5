"""Third-party JSON, read in bounded memory: objects line by line, and whole files, gzipped or not.

Each error is one ValueError that names the file and the line. An error in one line leaves the
others readable: lines are read as bytes, and parsed one by one.
"""

import gzip
import json
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from internnav_hf.data.readers.errors import broken, shown
from internnav_hf.data.readers.folders import open_file, state_of

LONGEST_LINE = 2**22  # bytes
LONGEST_TEXT = 10_000  # characters of an instruction; RxR's have up to three thousand
LARGEST_FILE = 2**30  # bytes, unpacked
LARGEST_NUMBER = 2**31 - 1  # of counts and indices
_USUAL_BYTES, _MOST_PACKED = 2**26, 200  # a smaller file is never refused; times its packed size
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_BOM = b"\xef\xbb\xbf"

Row = TypeVar("Row")


def numbered_lines(
    path: Path, expected: str = "a line for each episode"
) -> list[tuple[str, bytes]]:
    """Return (`file:line`, bytes) of the non-blank lines, at least one; for `parse_object`.

    A line that is too long is cut, but long enough to be refused.
    """
    lines = []
    with open_file(path, expected) as stream:
        start = stream.peek(3)[:3]
        if start.startswith(_UTF16):
            raise broken(path, "file", "text in UTF-16", "text in UTF-8")
        if start == _BOM:
            stream.read(3)
        number, num_bytes = 0, 0
        while line := stream.readline(LONGEST_LINE + 1):
            number, num_bytes = number + 1, num_bytes + len(line)
            rest = line
            while rest and not rest.endswith(b"\n"):
                rest = stream.readline(LONGEST_LINE)
            if line.strip():
                lines.append((f"{path}:{number}", line))
            if num_bytes > LARGEST_FILE:
                raise broken(path, "file", state_of(path), f"at most {LARGEST_FILE} bytes")
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
        size = _size(stream)
        is_packed = stream.peek(2)[:2] == b"\x1f\x8b"
        limit = max(_USUAL_BYTES, _MOST_PACKED * size) if is_packed else LARGEST_FILE
        limit = min(limit, LARGEST_FILE)
        try:
            data = (gzip.GzipFile(fileobj=stream) if is_packed else stream).read(limit + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise broken(path, "file", f"{size} bytes ({error})", "a whole gzip file") from error
    if len(data) > limit:
        raise broken(path, "file", f"{size} bytes that unpack to more", f"at most {limit} bytes")
    return data


def _size(stream: Any) -> int:
    size = stream.seek(0, 2)
    stream.seek(0)
    return size


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


def check_text(where: Path | str, field: str, text: Any, expected: str = "an instruction") -> str:
    """Check and return a non-blank text of at most `LONGEST_TEXT` characters."""
    if not isinstance(text, str) or not text.strip():
        raise broken(where, field, shown(text), expected)
    if len(text) > LONGEST_TEXT:
        found = f"{len(text)} characters: {shown(text)}"
        raise broken(where, field, found, f"at most {LONGEST_TEXT}")
    return text


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
