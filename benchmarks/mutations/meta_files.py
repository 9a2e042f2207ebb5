"""Mutations of the meta files of a scene, of its folder, and of random bytes."""

import gzip
import json
import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.mutations.common import (
    ALL,
    DEEP,
    LINES,
    MARK,
    Mutation,
    edit_line,
    replace_file,
    set_field,
)


def line_mutations(kind: str) -> Iterator[Mutation]:
    """Mutations of one line of the episodes (`vln_pe`: instructions), and of other meta files."""
    file = LINES[kind]
    make = partial(_line, kind, file)
    yield make("deep JSON", lambda line: b'{"a": ' + DEEP + b"}")
    yield make("latin-1 byte", lambda line: line.replace(b"{", b'{"caf\xe9": 1, ', 1))
    yield make("cut line", lambda line: line[: len(line) // 2])
    yield make("empty object", lambda line: b"{}")
    yield make("a list", lambda line: b"[1, 2]")
    yield make(
        "a number of 5000 digits", lambda line: set_field(line, "x", 0)[:-2] + b"9" * 5000 + b"}"
    )
    yield make("a key twice", lambda line: line.rstrip()[:-1] + b", " + line.strip()[1:])
    yield make("lone surrogate", lambda line: line.rstrip()[:-1] + b', "x": "\\ud800"}')
    yield make("a line of 60 MB", lambda line: set_field(line, "x", "y" * 60_000_000))
    yield make("NUL bytes", lambda line: b"\0" * 100)
    yield make("UTF-16", lambda line: line.decode().encode("utf-16"))
    yield make("mark of UTF-8", lambda line: line, whole=lambda data: MARK + data, ok=True)
    yield make("line ends of Windows", lambda line: line, whole=_windows, ok=True)
    yield make("blank lines", lambda line: b"\n  \n" + line, ok=True)
    yield make("unknown fields", lambda line: set_field(line, "note", {"a": [1]}), ok=True)
    yield make("no line break at the end", lambda line: line, whole=bytes.rstrip, ok=True)
    yield make("gzip", lambda line: line, whole=gzip.compress, ok=True)
    for name, whole in {
        "UTF-16 file": lambda data: data.decode().encode("utf-16"),
        "no line": lambda data: b"\n",
        "cut in the first line": lambda data: data[:5],
    }.items():
        yield make(name, lambda line: line, whole=whole, touched=ALL)
    for name in ("missing", "a folder", "a pipe", "a link in a circle"):
        damage = partial(replace_file, f"meta/{file}", name)
        yield Mutation(kind, f"{file}: {name}", damage, ALL)
    yield from _field_mutations(kind)


def _field_mutations(kind: str) -> Iterator[Mutation]:
    fields = {
        "vln_ce": [
            ("episodes.jsonl", {"episode_index": 2**40}, (1,)),
            ("episodes.jsonl", {"episode_index": -1}, (1,)),
            ("episodes.jsonl", {"episode_index": "1"}, (1,)),
            ("episodes.jsonl", {"episode_index": 0}, (1,)),
            ("episodes.jsonl", {"length": 10**15}, (1,)),
            ("episodes.jsonl", {"length": True}, (1,)),
            ("episodes.jsonl", {"tasks": []}, (1,)),
            ("episodes.jsonl", {"tasks": [3]}, (1,)),
            ("episodes.jsonl", {"tasks": ["x" * 1_000_000]}, (1,)),
            ("episodes.jsonl", {"tasks": ["a<INSTRUCTION_SEP> "]}, (1,)),
        ],
        "vln_n1": [
            ("episodes_stats.jsonl", {"episode_index": 0}, (1,)),
            ("episodes_stats.jsonl", {"episode_index": 2**40}, (1,)),
            ("episodes_stats.jsonl", {"stats": {}}, (1,)),
            ("episodes_stats.jsonl", {"stats": {"image_index": {"min": [0], "max": [1e15]}}}, (1,)),
            ("episodes_stats.jsonl", {"stats": {"image_index": {"min": -5, "max": 5}}}, (1,)),
        ],
        "vln_pe": [
            ("tasks.jsonl", {"task_index": 2**40}, (1,)),
            ("tasks.jsonl", {"task_index": 0}, (0, 1)),
            ("tasks.jsonl", {"instruction_tokens": [2**40]}, (1,)),
            ("tasks.jsonl", {"instruction_tokens": [-1]}, (1,)),
            ("tasks.jsonl", {"task": "x" * 1_000_000}, (1,)),
            ("tasks.jsonl", {"task": None}, (1,)),
            ("tasks.jsonl", {"finish_status": {"a": 1}}, (1,)),
            ("episodes_stats.jsonl", {"episode_index": 0}, (1,)),
            ("episodes_stats.jsonl", {"task_index": {"min": 0, "max": 10**9}}, (1,)),
            ("episodes_stats.jsonl", {"task_index": {"min": 0, "max": 10**15}}, (1,)),
            ("episodes_stats.jsonl", {"task_index": {"min": 2, "max": 1}}, (1,)),
        ],
    }[kind]
    for file, change, touched in fields:
        name = f"{file}: {json.dumps(change)[:50]}"
        change_line = partial(_changed, change)
        yield Mutation(kind, name, partial(edit_line, kind, file, change_line), touched)
    twice = {"vln_ce": "episodes.jsonl"}.get(kind, "episodes_stats.jsonl")
    yield Mutation(kind, f"{twice}: a line twice", partial(_line_twice, twice))
    if kind != "vln_n1":
        for name in ("cut", "deep", "latin-1"):
            yield Mutation(kind, f"info.json: {name}", partial(_damage_info, name), ALL)


def _line(kind, file, name, change, whole=None, ok=False, touched=(1,)) -> Mutation:
    def damage(scene: Path) -> None:
        edit_line(kind, file, change, scene)
        path = scene / "meta" / file
        if whole is not None:
            path.write_bytes(whole(path.read_bytes()))

    return Mutation(kind, f"{file}: {name}", damage, () if ok else touched, ok)


def _changed(change: dict, line: bytes) -> bytes:
    return json.dumps(json.loads(line) | change).encode()


def _windows(data: bytes) -> bytes:
    return data.replace(b"\n", b"\r\n")


def _line_twice(file: str, scene: Path) -> None:
    path = scene / "meta" / file
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([*lines, lines[1]]) + b"\n")


def _damage_info(name: str, scene: Path) -> None:
    path = scene / "meta" / "info.json"
    data = path.read_bytes()
    damaged = {"cut": data[: len(data) // 2], "deep": DEEP, "latin-1": data[:-2] + b', "\xe9": 1}'}
    path.write_bytes(damaged[name])


def folder_mutations(kind: str) -> Iterator[Mutation]:
    """Mutations of the first scene's folder, and next to it, which affect no episode."""

    def beside(name: str, target: Callable[[Path], Path]) -> Callable[[Path], None]:
        return lambda scene: (scene.parent / name).symlink_to(target(scene))

    yield Mutation(kind, "a scene links to its parent", beside("x", lambda s: s.parent), ())
    yield Mutation(kind, "a scene is another by a link", beside("x", lambda s: s), ())
    yield Mutation(kind, "a scene links in a circle", beside("x", lambda s: s.parent / "x"), ())
    yield Mutation(kind, "a scene links to nowhere", beside("x", lambda s: s.parent / "gone"), ())
    yield Mutation(kind, "a scene is empty", lambda s: (s.parent / "x").mkdir(), ())
    yield Mutation(kind, "two scenes link to each other", _mutual, ())
    yield Mutation(kind, "a scene's name is no UTF-8", _odd_name, ALL)
    yield Mutation(kind, "a scene lost its meta", lambda s: shutil.rmtree(s / "meta"), ALL)
    yield Mutation(kind, "a scene lost its images", lambda s: shutil.rmtree(s / "videos"), ALL)
    yield Mutation(kind, "a scene lost its columns", lambda s: shutil.rmtree(s / "data"), ALL)
    for name in (".cache", "__MACOSX", "@eaDir"):
        yield Mutation(kind, f"{name} beside", partial(_folder_beside, name), (), True)
    yield Mutation(kind, "a scene is a link", _moved, (), True)
    yield Mutation(kind, "notes in a scene", lambda s: (s / "README.md").touch(), (), True)


def _folder_beside(name: str, scene: Path) -> None:
    (scene.parent / name).mkdir()


def _mutual(scene: Path) -> None:
    (scene.parent / "x").symlink_to(scene.parent / "y")
    (scene.parent / "y").symlink_to(scene.parent / "x")


def _odd_name(scene: Path) -> None:
    scene.rename(scene.with_name(os.fsdecode(b"sc\xe9ne")))


def _moved(scene: Path) -> None:
    other = scene.parents[2] / "elsewhere"
    scene.rename(other)
    scene.symlink_to(other)


def random_mutations(kind: str, seed: int) -> Iterator[Mutation]:
    """Random changes of bytes in a parquet file's footer and in the meta file's second line."""
    for number in range(4):
        rng = np.random.default_rng([seed, number, len(kind), ord(kind[-1])])
        yield Mutation(
            kind, f"parquet: random bytes {number}", partial(_noise, rng.integers(2**31))
        )


def _noise(seed: int, scene: Path) -> None:
    rng = np.random.default_rng(seed)
    path = scene / "data/chunk-000/episode_000001.parquet"
    data = bytearray(path.read_bytes())
    end = len(data) - 8  # the footer lies at the end, its size in the last bytes
    size = min(int.from_bytes(data[end : end + 4], "little"), end)
    for place in rng.integers(end - size, end, 40):
        data[place] = rng.integers(256)
    path.write_bytes(data)
