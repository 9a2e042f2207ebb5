"""Datasets: readers of recorded navigation, and the samples that models learn from."""

from .dual_system import DualSystemCollator, DualSystemDataset
from .episode import Episode
from .lerobot import read_lerobot
from .system2 import System2Collator, System2Dataset

__all__ = [
    "DualSystemCollator",
    "DualSystemDataset",
    "Episode",
    "System2Collator",
    "System2Dataset",
    "read_lerobot",
]
