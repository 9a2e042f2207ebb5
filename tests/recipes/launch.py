"""Recipes as users start them."""

import json
import os
import sys
from pathlib import Path

from tests.processes import run as run_program

ROOT = Path(__file__).parents[2]


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


def launch(arguments: list[str], *launcher: str, script="recipes/train_dual_system.py"):
    """Run a script as a user does."""
    command = [sys.executable, *launcher, script, *arguments]
    return run_program(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})


def log_history(output_dir: Path) -> list[dict]:
    return json.loads((output_dir / "trainer_state.json").read_text())["log_history"]


def history(output_dir: Path, key: str) -> list[float]:
    return [entry[key] for entry in log_history(output_dir) if key in entry]
