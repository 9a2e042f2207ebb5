"""Say whether the models of the VLN demo have learnt, and exit with 1 if one has not.

    python scripts/check_vln_demo.py outputs/demo-vln/metrics.json

Learnt means, in rooms they never saw: each reaches its goals at least twice as often as the
better of the random walker and of who walks straight on.
"""

import json
import sys
from pathlib import Path

MODELS = ("seq2seq", "cma", "rdp")
BLIND = ("random", "forward")
LEAST_SUCCESS_FACTOR = 2.0


def main(path: str) -> bool:
    """Print what each has reached; whether all have learnt."""
    agents = json.loads(Path(path).read_text(encoding="utf-8"))["agents"]
    chance = max(agents[name]["sr"] for name in BLIND)
    least = LEAST_SUCCESS_FACTOR * max(chance, 0.01)
    for name in MODELS:
        print(f"Success of {name}: {agents[name]['sr']:.1%}; {least:.1%} is learnt.")
    return all(agents[name]["sr"] >= least for name in MODELS)


if __name__ == "__main__":
    sys.exit(0 if main(sys.argv[1]) else "A model of the VLN demo has not learnt enough.")
