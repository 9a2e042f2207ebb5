"""Trains what a JSON file lists, case and options, one after another in the processes that a
launcher started: starting them costs more than all these trainings.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from accelerate import PartialState

from tests.recipes.cases import CASES, fix_draws

if __name__ == "__main__":
    for run in json.loads(Path(sys.argv[1]).read_text()):
        case = CASES[run["case"]]
        fix_draws(case)
        case.train(run["options"])
    PartialState().destroy_process_group()
