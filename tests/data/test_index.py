import logging
from pathlib import Path

import pyarrow as pa
import pytest

from internnav_hf.data.index import COLUMNS, LeftOut, Source, open_episodes
from internnav_hf.data.tables import folder_stamps

SCHEMA = pa.schema([COLUMNS["unit"], COLUMNS["length"]])


@pytest.fixture
def root(tmp_path):
    for name, lines in (("a", "3 broken"), ("b", "4 out 5")):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "words").write_text(lines)
    return tmp_path / "data"


def read(folder: Path):
    for word in (folder / "words").read_text().split():
        if word == "stop":
            raise ValueError(f"{folder}: cannot be read")
        kinds = {"broken": ValueError(f"{folder}: a broken one"), "out": LeftOut("stuck")}
        yield kinds.get(word) or {"unit": folder.name, "length": int(word)}


def opened(root, share=0.5, key=1, agree=lambda parts: parts):
    def folders():
        return sorted(root.iterdir())

    source = Source(root, "words", key, SCHEMA, folders, read, folder_stamps, agree)
    return open_episodes(source, root.parent / "cache", share)


def test_rows_broken_and_left_out_ones_are_counted(root, caplog):
    with caplog.at_level(logging.INFO):
        table = opened(root)
    assert table.episodes.to_pylist() == [
        {"unit": "a", "length": 3},
        {"unit": "b", "length": 4},
        {"unit": "b", "length": 5},
    ]
    assert (table.num_episodes, table.left_out) == (5, {"stuck": 1})
    assert [Path(problem).name for problem in table.broken_episodes] == ["a: a broken one"]
    assert "1 of 5 episodes are broken" in caplog.text
    with pytest.raises(ValueError, match="1 of 5 episodes are broken"):
        opened(root, 0.0)


def test_a_table_is_mapped_until_a_file_or_the_key_changes(root, monkeypatch):
    first = opened(root)
    monkeypatch.setattr("internnav_hf.data.index.index_folders", lambda *_: 1 / 0)
    assert opened(root).episodes.equals(first.episodes)
    with pytest.raises(ZeroDivisionError):
        opened(root, key=2)
    (root / "a" / "words").write_text("6")
    with pytest.raises(ZeroDivisionError):
        opened(root)


def test_what_is_raised_breaks_the_folder(root):
    (root / "b" / "words").write_text("4 5 stop")
    table = opened(root, 0.9)
    assert table.episodes["unit"].to_pylist() == ["a"]
    assert table.num_episodes == 3


def test_folders_may_contradict_each_other(root):
    assert opened(root, agree=lambda parts: parts[:1]).episodes["unit"].to_pylist() == ["a"]


@pytest.mark.parametrize(("words", "message"), [("out", "none to use"), ("", "no episode in 2")])
def test_nothing_to_use_is_an_error(root, words, message):
    for folder in root.iterdir():
        (folder / "words").write_text(words)
    with pytest.raises(ValueError, match=message):
        opened(root)


def test_a_folder_that_is_another_by_a_link_counts_once(root):
    (root / "c").symlink_to(root / "b")
    table = opened(root)
    assert table.episodes["unit"].to_pylist() == ["a", "b", "b"]
    assert "each folder once" in table.broken_episodes[-1]
