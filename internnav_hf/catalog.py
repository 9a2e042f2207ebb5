"""Makes transformers' Auto classes know our models before any of our model code is imported.

Registering the real classes would import them, and with them transformers' modelling code: about
as long again as `import torch, transformers`. So a `LazyClass` is registered in their place. And as
the registry of processors comes with that modelling code, we wait for it: an import hook registers
ours as soon as somebody imports `AutoProcessor`.
"""

import importlib
import sys
from importlib.abc import MetaPathFinder
from importlib.util import find_spec
from typing import Any

from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText, PreTrainedConfig

from internnav_hf.models.dual_system.config import DualSystemConfig
from internnav_hf.models.navdp.config import NavDPConfig
from internnav_hf.models.navdp.expert_config import NavDPActionExpertConfig
from internnav_hf.models.nextdit.config import NextDiTConfig
from internnav_hf.models.rdp.config import RDPConfig
from internnav_hf.models.system2.config import System2Config
from internnav_hf.models.vln.cma_config import CMAConfig
from internnav_hf.models.vln.seq2seq_config import Seq2SeqConfig

# Configuration -> module below `models` and name of the model.
MODELS: dict[type[PreTrainedConfig], tuple[str, str]] = {
    System2Config: ("system2.model", "System2Model"),
    DualSystemConfig: ("dual_system.model", "DualSystemModel"),
    NextDiTConfig: ("nextdit.model", "NextDiTActionExpert"),
    NavDPActionExpertConfig: ("navdp.expert", "NavDPActionExpert"),
    NavDPConfig: ("navdp.model", "NavDPModel"),
    RDPConfig: ("rdp.model", "RDPModel"),
    Seq2SeqConfig: ("vln.seq2seq", "Seq2SeqModel"),
    CMAConfig: ("vln.cma", "CMAModel"),
}
PROCESSORS: dict[type[PreTrainedConfig], tuple[str, str]] = {
    System2Config: ("system2.processor", "System2Processor"),
    DualSystemConfig: ("system2.processor", "System2Processor"),
    Seq2SeqConfig: ("vln.processor", "VLNProcessor"),
    CMAConfig: ("vln.processor", "VLNProcessor"),
    RDPConfig: ("vln.processor", "VLNProcessor"),
}
PROCESSOR_REGISTRY = "transformers.models.auto.processing_auto"


class LazyClass:
    """Stands for the class `name` of `module`, imported when called or asked for something.

    The Auto classes call `from_pretrained` and `_from_config` of what is registered and read its
    `__name__`, `__module__` and `config_class`. `isinstance` and `issubclass` work as with the
    class itself.
    """

    def __init__(self, module: str, name: str, config_class: type[PreTrainedConfig]):
        self.__module__ = module
        self.__name__ = self.__qualname__ = name
        self.config_class = config_class

    def _resolve(self) -> type:
        return getattr(importlib.import_module(self.__module__), self.__name__)

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):  # copy and pickle ask for these, and mean the stand-in
            raise AttributeError(attribute)
        return getattr(self._resolve(), attribute)

    def __call__(self, *args, **kwargs) -> Any:
        """An instance of the class."""
        return self._resolve()(*args, **kwargs)

    def __instancecheck__(self, instance: object) -> bool:
        return isinstance(instance, self._resolve())

    def __subclasscheck__(self, subclass: type) -> bool:
        return issubclass(subclass, self._resolve())


class _ProcessorHook(MetaPathFinder):
    """Registers our processors once their registry has been imported, then goes away."""

    def find_spec(self, fullname, path=None, target=None):
        """The registry's spec, its loader calling us when it has run; None for other modules."""
        if fullname != PROCESSOR_REGISTRY:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(fullname)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_and_register(module):
            execute(module)
            _register_processors(module)

        spec.loader.exec_module = execute_and_register
        return spec


def _register_processors(registry) -> None:
    for config_class, (module, name) in PROCESSORS.items():
        processor = LazyClass(f"internnav_hf.models.{module}", name, config_class)
        registry.AutoProcessor.register(config_class, processor, exist_ok=True)


def register() -> None:
    """Enter our models in AutoConfig and AutoModel, System2 in AutoModelForImageTextToText, and the
    processor in AutoProcessor.
    """
    for config_class, (module, name) in MODELS.items():
        model = LazyClass(f"internnav_hf.models.{module}", name, config_class)
        AutoConfig.register(config_class.model_type, config_class, exist_ok=True)
        AutoModel.register(config_class, model, exist_ok=True)
        if config_class is System2Config:
            AutoModelForImageTextToText.register(config_class, model, exist_ok=True)
    if PROCESSOR_REGISTRY in sys.modules:
        _register_processors(sys.modules[PROCESSOR_REGISTRY])
    else:
        sys.meta_path.insert(0, _ProcessorHook())
