"""What a first index, a second start and an item cost, beside another checkout of this package.

    git worktree add ../before COMMIT
    python -m benchmarks.first_index --against ../before

Data are written by `scripts/make_dataset.py` into a temporary folder, or `--data`: `vln_ce` for
System2 and the dual system, `vln_n1` for NavDP, `vln_pe` for the followers, as arrays and as image
files. For each family, processes with the one and the other checkout take turns; within each,
everything is done several times, a first index with an empty cache each time. The least processor
time counts. What was read before is in the system's memory: a disk adds what it takes to read it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from internnav_hf.command_line import LineParser

ROOT = Path(__file__).parents[1]
CAMERA = "r2r_125cm_0_30"
WORDS = ["go", "walk", "past", "the", "turn", "left", "right", "stop", "at", "chair", "table"]
WALKS = ["--format", "vln_pe", "--width", "256", "--height", "256"]
DATA = {
    "vln_ce": ["--format", "vln_ce"],
    "vln_n1": ["--format", "vln_n1", "--width", "480", "--height", "270"],
    "vln_pe": WALKS,
    "vln_pe_files": [*WALKS, "--image_files", "true"],
}
FAMILIES = {
    "System2": ("System2Dataset", "vln_ce"),
    "dual system": ("DualSystemDataset", "vln_ce"),
    "NavDP": ("NavDPDataset", "vln_n1"),
    "follower": ("VLNDataset", "vln_pe"),
    "follower, image files": ("VLNDataset", "vln_pe_files"),
}
WHATS = ("first index", "second start", "item")
NUM_ITEMS = 10


def main() -> None:
    """Make data, measure, print a table; with `--child`, measure one family."""
    options = parse_arguments()
    if options.child:
        print(json.dumps(measure(options)))
        return
    against = options.against.resolve() if options.against else None
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(options.data or temporary).resolve()
        for kind in {FAMILIES[family][1] for family in options.families}:
            make(kind, folder, options)
        print(f"{options.scenes} scenes of {options.episodes} episodes; ms of processor time")
        print("| family | what | before | now | ratio |\n|---|---|---|---|---|")
        for family in options.families:
            for what, *costs in compare(family, folder, against, options):
                before, now = (f"{cost:.2f}" if cost else "" for cost in costs)
                ratio = f"{costs[1] / costs[0]:.2f}" if costs[0] else ""
                print(f"| {family} | {what} | {before} | {now} | {ratio} |", flush=True)


def parse_arguments() -> argparse.Namespace:
    """See `--help`."""
    parser = LineParser(__doc__)
    names = list(FAMILIES)
    parser.add_argument("--against", type=Path, help="folder of the other checkout")
    parser.add_argument("--families", nargs="+", choices=names, default=names, help="which")
    parser.add_argument("--scenes", type=int, default=4)
    parser.add_argument("--episodes", type=int, default=5, help="of a scene")
    parser.add_argument("--size", default="640x480", help="of vln_ce's images, px")
    parser.add_argument("--rounds", type=int, default=3, help="processes of each checkout")
    parser.add_argument("--times", type=int, default=5, help="everything is done in a process")
    parser.add_argument("--data", type=Path, help="folder to keep the data in, for other runs")
    parser.add_argument("--child", type=Path, help="measure on the data in this folder")
    return parser.parse_args()


def make(kind: str, folder: Path, options: argparse.Namespace) -> None:
    """One data set, with train scenes only."""
    width, height = options.size.split("x")
    size = [] if "--width" in DATA[kind] else ["--width", width, "--height", height]
    command = [sys.executable, "scripts/make_dataset.py", *DATA[kind], *size]
    command += ["--out", str(folder / kind), "--scenes", str(options.scenes)]
    command += ["--held_out_scenes", "0", "--episodes", str(options.episodes), "--workers", "1"]
    run(command, ROOT)


def compare(
    family: str, folder: Path, against: Path | None, options: argparse.Namespace
) -> list[tuple[str, float | None, float]]:
    """Name, ms of the other checkout, ms of this one."""
    checkouts = [against, ROOT] if against else [ROOT]
    found: dict[Path, list[dict[str, float]]] = {checkout: [] for checkout in checkouts}
    command = [sys.executable, __file__, "--child", str(folder), "--families", family]
    command += ["--times", str(options.times)]
    for number in range(options.rounds):
        for checkout in checkouts if number % 2 else checkouts[::-1]:
            found[checkout].append(json.loads(run(command, checkout).splitlines()[-1]))
    best = {c: {w: min(times[w] for times in found[c]) for w in WHATS} for c in checkouts}
    return [(what, best[against][what] if against else None, best[ROOT][what]) for what in WHATS]


def run(command: list[str], checkout: Path) -> str:
    """What a program of a checkout prints; its errors, if it fails, end this one."""
    surroundings = os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=checkout, env=surroundings, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{checkout}: {' '.join(command)}\n{done.stderr[-4000:]}")
    return done.stdout


def measure(options: argparse.Namespace) -> dict[str, float]:
    """Milliseconds of what `WHATS` says, in this process and its checkout."""
    assert Path(import_module("internnav_hf").__file__).parents[1] == Path.cwd()
    open_dataset = opener(options.families[0], options.child)
    open_dataset(Path(tempfile.mkdtemp(dir=options.child)))  # brings what is imported late
    times: dict[str, list[float]] = {what: [] for what in WHATS}
    for _ in range(options.times):
        with tempfile.TemporaryDirectory(dir=options.child) as cache:
            times["first index"].append(milliseconds(lambda at=cache: open_dataset(Path(at))))
            times["second start"].append(milliseconds(lambda at=cache: open_dataset(Path(at))))
            dataset = open_dataset(Path(cache))
            rows = [number * len(dataset) // NUM_ITEMS for number in range(NUM_ITEMS)]
            cost = milliseconds(lambda dataset=dataset, rows=rows: [dataset[row] for row in rows])
            times["item"].append(cost / NUM_ITEMS)
    return {what: min(costs) for what, costs in times.items()}


def opener(family: str, folder: Path) -> Callable[[Path], Any]:
    """Opens a family's data set with a cache folder."""
    name, kind = FAMILIES[family]
    dataset, arguments = public(name), [folder / kind]
    if kind == "vln_ce":
        arguments += [CAMERA]
    elif name == "VLNDataset":
        processor = public("VLNProcessor")
        tokenizer = sys.modules[processor.__module__].word_tokenizer(WORDS)
        arguments += [processor(tokenizer)]
    return lambda cache: dataset(*arguments, cache_dir=cache)


def public(name: str) -> Any:
    """A name that the package exports, at the top or below `data`."""
    places = (import_module("internnav_hf"), import_module("internnav_hf.data"))
    return next(getattr(place, name) for place in places if hasattr(place, name))


def milliseconds(work: Callable[[], object]) -> float:
    """Of this process's processor time, threads included."""
    start = time.process_time()
    work()
    return 1000 * (time.process_time() - start)


if __name__ == "__main__":
    main()
