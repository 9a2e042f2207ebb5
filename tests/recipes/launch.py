"""Recipes as users start them, and what they leave."""

import json
import os
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from accelerate.commands import launch as launching
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env

from tests.processes import run, run_ranks
from tests.warm import Program

ROOT = Path(__file__).parents[2]
TINY = {
    "use_cpu": True,
    "report_to": "none",
    "disable_tqdm": True,
    "max_steps": 2,
    "per_device_train_batch_size": 4,
    "learning_rate": 1e-3,
    "logging_steps": 1,
    "save_strategy": "steps",
    "save_steps": 2,
    "dataloader_num_workers": 0,
}
"""What every tiny run asks for."""


def command_line(values: dict[str, Any]) -> list[str]:
    """As options; one that is None is left out, a list is spelt out."""
    line = []
    for name, value in values.items():
        if isinstance(value, list):
            line += [f"--{name}", *map(str, value)]
        elif value is not None:
            line.append(f"--{name}={value}")
    return line


def accelerate(config: str, num_processes: int) -> list[str]:
    settings = ["--num_processes", str(num_processes), "--main_process_port", "0"]  # any free one
    return [
        "-m",
        "accelerate.commands.launch",
        "--config_file",
        f"recipes/accelerate/{config}",
        *settings,
    ]


def world_size(output_dir: Path) -> int:
    return json.loads((output_dir / "train_results.json").read_text())["world_size"]


def launch(arguments: list[str], config: str, num_processes: int, script: str) -> None:
    """Run a script as a user does, by `accelerate launch`."""
    command = [sys.executable, *accelerate(config, num_processes), script, *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = run(command, cwd=ROOT, env=environment, start=Program)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


def launch_warm(arguments: list[str], config: str, num_processes: int, script: str) -> None:
    """The same with ranks that start warm, with the environment that the launcher gives them."""
    given = [*accelerate(config, num_processes)[2:], script]
    found: dict[str, str] = {}

    def share_zero(args: Namespace) -> None:
        found.update(prepare_deepspeed_cmd_env(args)[1])

    def share(args: Namespace) -> None:
        found.update(prepare_multi_gpu_env(args))

    with (
        patch.object(launching, "deepspeed_launcher", share_zero),
        patch.object(launching, "multi_gpu_launcher", share),
    ):
        launching.launch_command(launching.launch_command_parser().parse_args(given))
    command, environment = [sys.executable, script, *arguments], found | {"PYTHONPATH": str(ROOT)}
    run_ranks(command, num_processes, environment, cwd=ROOT)


def log_history(output_dir: Path) -> list[dict]:
    return json.loads((output_dir / "trainer_state.json").read_text())["log_history"]


def history(output_dir: Path, key: str) -> list[float]:
    return [entry[key] for entry in log_history(output_dir) if key in entry]


def parameter_groups(output_dir: Path) -> dict[str, set[str]]:
    """Module -> its learning rates, among them "frozen"."""
    groups: dict[str, set[str]] = {}
    for line in (output_dir / "parameter_groups.txt").read_text().splitlines()[1:]:
        module, _, rate, *_ = line.split()
        groups.setdefault(module, set()).add(rate)
    return groups
