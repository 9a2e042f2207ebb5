"""Pickled data read as data: nothing in a pickle is imported, called or changed by it.

An interpreter of pickle's opcodes that supports numbers, strings, bytes, lists, dicts and tuples. A
class or function is a `Name`; an object that a pickle would make by calling one is a `Thing`, which
keeps the function and its arguments, so that a pickled `nn.Module` can be searched as the dicts
that it consists of.
"""

import pickletools
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from pickletools import OpcodeInfo
from typing import Any, BinaryIO, NamedTuple

MOST_OPCODES = 4_000_000  # a published checkpoint has some 100,000
_PLAIN_KEYS = (str, int, float, bool, bytes, type(None))
_MARK = object()


class Name(NamedTuple):
    """A class or function that a pickle names, by module and name there; never imported."""

    module: str
    name: str

    def __str__(self):
        return f"{self.module}.{self.name}"


@dataclass(slots=True, eq=False)
class Thing:
    """The result that calling `made_by` with `arguments` would give; `state` is the state set on
    it, such as a module's attributes, `items` its added items, as a list or as pairs.
    """

    made_by: Any
    arguments: tuple = ()
    state: Any = None
    items: list = field(default_factory=list)

    def __str__(self):
        return f"a {self.made_by}" if isinstance(self.made_by, Name) else "an object of an object"


Call = Callable[[Any, tuple], Any]
"""Name or object, and its arguments -> the result; NOTHING if it is to stay a Thing."""
NOTHING = object()


def read_pickle(stream: BinaryIO, call: Call, persistent: Callable[[Any], Any]) -> Any:
    """The object in `stream`, which is then positioned behind it.

    `call` evaluates the few known functions; `persistent` resolves a persistent identifier. Raises
    ValueError for data that is not a pickle, or a pickle of too many parts.
    """
    reader = _Reader(call, persistent)
    for number, (opcode, argument, _) in enumerate(_opcodes(stream)):
        if number > MOST_OPCODES:
            raise ValueError(f"the pickle has more than {MOST_OPCODES} parts")
        if opcode.name == "STOP":
            return reader.pop()
        reader.step(opcode, argument)
    raise ValueError("the pickle ends early")


def _opcodes(stream: BinaryIO):
    try:
        yield from pickletools.genops(stream)
    except (UnicodeDecodeError, OverflowError) as error:
        raise ValueError(str(error)) from error


class _Reader:
    """A stack and a memo, as in pickle; a mark is an item of the stack."""

    def __init__(self, call: Call, persistent: Callable[[Any], Any]):
        self.call, self.persistent = call, persistent
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def top(self) -> Any:
        if not self.stack or self.stack[-1] is _MARK:
            raise ValueError("the pickle takes what is not there")
        return self.stack[-1]

    def pop(self) -> Any:
        top = self.top()
        self.stack.pop()
        return top

    def pop_to_mark(self) -> list[Any]:
        items = []
        while self.stack:
            item = self.stack.pop()
            if item is _MARK:
                return items[::-1]
            items.append(item)
        raise ValueError("the pickle takes what is not there")

    def step(self, opcode: OpcodeInfo, argument: Any) -> None:
        name = opcode.name
        if name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _LITERALS:
            self.stack.append(argument)
        elif name in _TUPLES:
            items = [self.pop() for _ in range(_TUPLES[name])]
            self.stack.append(tuple(items[::-1]))
        elif name in _STEPS:
            _STEPS[name](self, argument)
        else:
            raise ValueError(f"the pickle has {name}, which no file of weights needs")

    def remember(self, index: int | None) -> None:
        self.memo[len(self.memo) if index is None else index] = self.top()

    def recall(self, index: int) -> None:
        if index not in self.memo:
            raise ValueError("the pickle takes what is not there")
        self.stack.append(self.memo[index])

    def global_name(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self.stack.append(Name(module, name))

    def stack_global(self, _: None) -> None:
        name, module = self.pop(), self.pop()
        if not (isinstance(name, str) and isinstance(module, str)):
            raise ValueError("the pickle names a class by what is no text")
        self.stack.append(Name(module, name))

    def reduce(self, _: None) -> None:
        arguments, made_by = self.pop(), self.pop()
        self.stack.append(self._made(made_by, arguments))

    def new_with_keywords(self, _: None) -> None:
        keywords, arguments, made_by = self.pop(), self.pop(), self.pop()
        made = self._made(made_by, arguments)
        if isinstance(made, Thing) and keywords:
            made.state = keywords
        self.stack.append(made)

    def instance(self, argument: str) -> None:
        arguments = tuple(self.pop_to_mark())
        self.global_name(argument)
        self.stack.append(self._made(self.pop(), arguments))

    def object(self, _: None) -> None:
        made_by, *arguments = self.pop_to_mark() or [None]
        self.stack.append(self._made(made_by, tuple(arguments)))

    def _made(self, made_by: Any, arguments: Any) -> Any:
        arguments = arguments if isinstance(arguments, tuple) else (arguments,)
        found = self.call(made_by, arguments)
        return Thing(made_by, arguments) if found is NOTHING else found

    def build(self, _: None) -> None:
        state = self.pop()
        made = self.top()
        if isinstance(made, Thing):
            made.state = state  # other objects ignore it: dicts keep items, tensors numbers

    def put_items(self, items: list[Any]) -> None:
        target = self.top()
        if isinstance(target, list):
            target.extend(items)
        elif isinstance(target, Thing):
            target.items.extend(items)

    def put_pairs(self, flat: list[Any]) -> None:
        target, pairs = self.top(), list(zip(flat[::2], flat[1::2], strict=True))
        if isinstance(target, dict):
            target.update((_key(key), value) for key, value in pairs)
        elif isinstance(target, Thing):
            target.items.extend(pairs)

    def new_dict(self, _: None) -> None:
        flat = self.pop_to_mark()
        self.stack.append({})
        self.put_pairs(flat)


def _key(key: Any) -> Hashable:
    """`key` itself if it is plain. Others, which may take forever to hash, equal no other key."""
    parts = key if isinstance(key, tuple) and len(key) < 10 else (key,)
    return key if all(map(_is_plain, parts)) else Thing(key)


def _is_plain(key: Any) -> bool:
    """Large numbers are not plain: any number of them may share one hash."""
    return isinstance(key, _PLAIN_KEYS) and not (isinstance(key, int) and key.bit_length() > 60)


_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_CONSTANTS |= {"MARK": _MARK}
_LITERALS = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING",
    "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
# Sets are lists here, so that their items need not be hashed.
_STEPS_BY_OPCODES: dict[str, Callable[[_Reader, Any], Any]] = {
    "PROTO FRAME": lambda reader, argument: None,
    "POP": lambda reader, _: reader.stack.pop() if reader.stack else reader.pop(),
    "POP_MARK": lambda reader, _: reader.pop_to_mark(),
    "DUP": lambda reader, _: reader.stack.append(reader.top()),
    "EMPTY_LIST EMPTY_SET": lambda reader, _: reader.stack.append([]),
    "EMPTY_DICT": lambda reader, _: reader.stack.append({}),
    "LIST FROZENSET": lambda reader, _: reader.stack.append(reader.pop_to_mark()),
    "TUPLE": lambda reader, _: reader.stack.append(tuple(reader.pop_to_mark())),
    "DICT": _Reader.new_dict,
    "APPEND": lambda reader, _: reader.put_items([reader.pop()]),
    "APPENDS ADDITEMS": lambda reader, _: reader.put_items(reader.pop_to_mark()),
    "SETITEM": lambda reader, _: reader.put_pairs([reader.pop(), reader.pop()][::-1]),
    "SETITEMS": lambda reader, _: reader.put_pairs(reader.pop_to_mark()),
    "PUT BINPUT LONG_BINPUT MEMOIZE": _Reader.remember,
    "GET BINGET LONG_BINGET": _Reader.recall,
    "GLOBAL": _Reader.global_name,
    "STACK_GLOBAL": _Reader.stack_global,
    "REDUCE NEWOBJ": _Reader.reduce,
    "NEWOBJ_EX": _Reader.new_with_keywords,
    "INST": _Reader.instance,
    "OBJ": _Reader.object,
    "BUILD": _Reader.build,
    "BINPERSID": lambda reader, _: reader.stack.append(reader.persistent(reader.pop())),
}
_STEPS = {name: step for names, step in _STEPS_BY_OPCODES.items() for name in names.split()}
