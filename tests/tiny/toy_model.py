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

    @property
    def loss_weights(self):
        return {"word_loss": 1.0, "goal_loss": self.config.goal_weight}

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


@dataclass
class ToyActionOutput(ModelOutput):
    loss: Tensor | None = None
    action_loss: Tensor | None = None
    loss_counts: dict | None = None
    plan: Tensor | None = None


class ToyActionModel(PreTrainedModel):
    """Learns `actions` (B, T) where `frame_mask` (B, T), without labels; its plan is (B, 1, W)."""

    config_class = ToyConfig
    main_input_name = "input_ids"
    accepts_loss_kwargs = True
    loss_count_keys = {"frame_mask": "num_frames_in_batch"}

    def __init__(self, config: ToyConfig):
        super().__init__(config)
        self.latent_queries = nn.Linear(config.width, config.width, bias=False)
        self.system2 = nn.Embedding(16, config.width)
        self.action_expert = nn.Linear(config.width, 1)
        self.post_init()

    def forward(
        self,
        input_ids,
        attention_mask=None,
        mm_token_type_ids=None,
        pixel_values=None,
        image_grid_thw=None,
        actions=None,
        frame_mask=None,
        num_frames_in_batch=None,
    ) -> ToyActionOutput:
        plan = self.latent_queries(self.system2(input_ids).mean(1, keepdim=True))
        if actions is None:
            return ToyActionOutput(plan=plan)
        error = (self.action_expert(plan).squeeze(-1) - actions).square() * frame_mask
        count = frame_mask.sum()
        divisor = count if num_frames_in_batch is None else num_frames_in_batch
        return ToyActionOutput(
            loss=error.sum() / divisor,
            action_loss=error.sum() / count,
            loss_counts={"action_loss": count},
            plan=plan,
        )


class ToyActionDataset(torch.utils.data.Dataset):
    """Samples with 1 to 6 valid frames."""

    def __init__(self, size: int = 32, seed: int = 0):
        rng = np.random.default_rng(seed)
        self.samples = [
            {
                "input_ids": torch.as_tensor(rng.integers(16, size=5)),
                "actions": torch.as_tensor(rng.normal(size=6), dtype=torch.float32),
                "frame_mask": torch.arange(6) < int(rng.integers(1, 7)),
            }
            for _ in range(size)
        ]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return self.samples[index]


def toy_action_model(seed: int = 0) -> ToyActionModel:
    torch.manual_seed(seed)
    return ToyActionModel(ToyConfig())


def toy_probe(seed: int = 0) -> dict[str, Tensor]:
    """A batch of 3 dialogues for `ToyActionModel`, which sees neither mask nor image."""
    ids = torch.as_tensor(np.random.default_rng(seed).integers(16, size=(3, 5)))
    unused = ("attention_mask", "mm_token_type_ids", "pixel_values", "image_grid_thw")
    return {"input_ids": ids, **{key: torch.ones(1) for key in unused}}
