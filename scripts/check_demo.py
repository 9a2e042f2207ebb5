"""Say whether the demo's model has learnt, and exit with 1 if it has not.

    python scripts/check_demo.py outputs/demo/metrics.json

Learnt means, on rooms it never saw: the pixel error is at most half that of the best constant
answer, and it reaches the goal at least three times as often as a random walker.
"""

import sys

from internnav_hf.command_line import LineParser, ends_in_one_line
from internnav_hf.evaluation.verdict import read_numbers

LARGEST_ERROR_SHARE = 0.5
LEAST_SUCCESS_FACTOR = 3.0


NUMBERS = (
    "open_loop.pixel_error_px",
    "open_loop.pixel_error_constant_px",
    "agents.system2.sr",
    "agents.random.sr",
)


def main(metrics: str) -> bool:
    """Print both comparisons; whether both hold."""
    error, constant, success, chance = read_numbers(metrics, *NUMBERS)
    share = error / max(constant, 1e-9)
    print(
        f"Pixel error: {error:.1f} px, {share:.0%} of the best constant answer's "
        f"({constant:.1f} px); at most {LARGEST_ERROR_SHARE:.0%} is learnt."
    )
    print(f"Success: {success:.1%}, random walker {chance:.1%}.")
    return share <= LARGEST_ERROR_SHARE and success >= LEAST_SUCCESS_FACTOR * max(chance, 0.01)


if __name__ == "__main__":
    parser = LineParser(__doc__)
    parser.add_argument("metrics", help="metrics.json of the demo's evaluation")
    with ends_in_one_line():
        learnt = main(**vars(parser.parse_args()))
    sys.exit(0 if learnt else "The demo's model has not learnt enough.")
