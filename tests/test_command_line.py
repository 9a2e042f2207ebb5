"""Every program of ours: `--help` only helps, and what it cannot do is one line."""

import runpy
import sys
import warnings
from pathlib import Path

import pytest

from internnav_hf.command_line import LineParser, ends_in_one_line, output_folder
from tests.test_repository import ROOT, tracked

PROGRAMS = [
    str(path.relative_to(ROOT))
    for pattern in ("scripts/*.py", "recipes/*.py", "benchmarks/*.py")
    for path in tracked(pattern)
    if "__main__" in path.read_text()
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


def test_a_misspelt_option_names_the_nearest(capsys):
    parser = LineParser("Does a thing.")
    parser.add_argument("--verify-images", action="store_true")
    for word in ("--verify_images", "--verify_images=1"):
        with pytest.raises(SystemExit):
            parser.parse_args([word])
        assert "did you mean --verify-images? (" in capsys.readouterr().err


def test_an_output_folder_is_tried_and_not_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path, tmp_path / "a" / "b", "a/b", "."):
        assert output_folder("--out", path) == Path(path)
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below", "/proc/nothing"):
        with pytest.raises(ValueError, match=r"^--out .*cannot be written to[^\n]*$"):
            output_folder("--out", path)


ODD = {
    "scripts/check_dataset.py": ["DATA --depth-scale nan", "DATA --depth-unit-m 0"],
    "scripts/preview_dataset.py": ["nothing", "FILE", "DATA --num-samples 0", "DATA --seed -1"],
    "scripts/convert_vlnce.py": [
        "--data_dir nothing --out out",
        "--data_dir DATA --out FILE",
        "--data_dir DATA --out out --num_threads 0",
    ],
    "scripts/make_dataset.py": [
        "",
        "--out FILE",
        "--out FILE/below",
        *(
            f"--out out --scenes 1 --episodes 1 {rest}"
            for rest in (
                "--width 100000000",
                "--height 0",
                "--hfov nan",
                "--camera_height 125",
                "--num_rooms 1 1000000",
                "--num_rooms 3 1",
                "--grid_resolution 0",
                "--grid_resolution 1e-9 --workers 1",
                "--scene FILE",
                "--scene DATA",
                "--seed -1",
                "--workers many",
                "--format vln_n1 --frame_spacing nan",
                "--format vln_n1 --heading_noise -5",
            )
        ),
    ],
    "scripts/make_tiny_vlm.py": [
        "--out out --data_root nothing",
        "--out FILE --data_root DATA",
        *(
            f"--out out --data_root DATA {rest}"
            for rest in (
                "--hidden_size 100",
                "--vocab_size 1",
                "--patch_size 0",
                "--seed -1",
            )
        ),
    ],
    "scripts/evaluate.py": [
        "--out FILE",
        "--model nothing/at/all",
        "--model FILE",
        "--model DATA",
        "--vln_models DATA",
        "--scene FILE",
        "--trainer_state DATA",
        "--success_distance 0",
        "--min_distance nan",
        "--camera_hfov_deg 180",
        "--num_rooms 1 1000000",
        "--num_parallel 0",
        "--data_root DATA",
        "--task point-goal --out FILE",
        "--task point-goal --model FILE",
        "--task point-goal --time_limit nan",
        "--task point-goal --num_inference_steps 0",
        "--task point-goal --camera_width 100000000",
        "--task anything",
    ],
    "scripts/check_demo.py": [
        "",
        "FILE",
        "nothing DATA",
        "DATA DATA",
        "FILE DATA",
        "FILE DATA DATA",
    ],
}


@pytest.mark.parametrize(
    ("program", "options"), [(name, options) for name, each in ODD.items() for options in each]
)
def test_odd_arguments_are_one_line_before_work_starts(
    program, options, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "data").mkdir()
    ended = call(program, *options.replace("FILE", "file").replace("DATA", "data").split())
    told = ended if isinstance(ended, str) else capsys.readouterr().err
    assert ended not in (0, None)
    assert told.startswith(f"{Path(program).stem}: ")
    assert len(told.strip().splitlines()) == 1
    made = {path.name for path in tmp_path.rglob("*")} - {"file", "data", "make_dataset.json"}
    assert made <= {"out", "r2r", "r2r_val_unseen"}
