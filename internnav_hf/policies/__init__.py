"""Policies: what runs at inference. `reset(instruction)`, then `act(observation)` at each step."""

from internnav_hf.policies.dual_system import DualSystemPolicy, DualSystemStep, is_dual_system
from internnav_hf.policies.episodes import FrameHistory
from internnav_hf.policies.goals import (
    Goal,
    ImageGoal,
    NoGoal,
    PixelGoal,
    PointGoal,
    PointImageGoal,
)
from internnav_hf.policies.navdp import NavDPEpisode, NavDPPolicy, NavDPStep
from internnav_hf.policies.rdp import RDPEpisode, RDPPolicy, load_vln_policy
from internnav_hf.policies.system2 import AnswerWith, Decision, System2Policy
from internnav_hf.policies.vln import VLNEpisode, VLNPolicy, VLNStep, vln_kind

__all__ = [
    "AnswerWith",
    "Decision",
    "DualSystemPolicy",
    "DualSystemStep",
    "FrameHistory",
    "Goal",
    "ImageGoal",
    "NavDPEpisode",
    "NavDPPolicy",
    "NavDPStep",
    "NoGoal",
    "PixelGoal",
    "PointGoal",
    "PointImageGoal",
    "RDPEpisode",
    "RDPPolicy",
    "System2Policy",
    "VLNEpisode",
    "VLNPolicy",
    "VLNStep",
    "is_dual_system",
    "load_vln_policy",
    "vln_kind",
]
