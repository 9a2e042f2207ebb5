"""Tensors from third-party files: safetensors, and files of `torch.save`, old format or new.

Nothing in a file is called or imported, and no tensor is made before its sizes have been compared
with the file: see `pickled_data` and `torch_files`.
"""

from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from internnav_hf.weights.pickled_modules import state_dict_of
from internnav_hf.weights.torch_files import StoredTensor, TorchFile
from internnav_hf.weights.weight_files import (
    BROKEN,
    SAFETENSORS,
    check_file,
    read_header,
    reason_of,
)

_TENSOR = "Tensor"
_EXPANDED = 1 << 20  # bytes by which a small file's tensors may exceed it, if views repeat numbers
_EXPECTED = ", expected a dict of names and tensors"


def read_tensors(file: str | Path) -> dict[str, Tensor]:
    """The state dict in `file`, in any form that `pickled_modules` knows; safetensors too.

    Objects of other kinds next to it stay unread. Raises ValueError if there is none.
    """
    file = check_file(file)
    if file.suffix == SAFETENSORS:
        read_header(file)
    try:
        return load_file(file) if file.suffix == SAFETENSORS else _named_tensors(file)
    except (*BROKEN, ValueError, RecursionError) as error:
        problem = reason_of(error)
        if not problem.endswith(_EXPECTED):
            size = file.stat().st_size
            problem = f"found {size} bytes ({problem}), expected a file of tensors only"
        raise ValueError(f"{file}: {problem}.") from error


def _named_tensors(file: Path) -> dict[str, Tensor]:
    opened = TorchFile(file)
    content = state_dict_of(opened.content)
    if not isinstance(content, dict):
        raise ValueError(f"found {_kind(content)}{_EXPECTED}")
    kinds = {_kind(value) for value in content.values()} | {_kind(name) for name in content} - {
        "str"
    }
    if kinds != {_TENSOR}:
        found = ", ".join(sorted(kinds)[:5]) or "nothing"
        raise ValueError(f"found {found}{_EXPECTED}")
    for name, value in content.items():
        try:
            opened.check(value)
        except ValueError as error:
            raise ValueError(f"{name[:80]}: {error}") from error
    # tied weights count twice; a file with one storage under a thousand names is no model
    described = sum(value.num_bytes for value in content.values())
    if described > 4 * opened.size + _EXPANDED:
        raise ValueError(f"its tensors would have {described} bytes, of {opened.size} in the file")
    return {name: opened.tensor(value) for name, value in content.items()}


def _kind(value: Any) -> str:
    if isinstance(value, StoredTensor):
        return _TENSOR
    is_plain = isinstance(value, int | float | str | bytes | list | tuple | dict | None)
    return type(value).__name__ if is_plain else str(value)[:80]
