"""Files and folders of third-party data: only regular files are opened, and only the data's own are
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
from typing import Any, BinaryIO

from internnav_hf.data.readers.errors import broken, printable
from internnav_hf.files import raise_trouble

AT_ONCE = getattr(os, "O_NONBLOCK", 0)
"""Flag of `os.open`: a pipe without a writer does not block."""
_FOREIGN = {"thumbs.db", "desktop.ini", "__macosx", "lost+found", "@eadir", "$recycle.bin"}
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def is_foreign(name: str) -> bool:
    """Return whether a file or folder is hidden, another system's or an editor's copy."""
    return name[0] in ".~" or name[-1] == "~" or name.lower() in _FOREIGN


def state_of(path: Path) -> str:
    """Describe what is at a path for a message: "no file", "a pipe", "12 bytes"."""
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


def unreadable(path: Path, error: object, expected: str, field: str = "file") -> ValueError:
    """Return the error for a file that could not be parsed."""
    return broken(path, field, f"{state_of(path)} ({error})", expected)


def open_file(path: Path, expected: str = "a file") -> BinaryIO:
    """Open for reading; anything but a regular file is a ValueError, and never blocks."""
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
    """Return sorted subfolders; links are followed, dead links and foreign folders left out."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if not is_foreign(entry.name) and _is_dir(entry)]
    return [folder / name for name in sorted(names)]


def named_folders(root: Path, names: Sequence[str] | None, kind: str) -> list[Path]:
    """Return the folders in a data root, or those of these names; ValueError if one is missing.
    `kind` says what they are: "scan (r2r, ...)".
    """
    if not root.is_dir():
        hint = nearest_folder(root)
        raise ValueError(f"{root}: no such folder. It should hold a folder per {kind}.{hint}")
    there = [folder.name for folder in subfolders(root)]
    missing = [name for name in names or () if name not in there]
    if missing:
        found = f"found no {kind.split()[0]} {', '.join(map(repr, missing))}"
        raise ValueError(f"{root}: {found}.{did_you_mean(missing[0], there)}")
    return [root / name for name in names or there]


def units_of(group: Path, meta_file: str, nested: bool = False) -> list[Path]:
    """Return the folders in a group that should have episodes: none if no folder has a `data`
    folder or the meta file, else all, to report errors. With `nested` they may lie a level deeper.
    """

    def is_unit(folder: Path) -> bool:
        return (folder / "data").is_dir() or (folder / meta_file).is_file()

    units, found = [], False
    for scene in folders_and_dead_links(group):
        look_inside = nested and scene.is_dir() and not is_unit(scene)
        inside = folders_and_dead_links(scene) if look_inside else []
        are_units = any(map(is_unit, inside))
        units += inside if are_units else [scene]
        found = found or are_units or is_unit(scene)
    return units if found else []


def folders_and_dead_links(folder: Path) -> list[Path]:
    """Return `subfolders` and the dead links beside them, which stand for missing data."""
    with os.scandir(folder) as entries:
        links = [entry.name for entry in entries if entry.is_symlink()]
    paths = [folder / name for name in links if not is_foreign(name)]
    return sorted([*subfolders(folder), *(path for path in paths if not path.exists())])


def _is_dir(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a circular link
        return False


def parquet_files(folder: Path) -> list[Path]:
    """Return the parquet files of a scene or trajectory, sorted."""
    found = folder.glob("data/chunk-*/*.parquet")
    return sorted(path for path in found if not is_foreign(path.name))


def unlisted(
    folder: Path, records: Sequence[Any], meta_file: str, num_wrong: int
) -> list[ValueError]:
    """Return an error for each parquet file whose `episode_index` no record of the meta file has,
    except `num_wrong`, which belong to lines that could not be read; none without any record.
    """
    listed, missing = {record.episode_index for record in records}, []
    for path in parquet_files(folder) if records else ():
        number = path.stem.removeprefix("episode_")
        if number.isdecimal() and int(number) not in listed:
            missing.append(broken(path, "file", f"no line in {meta_file}", "one for each episode"))
    return missing[num_wrong:]


def with_siblings(folders: Sequence[Path], top: Path) -> list[Path]:
    """Return, sorted, folders with episodes and those beside them, which should have some too."""
    above = {path for folder in folders for path in folder.parents}
    places = {folder.parent for folder in folders if folder != top}
    beside = (path for place in places for path in folders_and_dead_links(place))
    return sorted({*folders, *(path for path in beside if path not in above)})


def all_broken(folder: Path, problems: Sequence[ValueError]) -> list[str]:
    """Return the errors of a folder that yields no episode, one for each of its episodes."""
    more = max(0, len(parquet_files(folder)) - len(problems))
    return [str(problem) for problem in (*problems, *[problems[0]] * more)]


def each_once(folders: Iterable[Path]) -> Iterator[tuple[Path, Path | None]]:
    """Yield each folder, with the earlier folder to which it is a link, if any."""
    folders = list(folders)
    links = {path for folder in folders for path in (folder, *folder.parents[:2])}
    links = {path for path in links if path.is_symlink()}
    if not links:
        yield from ((folder, None) for folder in folders)
        return
    seen: dict[str, Path] = {}
    # Folders that are no links come first and keep their names.
    for folder in sorted(
        folders, key=lambda folder: not links.isdisjoint((folder, *folder.parents))
    ):
        seen.setdefault(os.path.realpath(folder), folder)
    for folder in folders:
        first = seen[os.path.realpath(folder)]
        yield folder, None if first == folder else first


def check_name(folder: Path) -> None:
    """Check that a name can be stored and printed."""
    if printable(str(folder)) != str(folder):
        raise broken(folder, "name", "bytes that are no UTF-8", "a name that can be printed")


def walk_folders(
    folder: Path, is_end: Callable[[Path], bool], above: tuple[str, ...] = ()
) -> Iterator[Path]:
    """Yield folders at or below one, sorted, none below those for which `is_end` holds. Links are
    followed, but not to a parent.
    """
    place = os.path.realpath(folder)
    if place in above:
        return
    yield folder
    if not is_end(folder):
        for child in subfolders(folder):
            yield from walk_folders(child, is_end, (*above, place))


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """Return a hint that ends an error message."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f" It has {', '.join(known)}.{hint}" if known else " It is empty."


def nearest_folder(path: Path) -> str:
    """Return a hint that ends an error message: a folder with a name like the missing `path`."""
    siblings = [folder.name for folder in subfolders(path.parent)] if path.parent.is_dir() else []
    close = difflib.get_close_matches(path.name, siblings, n=1, cutoff=0.6)
    return f" Did you mean {str(path.parent / close[0])!r}?" if close else ""
