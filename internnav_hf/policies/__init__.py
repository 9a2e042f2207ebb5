"""Policies: models at inference. `reset(instruction)`, then `act(observation)` at each step."""

from internnav_hf.policies.ddppo import DDPPOEpisode, DDPPOPolicy, DDPPOStep
from internnav_hf.policies.decisions import Decision
from internnav_hf.policies.dual_system import DualSystemPolicy, DualSystemStep
from internnav_hf.policies.episodes import FrameHistory
from internnav_hf.policies.gnm import (
    GNMPolicy,
    ImageGoalEpisode,
    ImageGoalStep,
    NoMaDPolicy,
    ViNTPolicy,
)
from internnav_hf.policies.goals import (
    Goal,
    ImageGoal,
    MapGoal,
    NoGoal,
    PixelGoal,
    PointGoal,
    PointImageGoal,
    PositionGoal,
)
from internnav_hf.policies.loading import (
    family_of_checkpoint,
    load_policy,
    load_vln_policy,
    policy_settings,
)
from internnav_hf.policies.navdp import NavDPEpisode, NavDPPolicy, NavDPStep
from internnav_hf.policies.planners import (
    PlannerEpisode,
    PlannerStep,
    ViPlannerPolicy,
    iPlannerPolicy,
)
from internnav_hf.policies.policy import GoalPolicy, InstructionPolicy
from internnav_hf.policies.rdp import RDPEpisode, RDPPolicy
from internnav_hf.policies.system2 import AnswerWith, System2Episode, System2Policy
from internnav_hf.policies.vln import VLNEpisode, VLNPolicy, VLNStep

__all__ = [
    "AnswerWith",
    "DDPPOEpisode",
    "DDPPOPolicy",
    "DDPPOStep",
    "Decision",
    "DualSystemPolicy",
    "DualSystemStep",
    "FrameHistory",
    "GNMPolicy",
    "Goal",
    "GoalPolicy",
    "ImageGoal",
    "ImageGoalEpisode",
    "ImageGoalStep",
    "InstructionPolicy",
    "MapGoal",
    "NavDPEpisode",
    "NavDPPolicy",
    "NavDPStep",
    "NoGoal",
    "NoMaDPolicy",
    "PixelGoal",
    "PlannerEpisode",
    "PlannerStep",
    "PointGoal",
    "PointImageGoal",
    "PositionGoal",
    "RDPEpisode",
    "RDPPolicy",
    "System2Episode",
    "System2Policy",
    "VLNEpisode",
    "VLNPolicy",
    "VLNStep",
    "ViNTPolicy",
    "ViPlannerPolicy",
    "family_of_checkpoint",
    "iPlannerPolicy",
    "load_policy",
    "load_vln_policy",
    "policy_settings",
]
