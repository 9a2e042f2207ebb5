"""Tensors out of pickled checkpoints that hold other objects too, such as VLN-CE's configurations.

Nothing in the file is called or imported but what rebuilds tensors: every other class or function
becomes a stand-in that keeps nothing.
"""

import pickle
import struct
from collections import OrderedDict
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch._utils import _rebuild_parameter, _rebuild_tensor_v2

_REBUILD = {
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
}
# What a broken or hostile pickle raises, beside what torch and safetensors raise.
_BROKEN = (UnpicklingError, EOFError, OSError, RuntimeError, ValueError, LookupError)
_BROKEN = (*_BROKEN, TypeError, AttributeError, SafetensorError)
_BROKEN = (*_BROKEN, ArithmeticError, AssertionError, MemoryError, struct.error)


class _Nothing(dict):
    """Stands for anything else: takes what pickle does with an object, and forgets it."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__()

    def __setitem__(self, key: Any, value: Any) -> None:
        """Forget it."""

    def __setstate__(self, state: Any) -> None:
        """Forget it."""

    def append(self, item: Any) -> None:
        """Forget `item`."""

    def extend(self, items: Any) -> None:
        """Forget `items`."""


# The one in C takes the memory that a pickle asks for; this one takes what it fills.
class _Unpickler(pickle._Unpickler):  # pyright: ignore[reportAttributeAccessIssue]
    def find_class(self, module_name: str, global_name: str) -> Any:
        """`torch.load` itself knows of storages."""
        name = (module_name, global_name)
        if name == ("collections", "OrderedDict"):
            return OrderedDict
        rebuild = _REBUILD.get(name)
        # a function of its own, as pickles can change a function's attributes
        return _Nothing if rebuild is None else lambda *args: rebuild(*args)


class _InertPickle:
    """What `torch.load` needs of a pickle module."""

    Unpickler = _Unpickler

    @staticmethod
    def load(file, **kwargs: Any) -> Any:
        """As `pickle.load`."""
        return _Unpickler(file, **kwargs).load()


def read_tensors(file: Path) -> dict[str, Tensor]:
    """The state dict in `file`, by itself or as its `state_dict`; safetensors too.

    Raises ValueError where there is none.
    """
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        content = _load(file)
    except _BROKEN as error:
        found = f"{file.stat().st_size} bytes ({type(error).__name__})"
        raise ValueError(f"{file}: found {found}, expected a file of tensors.") from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    values = content.values() if isinstance(content, dict) else [content]
    is_named = isinstance(content, dict) and all(isinstance(key, str) for key in content)
    if not (is_named and content and all(map(torch.is_tensor, values))):
        found = sorted({type(value).__name__ for value in values}) or ["nothing"]
        raise ValueError(f"{file}: found {', '.join(found)}, expected a dict of names and tensors.")
    for name, value in content.items():
        _check_size(file, name, value)
    return dict(content)


def _check_size(file: Path, name: str, tensor: Tensor) -> None:
    """Raise ValueError where `tensor` claims more elements than `file` holds for it."""
    if tensor.layout != torch.strided:
        raise ValueError(f"{file}: {name}: found {tensor.layout}, expected a dense tensor.")
    held = tensor.untyped_storage().nbytes() // tensor.element_size()
    if tensor.numel() > held:
        raise ValueError(
            f"{file}: {name}: found {held} elements, expected {tuple(tensor.shape)} as it says."
        )


def _load(file: Path) -> Any:
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except UnpicklingError:  # it holds other objects
        return torch.load(file, map_location="cpu", weights_only=False, pickle_module=_InertPickle)
