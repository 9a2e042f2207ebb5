"""Third-party safetensors and JSON files, compared with their sizes before they are opened.

Memory is bounded by the file's size, and anything wrong is one ValueError that names the file.
"""

import json
import math
import stat
import struct
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers.utils import CONFIG_NAME

from internnav_hf.files import give_umask

SAFETENSORS = ".safetensors"
TENSOR_FILES = (".pth", ".pt", ".ckpt", ".bin", SAFETENSORS)
_POINTER = b"version https://git-lfs"
_LARGEST_HEADER = 32 << 20  # bytes; for a model of 7 billion parameters it is about 100,000
_LARGEST_JSON = 32 << 20
_DEEPEST_JSON = 60
_BITS = {
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8,
    "F8_E8M0": 8, "F8_E5M2FNUZ": 8, "F8_E4M3FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64, "C64": 64,
}  # fmt: skip
# Errors, other than ValueError, that libraries raise for broken files.
BROKEN = (OSError, EOFError, LookupError, TypeError, RuntimeError, ArithmeticError, MemoryError)
BROKEN = (*BROKEN, AttributeError, struct.error, zipfile.BadZipFile, SafetensorError)
_SHOWN = 300


class Entry(NamedTuple):
    """A tensor as described in a file's header."""

    shape: tuple[int, ...]
    num_bytes: int


def check_file(file: str | Path, what: str = "a file of tensors only", option: str = "") -> Path:
    """`file`, if it is a readable file. Raises ValueError otherwise.

    `option` is named before the path in the message, if a user gave the file.
    """
    file = Path(file)
    try:
        mode = file.stat().st_mode
    except FileNotFoundError:
        raise ValueError(f"{option}{file}: there is no such file.") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{file}: it cannot be opened ({reason_of(error)}).") from error
    if not stat.S_ISREG(mode):
        found = "folder" if stat.S_ISDIR(mode) else "pipe or device"
        raise ValueError(f"{file}: found a {found}, expected {what}.")
    try:
        with file.open("rb") as opened:
            begin = opened.read(400)
    except OSError as error:
        raise ValueError(f"{file}: it cannot be read ({reason_of(error)}).") from error
    if begin.startswith(_POINTER):
        raise ValueError(
            f"{file}: found a pointer of git-lfs, expected {what}. Fetch what it stands for: run "
            "git lfs install, then git lfs pull, in that folder, or download it again."
        )
    if not begin:
        raise ValueError(f"{file}: found an empty file, expected {what}. Download it again.")
    if begin.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise ValueError(
            f"{file}: found a web page, as of a login, expected {what}. Download it again, with "
            "a token if it needs one."
        )
    return file


def is_weight_file(path: str | Path) -> bool:
    """Whether `path` is a file, or is named like a file of tensors, not a folder or Hub name."""
    return str(path).endswith(TENSOR_FILES) or Path(path).is_file()


def released_file(
    path: str | Path, suffixes: tuple[str, ...] = TENSOR_FILES, preferred: tuple[str, ...] = ()
) -> Path | None:
    """The released weights at `path`: a file, or the file in a folder that is named as one of
    `preferred` or has one of `suffixes`; None if there is none.

    Raises ValueError for a folder with several of them, and for a file of another kind.
    """
    path = Path(path)
    if path.is_file():
        if path.suffix not in TENSOR_FILES:
            raise ValueError(f"{path}: found a {path.suffix} file, expected one of {TENSOR_FILES}.")
        return path
    files = [path / name for name in preferred if (path / name).is_file()][:1]
    if not files and path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in suffixes)
    if len(files) > 1:
        names = [file.name for file in files[:5]]
        raise ValueError(
            f"{path}: found no {CONFIG_NAME} of ours, and weights in {names}: name one of them."
        )
    return files[0] if files else None


def read_json(file: str | Path, what: str = "a configuration") -> dict[str, Any]:
    """The object in the JSON `file`. Raises ValueError for anything else."""
    file = check_file(file, what)
    size = file.stat().st_size
    if size > _LARGEST_JSON:
        raise ValueError(f"{file}: found {size} bytes, expected {what} of at most {_LARGEST_JSON}.")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        hint = f"{type(error).__name__}: {reason_of(error)}"
        raise ValueError(f"{file}: found {hint}, expected JSON, {what}.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file}: found a {type(content).__name__}, expected names and values.")
    if _is_deep(content):
        raise ValueError(f"{file}: found values within {_DEEPEST_JSON} others, expected {what}.")
    return content


def read_header(file: str | Path) -> dict[str, Entry]:
    """The tensors in a safetensors `file` by name, each compared with the file's size.

    Raises ValueError if the header does not match the file or has no tensors.
    """
    file = check_file(file)
    try:
        found = _header(file)
        with safe_open(file, framework="pt"):  # it may find further errors
            return found
    except (*BROKEN, ValueError, RecursionError) as error:
        raise ValueError(
            f"{file}: found {file.stat().st_size} bytes ({reason_of(error)}), expected a file of "
            "tensors only. Is it cut? Download it again."
        ) from error


def share_weights(folder: str | Path) -> None:
    """Give weights saved in `folder` the user's umask; safetensors makes files for one user."""
    for file in Path(folder).glob("*model*.safetensors"):
        give_umask(file)


def map_tensors(files: Iterable[Path]) -> dict[str, Tensor]:
    """All tensors of safetensors `files`, whose headers were read; mapped, not copied."""
    weights = {}
    for file in files:
        with safe_open(file, framework="pt") as opened:
            weights |= {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
    return weights


def _header(file: Path) -> dict[str, Entry]:
    size = file.stat().st_size
    with file.open("rb") as opened:
        (length,) = struct.unpack("<Q", opened.read(8).ljust(8, b"\0"))
        if length > min(size - 8, _LARGEST_HEADER):
            raise ValueError(f"its header would have {length} bytes, of {size} in all")
        entries = json.loads(opened.read(length), object_pairs_hook=_pairs)
    if not isinstance(entries, dict):
        raise ValueError("its header is no list of names")
    entries.pop("__metadata__", None)
    if not entries:
        raise ValueError("it holds no tensor")
    found = {name: _entry(name, entry) for name, entry in entries.items()}
    end = 0
    for name, (start, _) in sorted(found.items(), key=lambda item: item[1][0]):
        if start[0] != end:
            raise ValueError(f"{name[:80]}: begins at byte {start[0]} of the data, expected {end}")
        end = start[1]
    if 8 + length + end != size:
        raise ValueError(f"it has {size} bytes, but describes {8 + length + end}")
    return {name: Entry(shape, place[1] - place[0]) for name, (place, shape) in found.items()}


def _entry(name: str, entry: Any) -> tuple[tuple[int, int], tuple[int, ...]]:
    """Offsets of the tensor in the file, and its shape."""
    entry = entry if isinstance(entry, dict) else {}
    dtype, shape, place = (entry.get(key) for key in ("dtype", "shape", "data_offsets"))
    if dtype not in _BITS:
        raise ValueError(f"{name[:80]}: dtype: found {str(dtype)[:20]!r}, expected F32 or the like")
    if not (_are_counts(shape) and _are_counts(place) and len(place) == 2):
        raise ValueError(f"{name[:80]}: shape or data_offsets are no whole numbers from 0")
    if place[1] - place[0] != math.prod(shape) * _BITS[dtype] // 8:
        raise ValueError(f"{name[:80]}: {place[1] - place[0]} bytes, but a shape of {shape[:8]}")
    return (place[0], place[1]), tuple(shape)


def _pairs(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    named = dict(pairs)
    if len(named) < len(pairs):
        raise ValueError("its header has a name twice")
    return named


def _are_counts(numbers: Any) -> bool:
    return isinstance(numbers, list) and all(
        isinstance(n, int) and not isinstance(n, bool) and 0 <= n < 1 << 62 for n in numbers
    )


def _is_deep(content: Any) -> bool:
    level = [content]
    for _ in range(_DEEPEST_JSON):
        level = [
            value
            for part in level
            for value in (part.values() if isinstance(part, dict) else part)
            if isinstance(value, dict | list)
        ]
    return bool(level)


def reason_of(error: BaseException) -> str:
    """The first line of `error`."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error).splitlines() or [type(error).__name__])[0][:_SHOWN]
