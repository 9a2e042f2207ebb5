"""A toy with the loss conventions of every model here, for tests of the trainer."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput


class ToyConfig(PreTrainedConfig):
    model_type = "internnav_hf_toy"
    width: int = 8
    goal_weight: float = 1.0


@dataclass
class ToyOutput(ModelOutput):
    loss: Tensor | None = None
    word_loss: Tensor | None = None
    goal_loss: Tensor | None = None
    loss_counts: dict | None = None


class ToyModel(PreTrainedModel):
    """Learns `labels` (B, L) token by token, and a goal (B, 2) where `goal_mask` (B,)."""

    config_class = ToyConfig
    accepts_loss_kwargs = True
    loss_count_keys = {"goal_mask": "num_goals_in_batch"}

    def __init__(self, config: ToyConfig):
        super().__init__(config)
        self.tower = nn.Embedding(16, config.width)
        self.trunk = nn.Sequential(nn.Linear(config.width, config.width), nn.Tanh())
        self.norm = nn.LayerNorm(config.width)
        self.words = nn.Linear(config.width, 16)
        self.goal_head = nn.Linear(config.width, 2)
        self.post_init()

    def forward(
        self,
        input_ids,
        attention_mask=None,
        labels=None,
        goal_pixel=None,
        goal_mask=None,
        num_items_in_batch=None,
        num_goals_in_batch=None,
    ) -> ToyOutput:
        hidden = self.norm(self.trunk(self.tower(input_ids)))
        supervised = labels != -100
        logits = self.words(hidden[supervised]).float()
        words = nn.functional.cross_entropy(logits, labels[supervised], reduction="none")
        error = (self.goal_head(hidden[:, 0]) - goal_pixel).abs().sum(-1).float() * goal_mask
        counts = {"word_loss": supervised.sum(), "goal_loss": goal_mask.sum()}
        num_words = counts["word_loss"] if num_items_in_batch is None else num_items_in_batch
        num_goals = counts["goal_loss"] if num_goals_in_batch is None else num_goals_in_batch
        loss = words.sum() / max(num_words, 1)
        loss = loss + self.config.goal_weight * error.sum() / max(num_goals, 1)
        return ToyOutput(
            loss=loss,
            word_loss=words.sum() / counts["word_loss"].clamp(min=1),
            goal_loss=error.sum() / counts["goal_loss"].clamp(min=1),
            loss_counts=counts,
        )


class ToyDataset(torch.utils.data.Dataset):
    """Samples with 1 to 6 labels, about a third of them with a goal."""

    def __init__(self, size: int = 32, seed: int = 0):
        rng = np.random.default_rng(seed)
        self.samples = []
        for _ in range(size):
            ids = torch.as_tensor(rng.integers(16, size=6))
            labels = torch.where(torch.arange(6) < int(rng.integers(1, 7)), (ids + 1) % 16, -100)
            self.samples.append(
                {
                    "input_ids": ids,
                    "attention_mask": torch.ones_like(ids),
                    "labels": labels,
                    "goal_pixel": torch.as_tensor(rng.normal(size=2), dtype=torch.float32),
                    "goal_mask": torch.tensor(bool(rng.random() < 0.35)),
                }
            )

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return self.samples[index]


def toy_model(seed: int = 0) -> ToyModel:
    torch.manual_seed(seed)
    return ToyModel(ToyConfig())
