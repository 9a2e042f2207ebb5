"""The report of a machine: what is wrong is a line with advice, and it holds no secrets."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from packaging.requirements import Requirement

from scripts import doctor
from scripts.doctor import Line


@pytest.fixture
def reported(monkeypatch, capsys):
    """Runs it on `sections`' stand-ins, without the training; exit code and report."""

    def report(**checks) -> tuple[int, str]:
        names = ("versions", "devices", "extras", "models", "places", "settings", "load")
        for name in names:
            lines = checks.get(name, [])
            monkeypatch.setattr(doctor, name, lambda lines=lines: iter(lines))
        monkeypatch.setattr(sys, "argv", ["doctor.py", "--skip-training"])
        return doctor.main(), capsys.readouterr().out

    return report


def test_what_fails_is_said_and_decides_the_exit_code(reported):
    code, report = reported(versions=[Line("torch", "1.0", "install a newer one", True, True)])
    assert code == 1
    assert "| torch | 1.0 | **FAILS**: install a newer one |" in report
    assert "1 lines FAIL: torch" in report
    code, report = reported(extras=[Line("flash", "nothing", "needs a GPU", False, True)])
    assert code == 0
    assert "FAIL" not in report


def test_the_home_directory_secrets_and_tables_are_spared():
    home = Path.home()
    assert doctor.cell(f"{home}/cache a|b\nc hf_abcdefghijkl") == "~/cache a\\|b c hf_***"
    assert doctor.display_value("HF_TOKEN", "hf_abcdefghijkl") == "set"
    assert doctor.display_value("WANDB_API_KEY", "") == "empty"
    assert (
        doctor.display_value("https_proxy", "http://ann:word@host:3128") == "http://***@host:3128"
    )
    assert doctor.display_value("TOKENIZERS_PARALLELISM", "false") == "false"


def test_settings_that_are_set_are_shown(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_abcdefghijkl")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    lines = {line.what: line.found for line in doctor.settings()}
    assert lines["OMP_NUM_THREADS"] == "3"
    assert lines["HF_TOKEN"] == "set"


def test_a_package_is_there_old_missing_or_broken(monkeypatch, tmp_path):
    broken = tmp_path / "broken_thing"
    broken.mkdir()
    (broken / "__init__.py").write_text("import sys\nsys.exit('its library is not there')")
    info = tmp_path / "broken_thing-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-thing\nVersion: 1.0\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))

    def line(text: str) -> Line:
        return doctor.package(Requirement(text), True)

    assert not line("einops>=0.1").fails
    old, missing, hurt = line("einops>=99"), line("no-such-thing>=1"), line("broken-thing>=1")
    assert all(each.fails and each.lacks and "pip install" in each.advice
               for each in (old, missing, hurt))  # fmt: skip
    assert "needs >=99" in old.advice
    assert missing.found == "not installed"
    assert "its library is not there" in hurt.found


def test_a_project_that_is_not_installed_fails(monkeypatch):
    monkeypatch.setattr(doctor, "PACKAGE", "no-such-project")
    lines = list(doctor.versions())
    assert lines[-1].fails
    assert "pip install" in lines[-1].advice


def test_extras_say_what_they_are_for(monkeypatch):
    monkeypatch.setattr(doctor, "run", lambda *_, **__: (0, "", ""))
    lines = {line.what: line for line in doctor.extras()}
    assert set(lines) == set(doctor.EXTRAS)
    assert "matplotlib" in lines["sim"].found
    assert not any(line.fails for line in lines.values())


def test_programs_that_end_badly_or_hang_are_lines(monkeypatch):
    assert doctor.ask("raise OSError('boom')") == ({}, "OSError: boom")
    assert doctor.ask("print(1); print('{}')") == ({}, "")
    assert doctor.run(["there-is-no-such-program"])[0] == -1
    assert doctor.run([sys.executable, "-c", "while True: pass"], timeout=0.5)[0] == -1
    monkeypatch.setattr(doctor, "run", lambda *_, **__: (1, "", "a\nRuntimeError: no driver"))
    for check in (doctor.devices, doctor.models, doctor.places, doctor.training):
        lines = [line for line in check() if line.fails]
        assert [line.found for line in lines] == ["RuntimeError: no driver"]
        assert lines[0].advice


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    whole = doctor.place("cache of indices", tmp_path / "new" / "index", True)
    assert "not created" in whole.found
    assert not whole.fails
    (tmp_path / "file").write_text("")
    broken = doctor.place("cache of indices", tmp_path / "file" / "index", True)
    assert broken.fails
    assert "HF_HOME" in broken.advice


def test_a_busy_machine_is_told(monkeypatch):
    times = iter([(0, 0), (100, 0)])
    monkeypatch.setattr(doctor, "cpu_times", lambda: next(times))
    monkeypatch.setattr(doctor, "time", SimpleNamespace(sleep=lambda _: None))
    busy = next(doctor.load())
    assert "other programs compute here" in busy.advice
