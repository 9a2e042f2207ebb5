"""Drive a System1 through rooms it has never seen, beside simple baselines and the oracle.

python scripts/evaluate.py --task point-goal image-goal --model outputs/demo-navdp/model
"""

import argparse
from dataclasses import dataclass, field

VLN = "vln"
TASKS = ("point-goal", "image-goal", "pixel-goal", "no-goal")


@dataclass
class System1Arguments:
    """What to evaluate, where, how."""

    task: list[str] = field(
        default_factory=lambda: list(TASKS),
        metadata={"help": f"Of {', '.join(TASKS)}; several go in one table."},
    )

    def __post_init__(self) -> None:
        unknown = sorted(set(self.task) - set(TASKS))
        if VLN in unknown:
            raise ValueError(f"--task: {VLN} is measured by itself, without {', '.join(TASKS)}.")
        if unknown or not self.task:
            raise ValueError(
                f"--task: found {' '.join(unknown) or 'nothing'}, expected {VLN}, or some of "
                f"{', '.join(TASKS)}."
            )


def asked_tasks(options: list[str]) -> list[str]:
    """What --task says among the options of scripts/evaluate.py; it decides which others exist."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--task", nargs="*", default=[VLN])
    return parser.parse_known_args(options)[0].task


def main(args: System1Arguments) -> None:
    """Drive, measure, report."""
