"""Say whether the demo's model has learnt, and exit with 1 if it has not.

    python scripts/check_demo.py outputs/demo/metrics.json

Learnt means, on rooms it never saw: the pixel error is at most half that of the best constant
answer, and it reaches the goal at least three times as often as a random walker.
"""

import json
import sys
from pathlib import Path

LARGEST_ERROR_SHARE = 0.5
LEAST_SUCCESS_FACTOR = 3.0


def main(path: str) -> bool:
    """Print both comparisons; whether both hold."""
    metrics = json.loads(Path(path).read_text(encoding="utf-8"))
    goals, agents = metrics["open_loop"], metrics["agents"]
    share = goals["pixel_error_px"] / goals["pixel_error_constant_px"]
    success, chance = agents["system2"]["sr"], agents["random"]["sr"]
    print(
        f"Pixel error: {goals['pixel_error_px']:.1f} px, {share:.0%} of the best constant answer's "
        f"({goals['pixel_error_constant_px']:.1f} px); at most {LARGEST_ERROR_SHARE:.0%} is learnt."
    )
    print(f"Success: {success:.1%}, random walker {chance:.1%}.")
    return share <= LARGEST_ERROR_SHARE and success >= LEAST_SUCCESS_FACTOR * max(chance, 0.01)


if __name__ == "__main__":
    sys.exit(0 if main(sys.argv[1]) else "The demo's model has not learnt enough.")
