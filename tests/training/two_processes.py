"""Evaluates toys, one of whose samples is broken, and predicts: in as many processes as torchrun
starts. The main one writes what came out.
"""

import json
import sys
import tempfile
from pathlib import Path

from accelerate import PartialState

from tests.tiny.toy_model import ToyActionDataset, ToyDataset, toy_action_model
from tests.training.evaluations import Broken, losses, trainer

with tempfile.TemporaryDirectory() as folder:
    data = Broken(ToyDataset(13, seed=1))
    metrics = losses(trainer(folder, eval_dataset=data, per_device_eval_batch_size=3).evaluate())
    plans = ToyActionDataset(13, seed=1)
    run = trainer(folder, toy_action_model(), per_device_eval_batch_size=3)
    found = run.predict(plans)
    metrics |= losses(found.metrics)
    if run.is_world_process_zero():
        told = {"predictions": found.predictions.tolist(), "labels": found.label_ids.tolist()}
        Path(sys.argv[1]).write_text(json.dumps({"metrics": metrics, **told}))
    PartialState().destroy_process_group()
