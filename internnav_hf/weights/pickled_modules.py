"""State dicts in the forms in which checkpoints hold them: by themselves, in a dict, in a pair with
a loss, or as a whole pickled `nn.Module`, whose tensors lie in the dicts that it consists of.
"""

from typing import Any

from internnav_hf.weights.pickled_data import Thing

_TENSORS = ("_parameters", "_buffers")
_PARTS = ("state_dict", "model")
_MOST_TENSORS = 100_000  # modules may be shared at every level: so many names, so few bytes
_LONGEST_NAME = 10_000


def state_dict_of(content: Any) -> Any:
    """The state dict in the `content` of a file, or `content` itself if there is none.

    Raises ValueError for a module of more tensors than any model has.
    """
    if isinstance(content, tuple) and len(content) == 2:
        content = content[0]  # and the loss that it reached
    if isinstance(content, dict):
        kept = [content[name] for name in _PARTS if _holds_tensors(content.get(name))]
        content = kept[0] if kept else content
    return _module_tensors(content) if _is_module(content) else content


def _holds_tensors(content: Any) -> bool:
    return isinstance(content, dict) or _is_module(content)


def _is_module(content: Any) -> bool:
    state = content.state if isinstance(content, Thing) else None
    return isinstance(state, dict) and all(isinstance(state.get(n), dict) for n in _TENSORS)


def _module_tensors(module: Thing) -> dict[str, Any]:
    """What `module.state_dict()` would give: parameters and buffers of it and of its parts."""
    found: dict[str, Any] = {}
    open_modules = [("", module)]
    while open_modules:
        prefix, part = open_modules.pop()
        hidden = _names_in(part.state.get("_non_persistent_buffers_set"))
        for kind in _TENSORS:
            for name, value in part.state[kind].items():
                if value is not None and not (kind == "_buffers" and name in hidden):
                    found[f"{prefix}{name}"] = value
        inner = part.state.get("_modules")
        for name, value in inner.items() if isinstance(inner, dict) else ():
            if _is_module(value):
                open_modules.append((f"{prefix}{name}.", value))
        if len(found) + len(open_modules) > _MOST_TENSORS or len(prefix) > _LONGEST_NAME:
            raise ValueError(f"its module has more than {_MOST_TENSORS} tensors")
    return found


def _names_in(given: Any) -> list[Any]:
    """The items of a pickled set, which older protocols make by a call."""
    if isinstance(given, Thing) and len(given.arguments) == 1:
        given = given.arguments[0]
    return given if isinstance(given, list) else []
