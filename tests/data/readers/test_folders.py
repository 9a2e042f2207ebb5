import errno
import os
from types import SimpleNamespace

import pytest

from internnav_hf.data.readers.errors import broken, shown
from internnav_hf.data.readers.folders import (
    each_once,
    folders_and_dead_links,
    is_foreign,
    open_file,
    state_of,
    subfolders,
    unlisted,
    walk_folders,
)
from internnav_hf.files import StorageError


@pytest.fixture
def folder(tmp_path):
    """A folder, a file, and what only looks like them."""
    (tmp_path / "b").mkdir()
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "file").write_bytes(b"12")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    (tmp_path / "nowhere").symlink_to(tmp_path / "absent")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "._b").write_bytes(b"")
    (tmp_path / "__MACOSX").mkdir()
    return tmp_path


def test_only_files_are_opened_and_nothing_blocks(folder):
    with open_file(folder / "file") as stream:
        assert stream.read() == b"12"
    states = {
        "circle": "a link that leads in a circle",
        "nowhere": "a link that leads nowhere",
        "pipe": "a pipe",
        "b": "a folder",
        "absent": "no file",
    }
    for name, state in states.items():
        assert state_of(folder / name) == state
        with pytest.raises(ValueError, match=f"{name}: file: found {state}.*, expected an image"):
            open_file(folder / name, "an image")


def test_folders_are_listed_without_foreign_ones(folder):
    assert [path.name for path in subfolders(folder)] == ["a", "b"]
    with_links = ["a", "b", "circle", "nowhere"]
    assert [path.name for path in folders_and_dead_links(folder)] == with_links


def test_a_folder_that_is_another_by_a_link_is_told(folder):
    assert list(each_once(subfolders(folder))) == [
        (folder / "a", folder / "b"),
        (folder / "b", None),
    ]
    assert list(each_once([folder / "b"])) == [(folder / "b", None)]


def test_a_walk_does_not_go_round(tmp_path):
    for name, target in (("x", "y"), ("y", "x")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "up").symlink_to(tmp_path)
        (tmp_path / name / "other").symlink_to(tmp_path / target)
    found = [str(path.relative_to(tmp_path)) for path in walk_folders(tmp_path, lambda _: False)]
    assert found == [".", "x", "x/other", "y", "y/other"]


def test_names_of_other_systems_are_known():
    assert all(map(is_foreign, ("._1.jpg", ".DS_Store", "Thumbs.db", "1.jpg~", "~$a", "@eaDir")))
    assert not any(map(is_foreign, ("1.jpg", "scene_0", "thumbs")))


def test_a_message_is_one_line_that_can_be_printed():
    name = os.fsdecode(b"sc\xe9ne")
    message = str(broken(f"{name}\n/a", "field", "x" * 1000, "y"))
    assert message.encode().startswith(b"sc\\udce9ne /a: field: found xxx")
    assert len(message) < 700
    deep = []
    for _ in range(900):
        deep = [deep]
    assert len(shown(deep)) < 100


def test_a_machine_without_handles_is_no_broken_file(folder, monkeypatch):
    def no_handle(*_):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "open", no_handle)
    with pytest.raises(StorageError, match="Too many open files: raise the limit"):
        open_file(folder / "file")


def test_an_episode_without_a_line_is_told(tmp_path):
    chunk = tmp_path / "data" / "chunk-000"
    chunk.mkdir(parents=True)
    for name in ("episode_000000", "episode_000001", "episode_000007", "notes", "._episode_000003"):
        (chunk / f"{name}.parquet").touch()
    records = [SimpleNamespace(episode_index=index) for index in (0, 1, 7, 9)]
    first, second = unlisted(tmp_path, records[:1], "meta/episodes.jsonl", 0)
    assert "episode_000001.parquet: file: found no line in meta/episodes.jsonl" in str(first)
    assert "episode_000007" in str(second)
    assert len(unlisted(tmp_path, records[:1], "meta/episodes.jsonl", 1)) == 1
    assert not unlisted(tmp_path, records, "meta/episodes.jsonl", 0)
    assert not unlisted(tmp_path, [], "meta/episodes.jsonl", 0)
