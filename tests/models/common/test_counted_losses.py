"""transformers' own Trainer with our models: exact, or refused."""

import pytest
import torch
from transformers import Trainer, TrainingArguments

from internnav_hf.models.common.counted_losses import CountedLosses
from tests.tiny.toy_model import ToyActionDataset, ToyActionModel, ToyConfig


class CountedToy(CountedLosses, ToyActionModel):
    def forward(self, *args, num_frames_in_batch=None, actions=None, **kwargs):
        if actions is not None:
            self.check_counts(num_frames_in_batch=num_frames_in_batch)
        return super().forward(
            *args, num_frames_in_batch=num_frames_in_batch, actions=actions, **kwargs
        )


def train(folder, accumulation: int) -> None:
    torch.manual_seed(0)
    args = TrainingArguments(
        output_dir=str(folder),
        use_cpu=True,
        report_to="none",
        per_device_train_batch_size=8 // accumulation,
        gradient_accumulation_steps=accumulation,
        max_steps=2,
        save_strategy="no",
        remove_unused_columns=False,
        disable_tqdm=True,
    )
    Trainer(CountedToy(ToyConfig()), args, train_dataset=ToyActionDataset()).train()


def test_a_trainer_that_accumulates_without_counting_is_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r"CountedToy: num_frames_in_batch: .*NavTrainer"
    ) as raised:
        train(tmp_path, accumulation=4)
    assert "\n" not in str(raised.value)


def test_a_trainer_that_does_not_accumulate_trains(tmp_path):
    train(tmp_path, accumulation=1)


def test_a_loop_of_ones_own_may_accumulate():
    model = CountedToy(ToyConfig()).train()
    batch = {k: torch.stack([s[k] for s in ToyActionDataset(4)]) for k in ToyActionDataset(1)[0]}
    for _ in range(2):
        model(**batch).loss.backward()
    assert model.num_parameters() > 0
