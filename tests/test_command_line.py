"""Every program of ours: `--help` only helps, and what it cannot do is one line."""

import runpy
import sys
import warnings

import pytest

from internnav_hf.command_line import LineParser, ends_in_one_line, output_folder

from .test_repository import ROOT, tracked

PROGRAMS = [
    str(path.relative_to(ROOT))
    for pattern in ("scripts/*.py", "recipes/*.py", "benchmarks/*.py")
    for path in tracked(pattern)
    if path.stem != "__init__"
]


def call(program: str, *options: str) -> int | str | None:
    """Run it in this process, as a program; what it ends with."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(ROOT / program), *options])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(ROOT / program), run_name="__main__")
    return ended.value.code


def files_and_times() -> dict[str, int]:
    """Of all that git knows or would take."""
    return {str(path): path.stat().st_mtime_ns for path in tracked("*")}


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_only_helps(program, option, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = files_and_times()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert call(program, option) == 0
    told = capsys.readouterr()
    assert "usage:" in told.out
    assert "--help" in told.out
    assert not told.err
    assert not list(tmp_path.iterdir())
    assert files_and_times() == before


@pytest.mark.parametrize("program", PROGRAMS)
def test_an_unknown_option_is_refused_in_one_line(program, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ended = call(program, "--no_such_option", "1")
    told = (capsys.readouterr().err + (ended if isinstance(ended, str) else "")).strip()
    assert ended not in (0, None)
    assert "no_such_option" in told
    assert told.startswith(program.split("/")[1].removesuffix(".py"))
    assert "\n" not in told
    assert not list(tmp_path.iterdir())


def test_an_error_ends_in_one_line_with_the_programs_name(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["scripts/thing.py"])
    with pytest.raises(SystemExit, match=r"^thing: no such data\.$"), ends_in_one_line():
        raise ValueError("no such data.")
    with pytest.raises(SystemExit, match=r"^thing: .*nothing"), ends_in_one_line():
        (tmp_path / "nothing").read_text()
    with pytest.raises(KeyError), ends_in_one_line():
        raise KeyError("a fault of ours keeps its traceback")


def test_options_are_not_abbreviated(capsys):
    parser = LineParser("Does a thing.")
    parser.add_argument("--number", type=int)
    with pytest.raises(SystemExit):
        parser.parse_args(["--num", "1"])
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_an_output_folder_is_made_and_tried(tmp_path):
    assert output_folder("--out", tmp_path / "a" / "b").is_dir()
    assert not list((tmp_path / "a" / "b").iterdir())
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below", "/proc/nothing"):
        with pytest.raises(ValueError, match=r"^--out .*cannot be written to[^\n]*$"):
            output_folder("--out", path)
