"""Policies: what runs at inference. `reset(instruction)`, then `act(observation)` at each step."""

from .dual_system import DualSystemPolicy, DualSystemStep, is_dual_system
from .goals import Goal, ImageGoal, NoGoal, PixelGoal, PointGoal, PointImageGoal
from .navdp import NavDPEpisode, NavDPPolicy, NavDPStep
from .system2 import AnswerWith, Decision, FrameHistory, System2Policy

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
    "System2Policy",
    "is_dual_system",
]
