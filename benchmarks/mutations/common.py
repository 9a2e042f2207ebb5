"""A mutation of a data set, and the changes that several kinds share."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ALL = (0, 1, 2)
LINES = {"vln_ce": "episodes.jsonl", "vln_n1": "episodes_stats.jsonl", "vln_pe": "tasks.jsonl"}
ACTION = {"vln_ce": "action", "vln_n1": "action", "vln_pe": "observation.action"}
MARK = b"\xef\xbb\xbf"  # of UTF-8
DEEP = b"[" * 100_000 + b"]" * 100_000


@dataclass(frozen=True)
class Mutation:
    """One change. `touched` are the episodes of the first scene that may be left out; after a
    `harmless` change they may differ, but none may be missing.
    """

    kind: str
    name: str
    damage: Callable[[Path], None]
    touched: tuple[int, ...] = (1,)
    harmless: bool = False


def replace_file(file: str, name: str, scene: Path) -> None:
    path = scene / file
    path.unlink()
    if name == "a folder":
        path.mkdir()
    elif name == "a pipe":
        os.mkfifo(path)
    elif name == "a link in a circle":
        path.symlink_to(path)
    elif name == "a link to nowhere":
        path.symlink_to(path.with_name("absent"))
    elif name == "a device":
        path.symlink_to("/dev/zero")
    elif name == "empty":
        path.touch()


def edit_line(kind: str, file: str, change: Callable[[bytes], bytes], scene: Path) -> None:
    """The line of episode 1, or of its first instruction."""
    path = scene / "meta" / file
    lines = path.read_bytes().splitlines()
    at = 1
    if (kind, file) == ("vln_pe", "tasks.jsonl"):
        stats = json.loads((scene / "meta/episodes_stats.jsonl").read_text().splitlines()[1])
        at = int(np.ravel(stats.get("stats", stats)["task_index"]["min"])[0])
    lines[at] = change(lines[at])
    path.write_bytes(b"\n".join(lines) + b"\n")


def set_field(line: bytes, key: str, value: object) -> bytes:
    return json.dumps(json.loads(line) | {key: value}).encode()


def image_of(kind: str, scene: Path, images: str) -> Path:
    """The file that is damaged."""
    folders = sorted(scene.glob(f"videos/chunk-000/observation.images.{images}*"))
    if kind == "vln_pe":
        return folders[0] / "episode_000001.npy"
    if kind == "vln_ce":  # the look-down view
        return next(folders[-1].glob("episode_000001_3.*"))
    stats = json.loads((scene / "meta/episodes_stats.jsonl").read_text().splitlines()[1])
    first = int(np.ravel(stats["stats"]["image_index"]["min"])[0])
    numbers = {int(path.stem.rpartition("_")[2]): path for path in folders[0].iterdir()}
    return numbers[first + 3]
