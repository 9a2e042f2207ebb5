"""The time of a training step of each demo on a machine that also does other work.

    python -m benchmarks.busy
    python -m benchmarks.busy --demos demo --busy 0 4 --budget 30

OpenMP's threads wait actively for each other: one that has lost its core keeps the others spinning.
Each demo is trained on a part of its data with its own settings, in one process for each waiting
policy, while other processes compute in parallel. Other programs affect the result: measure on an
idle machine.
"""

import argparse
import json
import os
import runpy
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from internnav_hf.command_line import LineParser

ROOT = Path(__file__).parents[1]
POLICIES = {
    "two threads": {"OMP_NUM_THREADS": "2"},
    "GOMP_SPINCOUNT=1000": {"OMP_NUM_THREADS": "2", "GOMP_SPINCOUNT": "1000"},
    "OMP_WAIT_POLICY=PASSIVE": {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
SMALL = "--seed 0 --scenes 6 --held-out-scenes 1 --episodes 6 --width 128 --height 96 --pitch 30"
ROOMS = "--num-rooms 1 1 --num-objects 3 6 --instructions 1"
DATA = {
    "vln_ce": f"{SMALL} {ROOMS} --depth false --landmarks true",
    "vln_pe": f"{SMALL} {ROOMS} --image_files true",
    "vln_n1": f"{SMALL} --density medium --distance 4 20",
}
VLN = "--data_root DATA/vln_pe --scans simulated_train --cache_dir DATA/cache"
DEMOS = {
    "demo": ("train_system2", "demo_system2", "--vlm DATA/vlm --data_root DATA/vln_ce"),
    "demo-dual": ("train_dual_system", "demo_dual", "--system2 DATA/demo --data_root DATA/vln_ce"),
    "demo-navdp": ("train_navdp", "demo_navdp", "--data_root DATA/vln_n1"),
    "demo-vln-cma": ("train_vln", "demo_vln_cma", VLN),
    "demo-vln-rdp": ("train_vln", "demo_vln_rdp", VLN),
    "demo-vln-seq2seq": (
        "train_vln",
        "demo_vln_seq2seq",
        f"{VLN} --rgb_encoder DATA/demo-vln-cma --depth_encoder DATA/demo-vln-cma",
    ),
}
NEEDS = {"demo-dual": "demo", "demo-vln-seq2seq": "demo-vln-cma"}
NUM_FIRST_STEPS = 5  # not measured
BUSY = "import os; parent = os.getppid()\nwhile os.getppid() == parent: pass"


def main() -> None:
    """Generate the data, measure, and print a table for each demo."""
    options = parse_arguments()
    if options.child:
        print(json.dumps(measure(options)))
        return
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder), options.demos)
        for demo in options.demos:
            heads = [f"{number} busy" for number in options.busy]
            print(f"\n| {demo}, ms per step | {' | '.join(heads)} |\n|---|{'---|' * len(heads)}")
            for policy, settings in POLICIES.items():
                times = run_child(demo, Path(folder), settings, options)
                print(f"| {policy} | {' | '.join(f'{1000 * t:.0f}' for t in times)} |", flush=True)


def parse_arguments() -> argparse.Namespace:
    """See `--help`."""
    parser = LineParser(__doc__)
    names = list(DEMOS)
    parser.add_argument("--demos", nargs="+", choices=names, default=names, help="demos to measure")
    parser.add_argument(
        "--busy", type=int, nargs="+", default=[0, 1, 4], help="numbers of busy processes"
    )
    parser.add_argument("--steps", type=int, default=20, help="most steps to measure")
    parser.add_argument("--budget", type=float, default=8, help="most seconds to measure")
    parser.add_argument("--child", type=Path, help="measure one demo on the data in this folder")
    return parser.parse_args()


def prepare(folder: Path, demos: list[str]) -> None:
    """Make the data, the tiny base model, and the models that other demos start from."""
    for kind in {word for demo in demos for word in DATA if word in DEMOS[demo][2]}:
        make = ["scripts/make_dataset.py", "--format", kind, "--out", str(folder / kind)]
        call([*make, *DATA[kind].split()])
    if (folder / "vln_ce").is_dir():
        root = ["--data_root", str(folder / "vln_ce")]
        call(["scripts/make_tiny_vlm.py", "--out", str(folder / "vlm"), *root])
    for demo in {NEEDS[demo] for demo in demos if demo in NEEDS}:
        call(recipe_command(demo, folder, folder / demo, max_steps=2))


def recipe_command(demo: str, folder: Path, output: str | Path, **rest: object) -> list[str]:
    """The demo's training on the small data, without evaluation."""
    recipe, file, own = DEMOS[demo]
    options = {"output_dir": output, "eval_strategy": "no", "report_to": "none", **rest}
    own = own.replace("DATA", str(folder)).split()
    own += [f"--{name}={value}" for name, value in options.items()]
    return [f"recipes/{recipe}.py", f"recipes/{file}.yaml", *own]


def run_child(
    demo: str, folder: Path, settings: dict[str, str], options: argparse.Namespace
) -> list[float]:
    """Seconds per step for each number of busy processes."""
    numbers = [str(number) for number in options.busy]
    command = ["-m", "benchmarks.busy", "--child", str(folder), "--demos", demo, "--busy", *numbers]
    command += [f"--{name}={getattr(options, name)}" for name in ("steps", "budget")]
    return json.loads(call(command, settings).splitlines()[-1])


def call(arguments: list[str], settings: dict[str, str] | None = None) -> str:
    """The output of a Python program; if it fails, this program ends with its errors."""
    names = ("OMP_NUM_THREADS", "GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    surroundings = {name: value for name, value in os.environ.items() if name not in names}
    surroundings |= {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT), **(settings or {})}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=ROOT, env=surroundings, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr[-4000:]}")
    return done.stdout


def measure(options: argparse.Namespace) -> list[float]:
    """Train the demo in this process; seconds per step for each number of busy processes."""
    from transformers import TrainerCallback, trainer

    clock = StepClock(options)

    class Watch(TrainerCallback):
        """Ends the training when everything has been measured."""

        def on_step_end(self, args, state, control, **kwargs):
            control.should_training_stop = clock.step_ends()

    trainer.DEFAULT_CALLBACKS.append(Watch)
    output = tempfile.mkdtemp(dir=options.child)
    sys.argv = recipe_command(options.demos[0], options.child, output, save_strategy="no")
    runpy.run_path(sys.argv[0], run_name="__main__")
    return clock.means


class StepClock:
    """Measures steps: first some alone, which are not counted; then, for each number, steps with
    that many busy processes. The step in which they start is not counted.
    """

    def __init__(self, options: argparse.Namespace):
        self.options = options
        self.means: list[float] = []
        self.times: list[float] = []
        self.num_unmeasured = NUM_FIRST_STEPS
        self.others: list[subprocess.Popen] = []
        self.start = 0.0

    def step_ends(self) -> bool:
        """True if this was the last step to measure."""
        now = time.perf_counter()
        if self.num_unmeasured:
            self.num_unmeasured -= 1
            if not (self.num_unmeasured or self.means):
                self.meet(self.options.busy[0])
        else:
            self.times.append(now - self.start)
            if len(self.times) == self.options.steps or sum(self.times) > self.options.budget:
                self.phase_ends()
        self.start = time.perf_counter()
        return len(self.means) == len(self.options.busy)

    def phase_ends(self) -> None:
        """Note the mean, and continue with the next number of processes."""
        self.means.append(sum(self.times) / len(self.times))
        self.times, self.num_unmeasured = [], 1
        numbers = self.options.busy[len(self.means) :]
        self.meet(numbers[0] if numbers else 0)

    def meet(self, number: int) -> None:
        """Replace the busy processes by `number` new ones."""
        for process in self.others:
            process.kill()
            process.wait()
        self.others = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(number)]


if __name__ == "__main__":
    main()
