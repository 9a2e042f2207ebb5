"""Policies: what runs at inference. `reset(instruction)`, then `act(observation)` at each step."""

from .dual_system import DualSystemPolicy, DualSystemStep, is_dual_system
from .episodes import FrameHistory
from .goals import Goal, ImageGoal, NoGoal, PixelGoal, PointGoal, PointImageGoal
from .navdp import NavDPEpisode, NavDPPolicy, NavDPStep
from .rdp import RDPEpisode, RDPPolicy, load_vln_policy
from .system2 import AnswerWith, Decision, System2Policy
from .vln import VLNEpisode, VLNPolicy, VLNStep, vln_kind

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
