"""Writes files and folders whole or not at all, with the user's umask; disk errors are one line."""

import errno
import hashlib
import os
import re
import shutil
import socket
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from safetensors import SafetensorError

_ADVICE = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room, or ask for more",
    errno.EROFS: "choose another folder",
    errno.EACCES: "choose another folder, or ask its owner for access",
    errno.EPERM: "choose another folder, or ask its owner for access",
    errno.EMFILE: "raise the limit (ulimit -n), or use fewer workers",
    errno.ENFILE: "end other programs, or use fewer workers",
    errno.EIO: "check the disk",
    errno.ESTALE: "the network disk lost it; start again",
}
_TROUBLE = (errno.EMFILE, errno.ENFILE, errno.EIO, errno.ESTALE)
# Texts of errors without a number: from safetensors, torch, numpy, the workers of a DataLoader.
_TEXTS = (
    (r"No space left|os error 28\b", errno.ENOSPC),
    (r"[Qq]uota exceeded|os error 122\b", errno.EDQUOT),
    (r"Read-only file system|os error 30\b", errno.EROFS),
    (r"Permission denied|os error 13\b", errno.EACCES),
    (r"Too many open files|os error 24\b|items of ancdata", errno.EMFILE),
    (r"PytorchStreamWriter failed|unexpected pos|requested and \d+ written", errno.ENOSPC),
)
_PARTIAL = re.compile(r"\.(?P<writer>.+)-(?P<pid>\d+)-[0-9a-f]{8}\.partial$")
_DAY_S = 24 * 3600


class StorageError(RuntimeError):
    """A disk error: full, read-only, without permission, too many open files. Not a ValueError,
    which is about the content of a file and leads to a broken episode being left out.
    """


def storage_error(error: BaseException, path: str | Path = "A file", then: str = "") -> str | None:
    """One line on a disk error: its file (or `path`), reason, and `then`; None for other errors."""
    if isinstance(error, StorageError):
        return str(error)
    number = error.errno if isinstance(error, OSError) else None
    if number is None:
        number = next((n for text, n in _TEXTS if re.search(text, str(error))), None)
    if number not in _ADVICE:
        return None
    named = error.filename if isinstance(error, OSError) else None
    where = path if named is None or ".partial" in str(named) else named
    return f"{where}: {os.strerror(number)}: {_ADVICE[number]}. {then}".rstrip()


@contextmanager
def writing(path: str | Path, then: str = "") -> Iterator[None]:
    """Turn a disk error in the block into a StorageError with `path`, which ends with `then`."""
    try:
        yield
    except StorageError:
        raise
    except (OSError, RuntimeError, SafetensorError) as error:
        message = storage_error(error, path, then)
        if message is None:
            raise
        raise StorageError(message) from error


def raise_trouble(error: BaseException, path: Path) -> None:
    """Raise StorageError if the machine could not read `path`, as opposed to a broken file."""
    if isinstance(error, OSError) and error.errno in _TROUBLE:
        raise StorageError(storage_error(error, path)) from error


def write_atomic(path: Path, write: Callable[[Path], Any], sync: bool = False) -> None:
    """Let `write` fill a temporary file next to `path`, then rename it to `path`."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        part = temporary_beside(path)
        try:
            write(part)
            give_umask(part)
            if sync:
                flush(part)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, all of it or nothing; an older file stays until then. Characters that are
    not UTF-8, as in file names, are written as escapes.
    """
    content = text.encode("utf-8", "backslashreplace")
    write_atomic(path, lambda part: part.write_bytes(content))


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Yields a hidden folder to fill; it is renamed to `folder` on success, and removed otherwise.

    If another writer was faster, its folder stays.
    """
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = temporary_beside(folder)
        partial.mkdir()
        try:
            yield partial
            give_umask(partial)
            _renamed(partial, folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _renamed(partial: Path, folder: Path) -> bool:
    """Rename `partial` to `folder`, unless a folder with that name exists; True if renamed."""
    try:
        os.rename(partial, folder)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    return True


def replace_folder(written: Path, folder: Path) -> None:
    """Rename `written` to `folder`, replacing an existing folder."""
    if not _renamed(written, folder):
        remove_folder(folder)
        os.rename(written, folder)
    flush(folder.parent, deep=False)


def remove_folder(folder: Path) -> None:
    """Remove a folder: its name disappears at once, then its files."""
    gone = temporary_beside(folder)
    os.rename(folder, gone)
    shutil.rmtree(gone, ignore_errors=True)


def temporary_beside(path: Path) -> Path:
    """A unique hidden name next to `path`, with the host and process that write it."""
    return path.with_name(
        f".{path.name}.{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:8]}.partial"
    )


def remove_stale(folder: Path) -> None:
    """Remove the files and folders of `temporary_beside` in `folder` that are no longer written:
    their process has ended, or another machine wrote them over a day ago.
    """
    for path in folder.glob(".*.partial"):
        found = _PARTIAL.search(path.name)
        if found is None or not _is_stale(path, found["writer"], int(found["pid"])):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                path.unlink()


def _is_stale(path: Path, writer: str, pid: int) -> bool:
    if not writer.endswith(f".{socket.gethostname()}"):
        with suppress(OSError):
            return time.time() - path.stat().st_mtime > _DAY_S
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass
    return False


def give_umask(path: Path) -> None:
    """Give group and others the rights of the user's umask; libraries write files for one user."""
    allowed = 0o777 & ~_umask()
    for entry in (path, *path.rglob("*")) if path.is_dir() else (path,):
        mode = stat.S_IMODE(entry.stat().st_mode)
        rights = allowed if entry.is_dir() or mode & 0o100 else allowed & 0o666
        if rights & ~mode:
            with suppress(OSError):  # a disk without permissions
                entry.chmod(mode | rights)


def _umask() -> int:
    """The umask of this process; reading it by `os.umask` sets it briefly, for all threads."""
    with suppress(OSError):
        found = re.search(r"^Umask:\s*([0-7]+)", Path("/proc/self/status").read_text(), re.M)
        if found:
            return int(found[1], 8)
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def flush(path: Path, deep: bool = True) -> None:
    """Wait until a file, or a folder and, if `deep`, all its content, is on the disk."""
    entries = [*path.rglob("*"), path] if deep and path.is_dir() else [path]
    for entry in entries:
        handle = os.open(entry, os.O_RDONLY)
        try:
            os.fsync(handle)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a disk that cannot
                raise
        finally:
            os.close(handle)


def sampled_digest(path: Path, size: int = 4096, count: int = 64) -> str:
    """A hash of a file's length and `count` evenly spread pieces of `size` bytes, or all of it."""
    length = path.stat().st_size
    digest = hashlib.blake2b(str(length).encode(), digest_size=8)
    with path.open("rb") as file:
        if length <= size * count:
            digest.update(file.read())
            return digest.hexdigest()
        for piece in range(count):
            file.seek(piece * (length - size) // (count - 1))
            digest.update(file.read(size))
    return digest.hexdigest()
