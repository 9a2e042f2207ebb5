"""The demos' steps: what failed or was stopped does not count as done."""

import os
import signal
import time
from pathlib import Path

import pytest

from tests.processes import run, started
from tests.test_repository import ROOT

PROGRAM = """#!/bin/sh
echo "$GOMP_SPINCOUNT" > "{folder}/spincount"
mkdir -p "{folder}/demo/model"
{rest}
"""


@pytest.fixture
def demo(tmp_path):
    """The command that makes the demo's model, on programs that `accelerate` stands for."""
    binaries = tmp_path / "bin"
    binaries.mkdir()
    for name in ("data", "vlm"):
        (tmp_path / "demo" / name).mkdir(parents=True)
        (tmp_path / "demo" / name / ".complete").touch()
    (tmp_path / "env").touch()

    def command(rest: str) -> list[str]:
        program = binaries / "accelerate"
        program.write_text(PROGRAM.format(folder=tmp_path, rest=rest))
        program.chmod(0o755)
        places = {"BIN": binaries, "ENV": tmp_path / "env", "DEMO": tmp_path / "demo"}
        target = tmp_path / "demo" / "model" / ".complete"
        return ["make", "-C", str(ROOT), *(f"{k}={v}" for k, v in places.items()), str(target)]

    return command


def test_a_training_that_fails_is_not_complete_and_one_that_ends_is(demo, tmp_path):
    mark = tmp_path / "demo" / "model" / ".complete"
    assert run(demo("exit 143")).returncode != 0
    assert not mark.exists()
    assert run(demo("exit 0")).returncode == 0
    assert mark.exists()
    assert (tmp_path / "spincount").read_text() == "1000\n"


def test_a_training_that_is_interrupted_is_not_complete(demo, tmp_path):
    command = demo("sleep 60")
    with started(command, start_new_session=True) as process:
        end = time.monotonic() + 30
        while not Path(tmp_path / "spincount").exists() and time.monotonic() < end:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(30) != 0
    assert not (tmp_path / "demo" / "model" / ".complete").exists()


def test_whoever_starts_it_may_choose_how_threads_wait(demo, tmp_path):
    assert run([*demo("exit 0"), "GOMP_SPINCOUNT=7"]).returncode == 0
    assert (tmp_path / "spincount").read_text() == "7\n"


def test_bench_starts_programs_and_no_campaign():
    told = run(["make", "-C", str(ROOT), "-n", "bench", "ENV="]).stdout
    loop = told[told.index("for file") :].replace(".venv/bin/python -m", "echo started")
    names = {
        line.removeprefix("started benchmarks.")
        for line in run(["sh", "-c", loop], cwd=ROOT).stdout.splitlines()
        if line.startswith("started ")
    }
    programs = {path.stem for path in Path(ROOT, "benchmarks").glob("*.py")}
    assert programs - names == {"kills", "fuzz_data", "test_time"}


def test_a_demo_has_two_names_and_an_unknown_one_is_refused():
    nothing = ["ENV=/dev/null", "BIN=nowhere"]  # make -n starts what stands beside $(MAKE)
    for what in ("dual", "navdp", "vln", "system1"):
        by_name, by_what = (
            run(["make", "-C", str(ROOT), "-n", *words, *nothing]).stdout
            for words in ([f"demo-{what}"], ["demo", f"WHAT={what}"])
        )
        assert by_name == by_what
        assert f"demo_{what}_learnt.yaml outputs/demo-{what}" in by_name
        assert "scripts/evaluate.py" in by_name  # the steps, too
    done = run(["make", "-C", str(ROOT), "-n", "demo", "WHAT=walk", *nothing])
    assert done.returncode != 0
    assert "WHAT: found walk, expected system2, dual, navdp, vln or system1" in done.stderr
