"""Say whether the dual demo's model has learnt to walk, and exit with 1 if it has not.

    python scripts/check_dual_demo.py outputs/demo-dual/metrics.json

Learnt means, on rooms it never saw: its mean path is at most 70% as far from the expert's way as
the best constant answer, its sampled paths hit less than that one, and it reaches the goal at least
three times as often as a random walker.
"""

import sys

from internnav_hf.command_line import LineParser, ends_in_one_line
from internnav_hf.evaluation.verdict import read_numbers

LARGEST_DISTANCE_SHARE = 0.7
LEAST_SUCCESS_FACTOR = 3.0


NUMBERS = (
    "dual_open_loop.ade_m",
    "dual_open_loop.constant_ade_m",
    "dual_open_loop.collision_share",
    "dual_open_loop.constant_collision_share",
    "agents.dual.sr",
    "agents.random.sr",
)


def main(metrics: str) -> bool:
    """Print the three comparisons; whether all hold."""
    found = read_numbers(metrics, *NUMBERS)
    distance, constant, hits, constant_hits, success, chance = found
    share = distance / max(constant, 1e-9)
    print(
        f"Distance to the expert's way: {distance:.2f} m, {share:.0%} of the best "
        f"constant answer's ({constant:.2f} m); {LARGEST_DISTANCE_SHARE:.0%} is learnt."
    )
    print(f"Sampled paths that hit something: {hits:.1%}, the constant one {constant_hits:.1%}.")
    print(f"Success: {success:.1%}, random walker {chance:.1%}.")
    return (
        share <= LARGEST_DISTANCE_SHARE
        and hits < constant_hits
        and success >= LEAST_SUCCESS_FACTOR * max(chance, 0.01)
    )


if __name__ == "__main__":
    parser = LineParser(__doc__)
    parser.add_argument("metrics", help="metrics.json of the demo's evaluation")
    with ends_in_one_line():
        learnt = main(**vars(parser.parse_args()))
    sys.exit(0 if learnt else "The dual demo's model has not learnt enough.")
