"""Datasets: readers of recorded navigation, and the samples that models learn from."""

from .dual_system import DualSystemCollator, DualSystemDataset
from .episode import Episode
from .features import FeatureStore
from .lerobot import read_lerobot
from .navdp import NavDPDataset
from .navdp_collator import NavDPCollator
from .system2 import System2Collator, System2Dataset
from .vln import VLNDataset
from .vln_collator import VLNCollator
from .vln_n1 import read_vln_n1
from .vln_pe import read_vln_pe

__all__ = [
    "DualSystemCollator",
    "DualSystemDataset",
    "Episode",
    "FeatureStore",
    "NavDPCollator",
    "NavDPDataset",
    "System2Collator",
    "System2Dataset",
    "VLNCollator",
    "VLNDataset",
    "read_lerobot",
    "read_vln_n1",
    "read_vln_pe",
]
