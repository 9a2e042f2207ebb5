"""Say whether the NavDP demo's model has learnt its tasks, and exit with 1 if it has not.

    python scripts/check_navdp_demo.py outputs/demo-navdp/metrics.json \\
        outputs/demo-navdp/model/eval_results.json

Learnt means, in rooms it never saw: its trajectories to a point are on average at most 60% as far
from the expert's as the best constant answer, its critic puts trajectories in an order that agrees
with the obstacles' (rank correlation at least 0.1), and it reaches points at least three times as
often as a random driver.
"""

import json
import sys
from pathlib import Path

LARGEST_DISTANCE_SHARE = 0.6
LEAST_CORRELATION = 0.1
LEAST_SUCCESS_FACTOR = 3.0


def main(metrics_file: str, evaluation_file: str) -> bool:
    """Print the three comparisons; whether all hold."""
    tasks = json.loads(Path(metrics_file).read_text(encoding="utf-8"))["tasks"]
    paths = json.loads(Path(evaluation_file).read_text(encoding="utf-8"))
    distance, constant = paths["eval_point_mean_ade_m"], paths["eval_constant_ade_m"]
    correlation = paths["eval_critic_rank_correlation"]
    success, chance = (tasks["point-goal"][name]["sr"] for name in ("navdp", "random"))
    print(
        f"Distance to the expert's way to a point: {distance:.2f} m, {distance / constant:.0%} of "
        f"the best constant answer's ({constant:.2f} m); {LARGEST_DISTANCE_SHARE:.0%} is learnt."
    )
    print(f"Rank correlation of the critic: {correlation:.2f}; {LEAST_CORRELATION} is learnt.")
    print(f"Success at point goals: {success:.1%}, random driver {chance:.1%}.")
    return (
        distance <= LARGEST_DISTANCE_SHARE * constant
        and correlation >= LEAST_CORRELATION
        and success >= LEAST_SUCCESS_FACTOR * max(chance, 0.01)
    )


if __name__ == "__main__":
    sys.exit(0 if main(*sys.argv[1:3]) else "The NavDP demo's model has not learnt enough.")
