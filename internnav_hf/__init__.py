"""Train, evaluate and run embodied-navigation models with Hugging Face Transformers.

Importing this package makes transformers' Auto classes know its models. Everything else loads when
it is used; `catalog` says what there is.
"""

import importlib
from typing import Any

from internnav_hf.catalog import load, public_names, register

__version__ = "0.1.0"
__all__ = sorted(public_names())  # pyright: ignore[reportUnsupportedDunderAll]

_SUBMODULES = ("data", "evaluation", "geometry", "models", "sim", "trainer")

register()


def __getattr__(name: str) -> Any:
    if name in (names := public_names()):
        return load(names[name])
    if name in _SUBMODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *public_names(), *_SUBMODULES])
