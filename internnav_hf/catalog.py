"""The families of models, one line each: names, Auto classes, policies and model cards follow.

A family X has XConfig in `models/<folder>/config.py`, XModel in `models/<folder>/model.py` and, if
it drives a robot by itself, XPolicy in `policies/<folder>.py`; a line names what differs. Classes
are written as `module.Class` below the package and imported when they are used: nothing here
imports the code of a model.
"""

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.abc import Loader, MetaPathFinder
from importlib.util import find_spec
from typing import Any, Literal

from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText, PreTrainedConfig

PACKAGE = __name__.partition(".")[0]
PROCESSOR_REGISTRY = "transformers.models.auto.processing_auto"
VLN_PROCESSOR = "vln.processor.VLNProcessor"
NON_COMMERCIAL, MIT, BSD = "cc-by-nc-sa-4.0", "mit", "bsd-3-clause"


@dataclass(frozen=True)
class Family:
    """One kind of model.

    `processor` is the class that makes its inputs, None if its policy does that itself. `benchmark`
    is the one that it enters, None for a part of another model. `licence` is the Hub's identifier
    for the released weights, `paper` a title and its number at arXiv. `others` are more public
    names. `released` is the function that recognises third-party checkpoints, see
    `policies.loading`.
    """

    name: str
    folder: str
    benchmark: Literal["vln", "visual_navigation"] | None = None
    processor: str | None = None
    licence: str | None = None
    paper: tuple[str, str] | None = None
    config: str = "config.{name}Config"
    model: str = "model.{name}Model"
    policy: str = "{folder}.{name}Policy"
    others: tuple[str, ...] = ()
    released: str | None = None

    def places(self) -> dict[str, str | None]:
        """`config`, `model`, `processor`, `policy` and `released`, each as `module.name` below the
        package.
        """
        written = {"config": self.config, "model": self.model, "policy": self.policy}
        named = {part: place.format(**vars(self)) for part, place in written.items()}
        return {
            "config": f"models.{self.folder}.{named['config']}",
            "model": f"models.{self.folder}.{named['model']}",
            "processor": None if self.processor is None else f"models.{self.processor}",
            "policy": None if self.benchmark is None else f"policies.{named['policy']}",
            "released": None if self.released is None else f"models.{self.released}",
        }

    def load(self, part: str) -> Any:
        """Import the object that `places` names; None if the family has no such part."""
        place = self.places()[part]
        return None if place is None else load(place)

    @property
    def model_type(self) -> str:
        """The family's name in config.json."""
        return self.load("config").model_type


_DualVLN = partial(
    Family,
    benchmark="vln",
    processor="system2.processor.System2Processor",
    paper=("DualVLN", "2512.08186"),
    licence=NON_COMMERCIAL,
)
_VLNPE = partial(
    Family,
    benchmark="vln",
    processor=VLN_PROCESSOR,
    paper=("VLN-PE", "2507.13019"),
    licence=MIT,
    released="vln.released.is_released",
)
_ImageGoal = partial(
    Family,
    folder="gnm",
    benchmark="visual_navigation",
    licence=MIT,
    released="gnm.released.is_released",
)
# A checkpoint belongs to the first family that recognises it: a dual system contains a System2.
FAMILIES: tuple[Family, ...] = (
    _DualVLN(
        "DualSystem",
        "dual_system",
        released="dual_system.config.is_released",
        others=("models.dual_system.model.DualSystemOutput",),
    ),
    _DualVLN(
        "System2",
        "system2",
        released="system2.config.is_released",
        others=("models.system2.model.System2Output", "policies.decisions.Decision"),
    ),
    Family("NextDiT", "nextdit", model="model.NextDiTActionExpert", licence=NON_COMMERCIAL),
    Family("NavDPActionExpert", "navdp", model="expert.{name}", licence=NON_COMMERCIAL),
    Family(
        "NavDP",
        "navdp",
        benchmark="visual_navigation",
        paper=("NavDP", "2505.08712"),
        licence=NON_COMMERCIAL,
        released="navdp.released.is_released",
        others=("models.navdp.model.NavDPOutput", "models.navdp.model.NavDPSamples"),
    ),
    Family(
        name="iPlanner",
        folder="planners",
        benchmark="visual_navigation",
        policy="planners.iPlannerPolicy",
        paper=("iPlanner", "2302.11434"),
        licence=MIT,
        released="planners.released.is_released",
        others=("models.planners.model.PlannerOutput",),
    ),
    Family(
        name="ViPlanner",
        folder="planners",
        benchmark="visual_navigation",
        policy="planners.ViPlannerPolicy",
        paper=("ViPlanner", "2310.00982"),
        licence=BSD,
        released="planners.released.is_released",
    ),
    _ImageGoal("GNM", paper=("GNM", "2210.03370"), others=("models.gnm.losses.WaypointOutput",)),
    _ImageGoal("ViNT", model="vint.{name}Model", paper=("ViNT", "2306.14846")),
    _ImageGoal(
        "NoMaD",
        model="nomad.{name}Model",
        paper=("NoMaD", "2310.07896"),
        others=("models.gnm.losses.NoMaDOutput", "models.gnm.nomad.NoMaDSamples"),
    ),
    Family(
        name="DDPPO",
        folder="ddppo",
        benchmark="visual_navigation",
        paper=("DD-PPO", "1911.00357"),
        licence="other",  # terms of use of the scans that it was trained in
        released="ddppo.released.is_released",
        others=("models.ddppo.model.DDPPOOutput",),
    ),
    _VLNPE(
        "RDP",
        "rdp",
        others=tuple(f"models.rdp.model.RDP{name}" for name in ("Action", "Output", "Prediction")),
    ),
    _VLNPE(
        "Seq2Seq",
        "vln",
        model="seq2seq.{name}Model",
        policy="vln.VLNPolicy",
        others=("models.vln.base.VLNAction", "models.vln.losses.VLNOutput"),
    ),
    _VLNPE("CMA", "vln", model="cma.{name}Model", policy="vln.VLNPolicy"),
)
# Public names that belong to no family.
OTHERS = (
    "arguments.training.NavTrainingArguments",
    "camera.CameraSpec",
    "policies.loading.load_policy",
    "training.trainer.NavTrainer",
)


def public_names() -> dict[str, str]:
    """Every public name and its place, `module.name` below the package."""
    parts = ("config", "model", "processor", "policy")
    places = [family.places()[part] for family in FAMILIES for part in parts]
    places += [place for family in FAMILIES for place in family.others]
    return {place.rpartition(".")[2]: place for place in (*places, *OTHERS) if place is not None}


def load(place: str) -> Any:
    """Import the object at `module.name` below the package."""
    module, _, name = place.rpartition(".")
    return getattr(importlib.import_module(f"{PACKAGE}.{module}"), name)


def exports(package: str) -> Callable[[str], Any]:
    """`__getattr__` for the folder `package` of a family: its public names, from its modules.

    Adapters saved by PEFT name this folder as the module of their base model's class.
    """
    inside = package.removeprefix(f"{PACKAGE}.")

    def get(name: str) -> Any:
        place = public_names().get(name, "")
        if not place.startswith(f"{inside}."):
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return load(place)

    return get


def family_of(model_type: str | None) -> Family | None:
    """The family whose configurations have this `model_type`."""
    return next((family for family in FAMILIES if family.model_type == model_type), None)


def families_of(policy: type) -> list[Family]:
    """The families that the class `policy`, or its nearest base that drives any, drives."""
    for base in policy.__mro__:
        place = f"{base.__module__}.{base.__qualname__}"
        found = [one for one in FAMILIES if place == f"{PACKAGE}.{one.places()['policy']}"]
        if found:
            return found
    return []


class LazyClass:
    """Stand-in for the class `name` of `module`, imported at the first call or attribute access.

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
        if attribute.startswith("__"):  # copy and pickle look these up on the stand-in itself
            raise AttributeError(attribute)
        return getattr(self._resolve(), attribute)

    def __call__(self, *args, **kwargs) -> Any:
        """An instance of the class."""
        return self._resolve()(*args, **kwargs)

    def __instancecheck__(self, instance: object) -> bool:
        return isinstance(instance, self._resolve())

    def __subclasscheck__(self, subclass: type) -> bool:
        return issubclass(subclass, self._resolve())


class _RegistryFinder(MetaPathFinder):
    """Finds the registry of processors once, with a loader that then registers ours.

    Why a hook: `AutoProcessor.register` imports that registry, and with it transformers' modelling
    code. On a busy two-core machine that is 3.0 s of processor time and 1,500 modules, five times
    the cost of `import internnav_hf` with the hook (0.6 s after torch and transformers). Processors
    are looked up by class name in this registry only.
    """

    def find_spec(self, fullname, path=None, target=None):
        """The registry's spec; None for other modules."""
        if fullname != PROCESSOR_REGISTRY:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _RegistryLoader(spec.loader)
        return spec


class _RegistryLoader(Loader):
    """Loads the registry as `loader` does, then registers our processors."""

    def __init__(self, loader: Any):
        self.loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["loader"], name)

    def create_module(self, spec):
        """Create the module as `loader` does."""
        return self.loader.create_module(spec)

    def exec_module(self, module):
        """Execute the module as `loader` does, then register our processors."""
        self.loader.exec_module(module)
        _register_processors(module)


def _lazy(family: Family, part: str) -> LazyClass:
    module, _, name = str(family.places()[part]).rpartition(".")
    return LazyClass(f"{PACKAGE}.{module}", name, family.load("config"))


def _register_processors(registry) -> None:
    for family in FAMILIES:
        if family.processor is not None:
            processor = _lazy(family, "processor")
            registry.AutoProcessor.register(family.load("config"), processor, exist_ok=True)


def register() -> None:
    """Enter our models in AutoConfig and AutoModel, System2 in AutoModelForImageTextToText, and the
    processors in AutoProcessor.

    The real classes would bring transformers' modelling code, so `LazyClass`es stand for them.
    """
    for family in FAMILIES:
        config_class, model = family.load("config"), _lazy(family, "model")
        AutoConfig.register(config_class.model_type, config_class, exist_ok=True)
        AutoModel.register(config_class, model, exist_ok=True)
        if family.name == "System2":
            AutoModelForImageTextToText.register(config_class, model, exist_ok=True)
    if PROCESSOR_REGISTRY in sys.modules:
        _register_processors(sys.modules[PROCESSOR_REGISTRY])
    elif not any(isinstance(finder, _RegistryFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _RegistryFinder())
