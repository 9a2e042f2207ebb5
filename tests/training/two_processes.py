"""Evaluates toys, one of whose samples is broken, and predicts, in all processes together."""

import tempfile
from typing import Any

from tests.tiny.toy_model import ToyActionDataset, ToyDataset, toy_action_model
from tests.training.evaluations import Broken, losses, trainer


def evaluated_and_predicted() -> dict[str, Any]:
    """Metrics of both, and plans with their labels."""
    with tempfile.TemporaryDirectory() as folder:
        data = Broken(ToyDataset(13, seed=1))
        run = trainer(folder, eval_dataset=data, per_device_eval_batch_size=3)
        metrics = losses(run.evaluate())
        run = trainer(folder, toy_action_model(), per_device_eval_batch_size=3)
        found = run.predict(ToyActionDataset(13, seed=1))
    return {
        "metrics": metrics | losses(found.metrics),
        "predictions": found.predictions.tolist(),
        "labels": found.label_ids.tolist(),
    }
