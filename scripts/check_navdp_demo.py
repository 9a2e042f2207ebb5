"""Say whether the NavDP demo's model has learnt its tasks, and exit with 1 if it has not.

    python scripts/check_navdp_demo.py outputs/demo-navdp/metrics.json \\
        outputs/demo-navdp/model/eval_results.json

Learnt means, in rooms it never saw: its trajectories to a point are on average at most 60% as far
from the expert's as the best constant answer, its critic puts trajectories in an order that agrees
with the obstacles' (rank correlation at least 0.1), and it reaches points at least three times as
often as a random driver.
"""

import sys

from internnav_hf.command_line import LineParser, ends_in_one_line
from internnav_hf.evaluation.verdict import read_numbers

LARGEST_DISTANCE_SHARE = 0.6
LEAST_CORRELATION = 0.1
LEAST_SUCCESS_FACTOR = 3.0


RATES = ("tasks.point-goal.navdp.sr", "tasks.point-goal.random.sr")
PATHS = ("eval_point_mean_ade_m", "eval_constant_ade_m", "eval_critic_rank_correlation")


def main(metrics: str, evaluation: str) -> bool:
    """Print the three comparisons; whether all hold."""
    success, chance = read_numbers(metrics, *RATES)
    distance, constant, correlation = read_numbers(evaluation, *PATHS)
    share = distance / max(constant, 1e-9)
    print(
        f"Distance to the expert's way to a point: {distance:.2f} m, {share:.0%} of "
        f"the best constant answer's ({constant:.2f} m); {LARGEST_DISTANCE_SHARE:.0%} is learnt."
    )
    print(f"Rank correlation of the critic: {correlation:.2f}; {LEAST_CORRELATION} is learnt.")
    print(f"Success at point goals: {success:.1%}, random driver {chance:.1%}.")
    return (
        share <= LARGEST_DISTANCE_SHARE
        and correlation >= LEAST_CORRELATION
        and success >= LEAST_SUCCESS_FACTOR * max(chance, 0.01)
    )


if __name__ == "__main__":
    parser = LineParser(__doc__)
    parser.add_argument("metrics", help="metrics.json of the demo's evaluation")
    parser.add_argument("evaluation", help="eval_results.json of its training")
    with ends_in_one_line():
        learnt = main(**vars(parser.parse_args()))
    sys.exit(0 if learnt else "The NavDP demo's model has not learnt enough.")
