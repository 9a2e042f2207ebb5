"""Say whether the models of the VLN demo have learnt, and exit with 1 if one has not.

    python scripts/check_vln_demo.py outputs/demo-vln/metrics.json

Learnt means, in rooms they never saw: each ends clearly nearer to its goals than the better of the
random walker and of who walks straight on; Seq2Seq and CMA reach them at least twice as often, too.
RDP, which has to learn to draw whole plans, does not in the demo's time.
"""

import sys

from internnav_hf.command_line import LineParser, ends_in_one_line
from internnav_hf.evaluation.verdict import read_numbers

MODELS = ("seq2seq", "cma", "rdp")
REACHING = ("seq2seq", "cma")
BLIND = ("random", "forward")
LEAST_SUCCESS_FACTOR = 2.0
LARGEST_ERROR_SHARE = 0.9


def main(metrics: str) -> bool:
    """Print what each has reached; whether all have learnt."""
    names = (*BLIND, *MODELS)
    rates, errors = (
        dict(zip(names, read_numbers(metrics, *keys), strict=True))
        for keys in ([f"agents.{name}.{key}" for name in names] for key in ("sr", "ne"))
    )
    least = LEAST_SUCCESS_FACTOR * max(0.01, *(rates[name] for name in BLIND))
    most = LARGEST_ERROR_SHARE * min(errors[name] for name in BLIND)
    for name in MODELS:
        rate, error = rates[name], errors[name]
        asked = f"{least:.1%} or more, " if name in REACHING else ""
        print(
            f"{name}: success {rate:.1%}, {error:.2f} m off; learnt is {asked}{most:.2f} m or less."
        )
    reached = all(rates[name] >= least for name in REACHING)
    return reached and all(errors[name] <= most for name in MODELS)


if __name__ == "__main__":
    parser = LineParser(__doc__)
    parser.add_argument("metrics", help="metrics.json of the demo's evaluation")
    with ends_in_one_line():
        learnt = main(**vars(parser.parse_args()))
    sys.exit(0 if learnt else "A model of the VLN demo has not learnt enough.")
