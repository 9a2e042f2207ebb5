"""Files and folders of data that others wrote: only files are opened, and only the data's own are
listed.

A pipe would block, a link may lead in a circle, and other systems leave files of their own in every
folder (`._12.jpg`, `.DS_Store`, `Thumbs.db`).
"""

import difflib
import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from internnav_hf.data.readers.errors import broken, printable
from internnav_hf.files import raise_trouble

AT_ONCE = getattr(os, "O_NONBLOCK", 0)
"""Flag of `os.open`: a pipe that nobody writes to does not block."""
_FOREIGN = {"thumbs.db", "desktop.ini", "__macosx", "lost+found", "@eadir", "$recycle.bin"}
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def is_foreign(name: str) -> bool:
    """Whether a file or folder is hidden, another system's or an editor's copy."""
    return name[0] in ".~" or name[-1] == "~" or name.lower() in _FOREIGN


def state_of(path: Path) -> str:
    """What lies at a path, in words for a message: "no file", "a pipe", "12 bytes"."""
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno == errno.ELOOP:
            return "a link that leads in a circle"
        if isinstance(error, OSError) and error.errno not in (errno.ENOENT, errno.ENOTDIR):
            return f"no file that can be read ({error.strerror})"
        return "a link that leads nowhere" if os.path.lexists(path) else "no file"
    kinds = (word for is_kind, word in _KINDS if is_kind(status.st_mode))
    return next(kinds, f"{status.st_size} bytes")


def open_file(path: Path, expected: str = "a file") -> BinaryIO:
    """Open for reading; whatever is no regular file is a ValueError, and never blocks."""
    try:
        stream = open(path, "rb", opener=_open_at_once)  # noqa: SIM115
    except OSError as error:
        raise_trouble(error, path)
        found = f"{state_of(path)} ({error.strerror})" if path.exists() else state_of(path)
        raise broken(path, "file", found, expected) from error
    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        stream.close()
        raise broken(path, "file", state_of(path), expected)
    return stream


def _open_at_once(path: str | Path, flags: int) -> int:
    return os.open(path, flags | AT_ONCE)


def subfolders(folder: Path) -> list[Path]:
    """Sorted; links are followed, those that lead nowhere and foreign folders left out."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if not is_foreign(entry.name) and _is_dir(entry)]
    return [folder / name for name in sorted(names)]


def folders_and_dead_links(folder: Path) -> list[Path]:
    """`subfolders`, and the links beside them that lead nowhere: something is meant to be there."""
    with os.scandir(folder) as entries:
        links = [entry.name for entry in entries if entry.is_symlink()]
    paths = [folder / name for name in links if not is_foreign(name)]
    return sorted([*subfolders(folder), *(path for path in paths if not path.exists())])


def _is_dir(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle
        return False


def parquet_files(folder: Path) -> list[Path]:
    """The episodes of a scene or trajectory, sorted."""
    found = folder.glob("data/chunk-*/*.parquet")
    return sorted(path for path in found if not is_foreign(path.name))


def unlisted(
    folder: Path, numbers: Iterable[int], meta_file: str, num_wrong: int
) -> list[ValueError]:
    """An error for each parquet file of an episode that the meta file does not list; `num_wrong`
    of its lines could not be read, and are theirs.
    """
    listed, missing = set(numbers), []
    for path in parquet_files(folder):
        number = path.stem.removeprefix("episode_")
        if number.isdecimal() and int(number) not in listed:
            missing.append(broken(path, "file", f"no line in {meta_file}", "one for each episode"))
    return missing[num_wrong:]


def with_siblings(folders: Sequence[Path], top: Path) -> list[Path]:
    """Folders with episodes, and what lies beside them: it should be one, too. Sorted."""
    above = {path for folder in folders for path in folder.parents}
    places = {folder.parent for folder in folders if folder != top}
    beside = (path for place in places for path in folders_and_dead_links(place))
    return sorted({*folders, *(path for path in beside if path not in above)})


def all_broken(folder: Path, problems: Sequence[ValueError]) -> list[str]:
    """What is wrong with a folder that yields no episode, as often as it has episodes."""
    more = max(0, len(parquet_files(folder)) - len(problems))
    return [str(problem) for problem in (*problems, *[problems[0]] * more)]


def each_once(folders: Iterable[Path]) -> Iterator[tuple[Path, Path | None]]:
    """Each folder, with the earlier one that it is by a link, if it is."""
    folders = list(folders)
    links = {path for folder in folders for path in (folder, *folder.parents[:2])}
    links = {path for path in links if path.is_symlink()}
    if not links:
        yield from ((folder, None) for folder in folders)
        return
    seen: dict[str, Path] = {}
    # What is no link comes first: it keeps its name.
    for folder in sorted(
        folders, key=lambda folder: not links.isdisjoint((folder, *folder.parents))
    ):
        seen.setdefault(os.path.realpath(folder), folder)
    for folder in folders:
        first = seen[os.path.realpath(folder)]
        yield folder, None if first == folder else first


def check_name(folder: Path) -> None:
    """It can be stored, and told."""
    if printable(str(folder)) != str(folder):
        raise broken(folder, "name", "bytes that are no UTF-8", "a name that can be printed")


def walk_folders(
    folder: Path, is_end: Callable[[Path], bool], above: tuple[str, ...] = ()
) -> Iterator[Path]:
    """Folders at or below one, sorted, none below those that are an end. Links are followed, but
    not to where the walk came from.
    """
    place = os.path.realpath(folder)
    if place in above:
        return
    yield folder
    if not is_end(folder):
        for child in subfolders(folder):
            yield from walk_folders(child, is_end, (*above, place))


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """A hint that ends an error message."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f" It has {', '.join(known)}.{hint}" if known else " It is empty."


def nearest_folder(path: Path) -> str:
    """A hint that ends an error message: a folder that is called like the missing `path`."""
    siblings = [folder.name for folder in subfolders(path.parent)] if path.parent.is_dir() else []
    close = difflib.get_close_matches(path.name, siblings, n=1, cutoff=0.6)
    return f" Did you mean {str(path.parent / close[0])!r}?" if close else ""
