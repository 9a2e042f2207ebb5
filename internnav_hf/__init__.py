"""Train, evaluate and run embodied-navigation models with Hugging Face Transformers.

Importing this package makes transformers' Auto classes know its models. Everything else loads when
it is used.
"""

import importlib
from typing import TYPE_CHECKING

from internnav_hf._registration import register

if TYPE_CHECKING:
    from internnav_hf.camera import CameraSpec
    from internnav_hf.models.cma import CMAModel
    from internnav_hf.models.cma_config import CMAConfig
    from internnav_hf.models.dual_system import DualSystemModel, DualSystemOutput
    from internnav_hf.models.dual_system_config import DualSystemConfig
    from internnav_hf.models.navdp import NavDPModel, NavDPOutput, NavDPSamples
    from internnav_hf.models.navdp_action_expert import NavDPActionExpert
    from internnav_hf.models.navdp_action_expert_config import NavDPActionExpertConfig
    from internnav_hf.models.navdp_config import NavDPConfig
    from internnav_hf.models.nextdit import NextDiTActionExpert
    from internnav_hf.models.nextdit_config import NextDiTConfig
    from internnav_hf.models.rdp import RDPAction, RDPModel, RDPOutput, RDPPrediction
    from internnav_hf.models.rdp_config import RDPConfig
    from internnav_hf.models.recurrent_vln import VLNAction
    from internnav_hf.models.seq2seq import Seq2SeqModel
    from internnav_hf.models.seq2seq_config import Seq2SeqConfig
    from internnav_hf.models.system2 import System2Model, System2Output
    from internnav_hf.models.system2_config import System2Config
    from internnav_hf.models.system2_processor import System2Processor
    from internnav_hf.models.vln_losses import VLNOutput
    from internnav_hf.models.vln_processor import VLNProcessor
    from internnav_hf.policies import (
        Decision,
        DualSystemPolicy,
        NavDPPolicy,
        RDPPolicy,
        System2Policy,
        VLNPolicy,
    )

__version__ = "0.1.0"

_MODULE_OF_NAME = {
    "CMAConfig": "models.cma_config",
    "CMAModel": "models.cma",
    "CameraSpec": "camera",
    "Decision": "policies",
    "DualSystemConfig": "models.dual_system_config",
    "DualSystemModel": "models.dual_system",
    "DualSystemOutput": "models.dual_system",
    "DualSystemPolicy": "policies",
    "NavDPActionExpert": "models.navdp_action_expert",
    "NavDPActionExpertConfig": "models.navdp_action_expert_config",
    "NavDPConfig": "models.navdp_config",
    "NavDPModel": "models.navdp",
    "NavDPOutput": "models.navdp",
    "NavDPPolicy": "policies",
    "NavDPSamples": "models.navdp",
    "NextDiTActionExpert": "models.nextdit",
    "NextDiTConfig": "models.nextdit_config",
    "RDPAction": "models.rdp",
    "RDPConfig": "models.rdp_config",
    "RDPModel": "models.rdp",
    "RDPOutput": "models.rdp",
    "RDPPolicy": "policies",
    "RDPPrediction": "models.rdp",
    "Seq2SeqConfig": "models.seq2seq_config",
    "Seq2SeqModel": "models.seq2seq",
    "System2Config": "models.system2_config",
    "System2Model": "models.system2",
    "System2Output": "models.system2",
    "System2Policy": "policies",
    "System2Processor": "models.system2_processor",
    "VLNAction": "models.recurrent_vln",
    "VLNOutput": "models.vln_losses",
    "VLNPolicy": "policies",
    "VLNProcessor": "models.vln_processor",
}
_SUBMODULES = ("data", "evaluation", "geometry", "models", "sim", "trainer")

__all__ = [
    "CMAConfig",
    "CMAModel",
    "CameraSpec",
    "Decision",
    "DualSystemConfig",
    "DualSystemModel",
    "DualSystemOutput",
    "DualSystemPolicy",
    "NavDPActionExpert",
    "NavDPActionExpertConfig",
    "NavDPConfig",
    "NavDPModel",
    "NavDPOutput",
    "NavDPPolicy",
    "NavDPSamples",
    "NextDiTActionExpert",
    "NextDiTConfig",
    "RDPAction",
    "RDPConfig",
    "RDPModel",
    "RDPOutput",
    "RDPPolicy",
    "RDPPrediction",
    "Seq2SeqConfig",
    "Seq2SeqModel",
    "System2Config",
    "System2Model",
    "System2Output",
    "System2Policy",
    "System2Processor",
    "VLNAction",
    "VLNOutput",
    "VLNPolicy",
    "VLNProcessor",
]

register()


def __getattr__(name: str):
    if name in _MODULE_OF_NAME:
        return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF_NAME[name]}"), name)
    if name in _SUBMODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__, *_SUBMODULES])
