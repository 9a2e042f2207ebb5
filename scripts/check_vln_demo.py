"""Say whether the models of the VLN demo have learnt, and exit with 1 if one has not.

    python scripts/check_vln_demo.py outputs/demo-vln/metrics.json

Learnt means, in rooms they never saw: each ends clearly nearer to its goals than the better of the
random walker and of who walks straight on; Seq2Seq and CMA reach them at least twice as often, too.
RDP, which has to learn to draw whole plans, does not in the demo's time.
"""

import json
import sys
from pathlib import Path

MODELS = ("seq2seq", "cma", "rdp")
REACHING = ("seq2seq", "cma")
BLIND = ("random", "forward")
LEAST_SUCCESS_FACTOR = 2.0
LARGEST_ERROR_SHARE = 0.9


def main(path: str) -> bool:
    """Print what each has reached; whether all have learnt."""
    agents = json.loads(Path(path).read_text(encoding="utf-8"))["agents"]
    least = LEAST_SUCCESS_FACTOR * max(0.01, *(agents[name]["sr"] for name in BLIND))
    most = LARGEST_ERROR_SHARE * min(agents[name]["ne"] for name in BLIND)
    for name in MODELS:
        rate, error = agents[name]["sr"], agents[name]["ne"]
        asked = f"{least:.1%} or more, " if name in REACHING else ""
        print(
            f"{name}: success {rate:.1%}, {error:.2f} m off; learnt is {asked}{most:.2f} m or less."
        )
    reached = all(agents[name]["sr"] >= least for name in REACHING)
    return reached and all(agents[name]["ne"] <= most for name in MODELS)


if __name__ == "__main__":
    sys.exit(0 if main(sys.argv[1]) else "A model of the VLN demo has not learnt enough.")
