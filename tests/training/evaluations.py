"""Evaluations of the toy model."""

import math

import torch
from torch.utils.data import Dataset

from internnav_hf.training.trainer import NavTrainer, NavTrainingArguments
from tests.tiny.toy_model import ToyDataset, toy_model


def trainer(folder, model=None, eval_dataset=None, compute_metrics=None, dataset=None, **options):
    defaults = {
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
        "save_strategy": "no",
        "dataloader_num_workers": 0,
        "max_steps": 3,
        "logging_steps": 1,
        "learning_rate": 0.05,
    }
    return NavTrainer(
        model=model or toy_model(),
        args=NavTrainingArguments(output_dir=str(folder), **defaults | options),
        train_dataset=dataset or ToyDataset(),
        eval_dataset=eval_dataset,
        compute_metrics=compute_metrics,
    )


class Broken(Dataset):
    """Some samples hold NaN, or make the loss infinite."""

    def __init__(self, data, value=math.nan, indices=(3,)):
        self.data, self.value, self.indices = data, value, indices

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        sample = dict(self.data[index])
        if index in self.indices:
            sample["goal_pixel"] = sample["goal_pixel"] * self.value
            sample["goal_mask"] = torch.tensor(True)
        return sample

    def where(self, index):
        return f"scene {index}"


def losses(metrics):
    return {k: v for k, v in metrics.items() if k.endswith(("loss", "left_out"))}
