import errno
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from internnav_hf.files import (
    StorageError,
    atomic_folder,
    flush,
    give_umask,
    raise_trouble,
    remove_stale,
    sampled_digest,
    storage_error,
    temporary_beside,
    write_atomic,
    writing,
)


@pytest.fixture
def umask():
    """Group may write, others may read nothing."""
    before = os.umask(0o007)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_folder_appears_when_it_is_whole(tmp_path):
    with atomic_folder(tmp_path / "a" / "scene") as partial:
        (partial / "file").write_text("text")
        assert not (tmp_path / "a" / "scene").exists()
        assert partial.name.startswith(".")
    assert (tmp_path / "a" / "scene" / "file").read_text() == "text"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["scene"]


def test_an_error_leaves_nothing(tmp_path):
    with pytest.raises(OSError, match="no disk"), atomic_folder(tmp_path / "scene"):
        raise OSError("no disk")
    with pytest.raises(TypeError):
        write_atomic(tmp_path / "file", lambda part: part.write_text(3))
    assert not list(tmp_path.iterdir())


def test_of_two_writers_the_first_counts(tmp_path):
    with atomic_folder(tmp_path / "scene") as slow:
        (slow / "file").write_text("slow")
        with atomic_folder(tmp_path / "scene") as fast:
            (fast / "file").write_text("fast")
    assert (tmp_path / "scene" / "file").read_text() == "fast"
    assert [path.name for path in tmp_path.iterdir()] == ["scene"]


def test_what_killed_writers_left_goes_and_what_is_being_written_stays(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait(60)
    ours = temporary_beside(tmp_path / "model.v1-final")
    theirs = ours.with_name(ours.name.replace(f"-{os.getpid()}-", f"-{gone.pid}-"))
    old = tmp_path / ".scene.another-machine-12-0123abcd.partial"
    fresh = tmp_path / ".scene.another-machine-13-0123abcd.partial"
    foreign = tmp_path / ".out.partial"
    for folder in (ours, theirs, old, fresh, foreign):
        folder.mkdir()
    os.utime(old, (0, 0))
    remove_stale(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {ours.name, fresh.name, foreign.name}


def test_what_is_written_has_the_permissions_of_the_umask(tmp_path, umask):
    with atomic_folder(tmp_path / "scene") as folder:
        (folder / "inner").mkdir(mode=0o700)
        save_file({"x": torch.ones(1)}, folder / "inner" / "x.safetensors")
        (folder / "inner" / "x.safetensors").chmod(0o600)
    write_atomic(tmp_path / "y.safetensors", lambda part: save_file({"x": torch.ones(1)}, part))
    assert mode(tmp_path / "scene") == mode(tmp_path / "scene" / "inner") == 0o770
    assert mode(tmp_path / "scene" / "inner" / "x.safetensors") == 0o660
    assert mode(tmp_path / "y.safetensors") == 0o660


def test_permissions_only_grow_and_programs_stay_programs(tmp_path, umask):
    shared, program = tmp_path / "shared", tmp_path / "program"
    for path, bits in ((shared, 0o666), (program, 0o700)):
        path.touch()
        path.chmod(bits)
    give_umask(tmp_path)
    assert (mode(shared), mode(program)) == (0o666, 0o770)


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.ENOSPC, "No space left"),
        (errno.EDQUOT, "quota exceeded"),
        (errno.EROFS, "Read-only"),
        (errno.EACCES, "Permission denied"),
        (errno.EMFILE, "ulimit -n"),
    ],
)
def test_what_a_disk_refuses_is_one_line_that_names_the_file(tmp_path, number, told):
    expected = re.escape(f"{tmp_path}/model") + f": .*{told}.*Start again\\.$"
    with pytest.raises(StorageError, match=expected), writing(tmp_path / "model", "Start again."):
        raise OSError(number, os.strerror(number))
    with pytest.raises(StorageError, match=r"^/elsewhere: "), writing(tmp_path / "model"):
        raise OSError(number, os.strerror(number), "/elsewhere")


def test_errors_of_libraries_on_a_full_disk_are_understood():
    """/dev/full takes nothing."""
    for write in (
        lambda: Path("/dev/full").write_text("x"),
        lambda: torch.save(torch.ones(99999), "/dev/full"),
        lambda: np.ones(99999).tofile("/dev/full"),
    ):
        with pytest.raises((OSError, RuntimeError)) as caught:
            write()
        assert "No space left" in storage_error(caught.value)
    assert "No space left" in storage_error(RuntimeError("I/O error (os error 28)"))


@pytest.mark.parametrize("error", [FileNotFoundError(2, "none"), RuntimeError("shapes differ")])
def test_other_errors_stay_what_they_are(tmp_path, error):
    with pytest.raises(type(error), match=str(error.args[-1])), writing(tmp_path):
        raise error


def test_trouble_of_the_machine_is_not_a_broken_file(tmp_path):
    with pytest.raises(StorageError, match="x: Too many open files"):
        raise_trouble(OSError(errno.EMFILE, "Too many open files"), tmp_path / "x")
    raise_trouble(OSError(errno.ENOENT, "none"), tmp_path / "x")
    raise_trouble(ValueError("cut"), tmp_path / "x")


def test_flushing_takes_files_and_folders(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").touch()
    flush(tmp_path)
    flush(tmp_path / "a" / "file")


@pytest.mark.parametrize("length", [0, 100, 1_000_000])
def test_a_digest_tells_files_of_a_length_apart(tmp_path, length):
    path = tmp_path / "file"
    path.write_bytes(b"a" * length)
    digest = sampled_digest(path)
    assert sampled_digest(path) == digest
    path.write_bytes(b"b" * length)
    assert (sampled_digest(path) != digest) == (length > 0)
