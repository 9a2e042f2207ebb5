"""Datasets: readers of recorded navigation, and the samples that models learn from."""

from .dual_system import DualSystemCollator, DualSystemDataset
from .episode import Episode
from .lerobot import read_lerobot
from .navdp import NavDPDataset
from .navdp_collator import NavDPCollator
from .system2 import System2Collator, System2Dataset
from .vln_n1 import read_vln_n1

__all__ = [
    "DualSystemCollator",
    "DualSystemDataset",
    "Episode",
    "NavDPCollator",
    "NavDPDataset",
    "System2Collator",
    "System2Dataset",
    "read_lerobot",
    "read_vln_n1",
]
