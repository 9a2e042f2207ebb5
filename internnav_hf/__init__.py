"""Train, evaluate and run embodied-navigation models with Hugging Face Transformers.

Importing this package makes transformers' Auto classes know its models. Everything else loads when
it is used.
"""

import importlib
from typing import TYPE_CHECKING

from internnav_hf.catalog import register

if TYPE_CHECKING:
    from internnav_hf.arguments.training import NavTrainingArguments
    from internnav_hf.camera import CameraSpec
    from internnav_hf.models.dual_system.config import DualSystemConfig
    from internnav_hf.models.dual_system.model import DualSystemModel, DualSystemOutput
    from internnav_hf.models.navdp.config import NavDPConfig
    from internnav_hf.models.navdp.expert import NavDPActionExpert
    from internnav_hf.models.navdp.expert_config import NavDPActionExpertConfig
    from internnav_hf.models.navdp.model import NavDPModel, NavDPOutput, NavDPSamples
    from internnav_hf.models.nextdit.config import NextDiTConfig
    from internnav_hf.models.nextdit.model import NextDiTActionExpert
    from internnav_hf.models.rdp.config import RDPConfig
    from internnav_hf.models.rdp.model import RDPAction, RDPModel, RDPOutput, RDPPrediction
    from internnav_hf.models.system2.config import System2Config
    from internnav_hf.models.system2.model import System2Model, System2Output
    from internnav_hf.models.system2.processor import System2Processor
    from internnav_hf.models.vln.base import VLNAction
    from internnav_hf.models.vln.cma import CMAModel
    from internnav_hf.models.vln.cma_config import CMAConfig
    from internnav_hf.models.vln.losses import VLNOutput
    from internnav_hf.models.vln.processor import VLNProcessor
    from internnav_hf.models.vln.seq2seq import Seq2SeqModel
    from internnav_hf.models.vln.seq2seq_config import Seq2SeqConfig
    from internnav_hf.policies import (
        Decision,
        DualSystemPolicy,
        NavDPPolicy,
        RDPPolicy,
        System2Policy,
        VLNPolicy,
    )
    from internnav_hf.training.trainer import NavTrainer

__version__ = "0.1.0"

_MODULE_OF_NAME = {
    "CMAConfig": "models.vln.cma_config",
    "CMAModel": "models.vln.cma",
    "CameraSpec": "camera",
    "Decision": "policies",
    "DualSystemConfig": "models.dual_system.config",
    "DualSystemModel": "models.dual_system.model",
    "DualSystemOutput": "models.dual_system.model",
    "DualSystemPolicy": "policies",
    "NavDPActionExpert": "models.navdp.expert",
    "NavDPActionExpertConfig": "models.navdp.expert_config",
    "NavDPConfig": "models.navdp.config",
    "NavDPModel": "models.navdp.model",
    "NavDPOutput": "models.navdp.model",
    "NavDPPolicy": "policies",
    "NavDPSamples": "models.navdp.model",
    "NavTrainer": "training.trainer",
    "NavTrainingArguments": "arguments.training",
    "NextDiTActionExpert": "models.nextdit.model",
    "NextDiTConfig": "models.nextdit.config",
    "RDPAction": "models.rdp.model",
    "RDPConfig": "models.rdp.config",
    "RDPModel": "models.rdp.model",
    "RDPOutput": "models.rdp.model",
    "RDPPolicy": "policies",
    "RDPPrediction": "models.rdp.model",
    "Seq2SeqConfig": "models.vln.seq2seq_config",
    "Seq2SeqModel": "models.vln.seq2seq",
    "System2Config": "models.system2.config",
    "System2Model": "models.system2.model",
    "System2Output": "models.system2.model",
    "System2Policy": "policies",
    "System2Processor": "models.system2.processor",
    "VLNAction": "models.vln.base",
    "VLNOutput": "models.vln.losses",
    "VLNPolicy": "policies",
    "VLNProcessor": "models.vln.processor",
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
    "NavTrainer",
    "NavTrainingArguments",
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
