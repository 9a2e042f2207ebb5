"""Datasets: readers of recorded navigation, and the samples that models learn from."""

from internnav_hf.data.episode import Episode
from internnav_hf.data.features import FeatureStore
from internnav_hf.data.formats.registry import register_format
from internnav_hf.data.formats.vln_ce.reader import read_lerobot
from internnav_hf.data.tasks.ddppo import DDPPOCollator, DDPPODataset
from internnav_hf.data.tasks.dual_system import DualSystemCollator, DualSystemDataset
from internnav_hf.data.tasks.image_goal import (
    ImageGoalCollator,
    ImageGoalDataset,
    ImageGoalDatasets,
)
from internnav_hf.data.tasks.navdp import NavDPDataset
from internnav_hf.data.tasks.navdp_collator import NavDPCollator
from internnav_hf.data.tasks.planner import PlannerCollator, PlannerDataset
from internnav_hf.data.tasks.system2 import System2Collator, System2Dataset
from internnav_hf.data.tasks.vln import VLNDataset
from internnav_hf.data.tasks.vln_collator import VLNCollator

__all__ = [
    "DDPPOCollator",
    "DDPPODataset",
    "DualSystemCollator",
    "DualSystemDataset",
    "Episode",
    "FeatureStore",
    "ImageGoalCollator",
    "ImageGoalDataset",
    "ImageGoalDatasets",
    "NavDPCollator",
    "NavDPDataset",
    "PlannerCollator",
    "PlannerDataset",
    "System2Collator",
    "System2Dataset",
    "VLNCollator",
    "VLNDataset",
    "read_lerobot",
    "register_format",
]
