"""Kills trainings at random moments, resumes them, and compares them with uninterrupted ones.

    OMP_NUM_THREADS=1 python -m benchmarks.kills                   # 50 kills over all recipes
    OMP_NUM_THREADS=1 python -m benchmarks.kills --kills 3 --recipes navdp

Small models on the simulator's data. Every second kill (SIGKILL, to the training and its workers)
waits until a checkpoint is being written, the others for a random time. A training run is killed
one to four times, then it may finish. It is exact if every number in its log except times and
speeds, the final weights, and the optimiser of its last checkpoint equal the uninterrupted run's,
bit for bit. Ends with an error if one is not exact.
"""

import json
import multiprocessing
import os
import runpy
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from internnav_hf.command_line import LineParser
from internnav_hf.signals import end_with_parent

ROOT = Path(__file__).parents[1]
SMALL = ["--scenes", "3", "--held-out-scenes", "1", "--width", "64", "--height", "48"]
SMALL += ["--pitch", "30", "--look-down-pitch", "30", "--workers", "1", "--seed", "0"]
UNTIMED = ("runtime", "per_second", "data_wait_share", "total_flos")
EVERY = {
    "logging_steps": 3,
    "save_strategy": "steps",
    "save_steps": 4,
    "save_total_limit": 2,
    "eval_strategy": "steps",
    "eval_steps": 6,
    "num_eval_samples": 4,
    "warmup_steps": 4,
    "disable_tqdm": True,
    "report_to": "none",
    "dataloader_num_workers": 1,
}
PATIENCE_S = 300


def recipes(inputs: Path) -> dict[str, list[str]]:
    """Name -> script, file and options, without an output folder."""
    ce, cache = inputs / "vln_ce", {"cache_dir": inputs / "cache"}
    dialogues = {"data_root": ce, **cache, "augment": True, "max_steps": 14}
    system2 = {**dialogues, "vlm": inputs / "vlm", "per_device_train_batch_size": 2}
    by_name = {
        "system2": ("system2", "demo_system2", {**system2, "gradient_accumulation_steps": 2}),
        "system2, LoRA": ("system2", "demo_system2", {**system2, "lora_rank": 2}),
        "dual": (
            "dual_system",
            "demo_dual",
            {
                **dialogues,
                "system2": inputs / "system2",
                "num_trajectories": 2,
                "per_device_train_batch_size": 2,
            },
        ),
        "navdp": (
            "navdp",
            "demo_navdp",
            {
                "data_root": inputs / "vln_n1",
                **cache,
                "num_trajectories": 2,
                "max_steps": 14,
                "per_device_train_batch_size": 4,
            },
        ),
    }
    for model in ("seq2seq", "cma", "rdp"):
        options = {
            "data_root": inputs / "vln_pe",
            **cache,
            "depth_encoder": "random",
            "rgb_encoder": "random",
            "max_steps": 14,
            "per_device_train_batch_size": 2,
        }
        by_name[model] = ("vln", f"demo_vln_{model}", options)
    return {
        name: [
            f"recipes/train_{recipe}.py",
            f"recipes/{demo}.yaml",
            *(f"--{key}={value}" for key, value in (EVERY | options).items()),
        ]
        for name, (recipe, demo, options) in by_name.items()
    }


def make_inputs(folder: Path, names: list[str]) -> None:
    """Data of the three layouts, a tiny VLM and a System2 of it."""
    kinds = {"vln_pe": {"seq2seq", "cma", "rdp"}, "vln_n1": {"navdp"}}
    kinds["vln_ce"] = {"system2", "system2, LoRA", "dual"}
    for kind, needed_by in kinds.items():
        if needed_by & set(names):
            more = ["--landmarks", "true"] if kind == "vln_ce" else []
            what = ["--format", kind, "--out", folder / kind, "--episodes", "3"]
            make(folder, "scripts/make_dataset.py", *what, *SMALL, *more)
    if kinds["vln_ce"] & set(names):
        size = ["--hidden-size", "64", "--num-hidden-layers", "2", "--vision-hidden-size", "48"]
        places = ["--out", folder / "vlm", "--data-root", folder / "vln_ce"]
        make(folder, "scripts/make_tiny_vlm.py", *places, *size)
    if "dual" in names:
        finish_training([*recipes(folder)["system2"], "--max_steps=1"], folder / "system2")


def make(folder: Path, *command) -> None:
    """Run a script to its end."""
    log = folder / "make.log"
    finish(start([*map(str, command)], log), log)


def environment() -> dict[str, str]:
    """The environment of the programs."""
    return os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def play(command: list[str], log: Path) -> None:
    """Run a script as the command line does; called in its own process."""
    end_with_parent()
    os.setsid()
    multiprocessing.set_start_method(None, force=True)  # workers start as in a program of its own
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.chdir(ROOT)
    sys.argv = command
    runpy.run_path(command[0], run_name="__main__")


def start(command: list[str], log: Path) -> Any:
    """Forked from a process that has imported everything: a start takes a second."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["internnav_hf.training.trainer", "internnav_hf.training.dagger_rounds"]
    )
    process: multiprocessing.Process = context.Process(target=play, args=(command, log))  # type: ignore[assignment]
    process.start()
    return process


def start_training(command: list[str], out: Path) -> Any:
    """From the last checkpoint in `out`, if there is one."""
    there = [f"--output_dir={out}", "--resume_from_checkpoint=auto"]
    return start([*command, *there], Path(f"{out}.log"))


def kill(process: Any, out: Path, rng, saving: bool, seconds: float) -> str:
    """What the killed run was doing: "saving", "else", or "ended" if it ended before."""
    deadline = time.monotonic() + (PATIENCE_S if saving else rng.uniform(0.1, 1.0) * seconds)
    skip = int(rng.integers(0, 3)) if saving else -1  # how many saves are let pass
    seen: set[str] = set()
    while process.is_alive() and time.monotonic() < deadline:
        writing = {path.name for path in out.glob(".saving*")}
        if saving and writing - seen:
            if skip == 0:
                time.sleep(rng.uniform(0, 0.02))
                break
            skip, seen = skip - 1, seen | writing
        time.sleep(0.001)
    ended = not process.is_alive()
    process.kill()
    process.join()
    if ended:
        return "ended"
    # what was being written is still there, also an old checkpoint that was being removed
    return "saving" if any(out.glob(".*.partial")) else "else"


def finish(process: Any, log: Path) -> None:
    """Wait for the end; exits with the log if the process failed."""
    process.join(PATIENCE_S)
    if process.exitcode != 0:
        process.kill()
        sys.exit(f"{log} ended with {process.exitcode}:\n{log.read_text()[-4000:]}")


def finish_training(command: list[str], out: Path) -> float:
    """Seconds until the run ended."""
    begun = time.monotonic()
    finish(start_training(command, out), Path(f"{out}.log"))
    return time.monotonic() - begun


def differences(out: Path, reference: Path) -> list[str]:
    """The differences between two runs, compared bit for bit."""
    changes = []
    if log_of(out) != log_of(reference):
        rows = [ours for ours in log_of(out) if ours not in log_of(reference)]
        changes.append(f"log: {rows[:2] or 'rows are missing'}")
    names = [str(path.relative_to(reference)) for path in reference.glob("*.safetensors")]
    if not all(same(load_file(out / name), load_file(reference / name)) for name in names):
        changes.append("weights")
    last = max(reference.glob("checkpoint-*"), key=lambda folder: int(folder.name.split("-")[1]))
    states = [
        torch.load(f / last.name / "optimizer.pt", weights_only=True) for f in (out, reference)
    ]
    if not same(*states):
        changes.append("optimiser")
    return changes


def log_of(folder: Path) -> list[dict]:
    """The log without times and speeds."""
    history = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    return [
        {key: value for key, value in row.items() if not any(word in key for word in UNTIMED)}
        for row in history
    ]


def same(ours, theirs) -> bool:
    """True if two nested dictionaries or lists are equal bit for bit."""
    if isinstance(ours, torch.Tensor):
        return isinstance(theirs, torch.Tensor) and torch.equal(ours, theirs)
    if isinstance(ours, dict):
        return ours.keys() == theirs.keys() and all(same(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, list):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    return ours == theirs


def campaign(
    folder: Path, names: list[str], num_kills: int, seed: int, minutes: float
) -> dict[str, Counter]:
    """Counts by recipe; `num_kills` kills are distributed in turn, as long as time permits."""
    end = time.monotonic() + 60 * minutes
    (folder / "inputs").mkdir()
    make_inputs(folder / "inputs", names)
    commands = {name: recipes(folder / "inputs")[name] for name in names}
    counts = {name: Counter() for name in names}
    seconds = {
        n: finish_training(command, folder / f"reference {n}") for n, command in commands.items()
    }
    rng, kills, number = np.random.default_rng(seed), 0, 0
    while kills < num_kills and time.monotonic() < end:
        name = names[number % len(names)]
        out, number = folder / f"run {number}", number + 1
        for _ in range(min(int(rng.integers(1, 5)), num_kills - kills)):
            process = start_training(commands[name], out)
            doing = kill(process, out, rng, kills % 2 == 0, seconds[name])
            counts[name][doing] += 1
            kills += doing != "ended"
        finish_training(commands[name], out)
        changes = differences(out, folder / f"reference {name}")
        counts[name]["runs"] += 1
        counts[name]["exact"] += not changes
        print(f"{out.name}: {name}, {'exact' if not changes else '; '.join(changes)}", flush=True)
    return counts


def main() -> None:
    """Run the kills and print a table."""
    parser = LineParser(__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=120, help="no run starts later than this")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--recipes", nargs="+", default=list(recipes(Path())))
    options = parser.parse_args()
    os.environ.update(environment())
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        limits = (options.recipes, options.kills, options.seed, options.minutes)
        counts = campaign(Path(folder), *limits)
    print("\n| recipe | kills | of them in a save | trainings | exact |\n|---|---|---|---|---|")
    total = sum(counts.values(), Counter())
    for name, count in (*counts.items(), ("all", total)):
        kills = count["saving"] + count["else"]
        print(f"| {name} | {kills} | {count['saving']} | {count['runs']} | {count['exact']} |")
    print(f"\n{(time.monotonic() - begun) / 60:.0f} minutes")
    if total["exact"] < total["runs"]:
        sys.exit("Not every training was exact.")


if __name__ == "__main__":
    main()
