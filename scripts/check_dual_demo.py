"""Say whether the dual demo's model has learnt to walk, and exit with 1 if it has not.

    python scripts/check_dual_demo.py outputs/demo-dual/metrics.json

Learnt means, on rooms it never saw: its mean path is at most 70% as far from the expert's way as
the best constant answer, its sampled paths hit less than that one, and it reaches the goal at least
three times as often as a random walker.
"""

import json
import sys
from pathlib import Path

LARGEST_DISTANCE_SHARE = 0.7
LEAST_SUCCESS_FACTOR = 3.0


def main(path: str) -> bool:
    """Print the three comparisons; whether all hold."""
    metrics = json.loads(Path(path).read_text(encoding="utf-8"))
    paths, agents = metrics["dual_open_loop"], metrics["agents"]
    share = paths["ade_m"] / paths["constant_ade_m"]
    hits, constant_hits = paths["collision_share"], paths["constant_collision_share"]
    success, chance = agents["dual"]["sr"], agents["random"]["sr"]
    print(
        f"Distance to the expert's way: {paths['ade_m']:.2f} m, {share:.0%} of the best constant "
        f"answer's ({paths['constant_ade_m']:.2f} m); {LARGEST_DISTANCE_SHARE:.0%} is learnt."
    )
    print(f"Sampled paths that hit something: {hits:.1%}, the constant one {constant_hits:.1%}.")
    print(f"Success: {success:.1%}, random walker {chance:.1%}.")
    return (
        share <= LARGEST_DISTANCE_SHARE
        and hits < constant_hits
        and success >= LEAST_SUCCESS_FACTOR * max(chance, 0.01)
    )


if __name__ == "__main__":
    sys.exit(0 if main(sys.argv[1]) else "The dual demo's model has not learnt enough.")
