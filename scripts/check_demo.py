"""Say whether the model of a demo has learnt, and exit with 1 if it has not.

    python scripts/check_demo.py recipes/demo_system2_learnt.yaml outputs/demo

The file says what learnt means: which numbers of the demo are compared with what, always on rooms
that the model never saw.
"""

import sys

from internnav_hf.command_line import LineParser, ends_in_one_line
from internnav_hf.evaluation.verdict import judge


def main(limits: str, folder: str) -> bool:
    """Print each comparison; whether all hold."""
    found = judge(limits, folder)
    for holds, line in found:
        print(line if holds else f"NOT LEARNT  {line}")
    return all(holds for holds, _ in found)


if __name__ == "__main__":
    parser = LineParser(__doc__)
    parser.add_argument("limits", help="YAML file with the comparisons: recipes/demo_*_learnt.yaml")
    parser.add_argument("folder", help="what the demo wrote: outputs/demo, ...")
    with ends_in_one_line():
        learnt = main(**vars(parser.parse_args()))
    sys.exit(0 if learnt else "The demo's model has not learnt enough.")
