"""Files of `torch.save`, in the current format (a zip) and that before 1.6, without torch's own
reader: pickles are read as data (`pickled_data`), and no tensor is made before its sizes have been
compared with the size of the file.

Legend: a storage is a row of numbers in the file; a tensor is a view of one.
"""

import math
import mmap
import struct
import zipfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from internnav_hf.weights.pickled_data import MOST_OPCODES, NOTHING, Name, Thing, read_pickle

_MAGIC = 0x1950A86A20F9469CFC6C
_MOST_PICKLED = 64 << 20  # bytes of a zip's pickle and of its list of records
_MOST_DIMENSIONS = 32
_LENGTH = struct.Struct("<q")
_DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "UntypedStorage": torch.uint8,
}
_REBUILD = {
    f"_rebuild_{name}": name for name in ("tensor", "tensor_v2", "tensor_v3", "parameter")
} | {"_rebuild_parameter_with_state": "parameter"}
_NEW = ("uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2")
_NEW = (*_NEW, "float8_e5m2fnuz")
_BY_NAME = {str(dtype).removeprefix("torch."): dtype for dtype in _DTYPES.values()}
_BY_NAME |= {name: getattr(torch, name) for name in _NEW}


@dataclass(slots=True, eq=False)
class Storage:
    """`num_items` numbers of `dtype`; `start` and `num_bytes` locate them in the file."""

    key: str
    dtype: torch.dtype
    num_items: int
    start: int = -1
    num_bytes: int = -1
    data: Tensor | None = None


@dataclass(slots=True, eq=False)
class StoredTensor:
    """A tensor that is not read yet; see `TorchFile.tensor`."""

    storage: Storage
    dtype: torch.dtype
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        """Size of all elements; a place in the storage counts once for each element at it."""
        return math.prod(self.shape) * self.dtype.itemsize


class TorchFile:
    """`content` is the object that was saved, whose tensors are `StoredTensor`; `tensor` reads one.

    Raises ValueError for a file that `torch.save` cannot have written.
    """

    def __init__(self, file: Path):
        self.storages: dict[str, Storage] = {}
        self.num_copied = 0
        with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ) as data:
            self.size = len(data)
            self.file = file
            read = self._read_zip if data[:4] == b"PK\3\4" else self._read_stream
            self.content = read(data)

    def tensor(self, stored: StoredTensor) -> Tensor:
        """Tensors of one storage share its memory, as they did when they were saved."""
        storage = stored.storage
        if storage.data is None:
            buffer = bytearray(storage.num_bytes)
            with self.file.open("rb") as opened:
                opened.seek(storage.start)
                if opened.readinto(buffer) != storage.num_bytes:
                    raise ValueError("the file has become shorter")
            empty = torch.empty(0, dtype=torch.uint8)
            storage.data = torch.frombuffer(buffer, dtype=torch.uint8) if buffer else empty
        if not math.prod(stored.shape):
            return torch.empty(stored.shape, dtype=stored.dtype)
        is_bool, items = stored.dtype == torch.bool, storage.data
        items = items.ne(0) if is_bool else items.view(stored.dtype)
        return items.as_strided(stored.shape, stored.stride, stored.offset)

    # The zip of today: NAME/data.pkl, and NAME/data/KEY for each storage

    def _read_zip(self, data: mmap.mmap) -> Any:
        _check_directory(data)
        with zipfile.ZipFile(self.file) as archive:
            records = self._records(archive)
            prefix = _prefix(records)
            if f"{prefix}constants.pkl" in records or f"{prefix}version" not in records:
                raise ValueError(
                    "it holds a program (TorchScript) or another zip; save the model's "
                    "state_dict() with torch.save"
                )
            order = records.get(f"{prefix}byteorder")
            if order is not None and archive.read(order) != b"little":
                raise ValueError("its numbers are big-endian, expected little-endian")
            pickled = records[f"{prefix}data.pkl"]
            if pickled.file_size > _MOST_PICKLED:
                raise ValueError(f"data.pkl has {pickled.file_size} bytes, more than weights need")

            def persistent(identifier: Any) -> Storage:
                storage, key = self._storage(identifier)
                record = records.get(f"{prefix}data/{key}")
                if record is None:
                    raise ValueError(f"it names a storage {key[:40]!r} that it does not have")
                storage.start, storage.num_bytes = _place(data, record), record.file_size
                return storage

            return read_pickle(BytesIO(archive.read(pickled)), self._call, persistent)

    def _records(self, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
        """Records by name. ValueError for a repeated name, and for more than fit into the file."""
        entries = archive.infolist()
        records = {entry.filename: entry for entry in entries}
        if len(records) < len(entries):
            raise ValueError("two of its records have one name")
        for entry in entries:
            if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
                raise ValueError(
                    f"its record {entry.filename[:60]!r} is compressed, to be "
                    f"{entry.file_size} bytes; torch.save writes them plain"
                )
        if sum(entry.file_size for entry in entries) > self.size:
            raise ValueError("its records are longer than the file")
        return records

    # The stream of before: pickles one after the other, then all storages

    def _read_stream(self, data: mmap.mmap) -> Any:
        if data[257:262] == b"ustar":
            raise ValueError(
                "it is in torch's oldest format, a tar; open it with a torch that you trust it "
                "with, and save its state_dict() again"
            )
        first = [read_pickle(data, lambda *_: NOTHING, Thing) for _ in range(3)]
        if first[0] != _MAGIC or not isinstance(first[2], dict):
            raise ValueError("it does not begin as torch.save does")
        if first[2].get("little_endian") is not True:
            raise ValueError("its numbers are big-endian, expected little-endian")

        def persistent(identifier: Any) -> Any:
            if isinstance(identifier, tuple) and identifier[:1] == ("module",) and identifier[1:]:
                return identifier[1]
            return self._storage(identifier)[0]

        content = read_pickle(data, self._call, persistent)
        keys = read_pickle(data, lambda *_: NOTHING, Thing)
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            raise ValueError("it has no list of storages")
        if sorted(keys) != sorted(self.storages):
            raise ValueError(
                f"it names {len(self.storages)} storages and brings {len(keys)} of them"
            )
        self._find_storages(data, keys)
        return content

    def _find_storages(self, data: mmap.mmap, keys: list[str]) -> None:
        position = data.tell()
        for key in keys:
            storage = self.storages[key]
            if position + _LENGTH.size > self.size:
                raise ValueError(f"it ends before its storage {key[:40]!r}: is it cut?")
            (num_items,) = _LENGTH.unpack_from(data, position)
            position += _LENGTH.size
            storage.start, storage.num_bytes = position, num_items * storage.dtype.itemsize
            self._check(storage)
            position += storage.num_bytes

    # What both share

    def _storage(self, identifier: Any) -> tuple[Storage, str]:
        is_known = isinstance(identifier, tuple) and len(identifier) in (5, 6)
        if not is_known or identifier[0] != "storage" or identifier[5:] not in ((), (None,)):
            raise ValueError("it refers to what is no storage")
        _, kind, key, _, num_items = identifier[:5]
        dtype = _DTYPES.get(kind.name) if isinstance(kind, Name) else None
        if dtype is None or not kind.module.startswith("torch"):
            found = str(kind) if isinstance(kind, Name) else "no class"
            raise ValueError(f"it has a storage of {found[:60]}, expected ordinary numbers")
        if not isinstance(key, str) or not _is_count(num_items):
            raise ValueError("a storage of it has no name or no size")
        storage = self.storages.setdefault(key, Storage(key, dtype, num_items))
        if (storage.dtype, storage.num_items) != (dtype, num_items):
            raise ValueError(f"it describes its storage {key[:40]!r} in two ways")
        return storage, key

    def _check(self, storage: Storage) -> None:
        key, expected = storage.key, storage.num_items * storage.dtype.itemsize
        if not 0 <= storage.start <= storage.start + storage.num_bytes <= self.size:
            raise ValueError(f"it ends within its storage {key[:40]!r}: is it cut?")
        if storage.num_bytes != expected:
            raise ValueError(
                f"its storage {key[:40]!r} has {storage.num_bytes} bytes, expected {expected}"
            )

    def check(self, stored: StoredTensor) -> None:
        """Raise ValueError if `stored` exceeds its storage or the file."""
        storage, width = stored.storage, stored.dtype.itemsize
        self._check(storage)
        if storage.num_bytes % width:
            raise ValueError(f"found {storage.num_bytes} bytes, expected a multiple of {width}")
        if not (len(stored.shape) == len(stored.stride) <= _MOST_DIMENSIONS):
            raise ValueError(f"found {len(stored.shape)} sizes and {len(stored.stride)} strides")
        numbers = (stored.offset, *stored.shape, *stored.stride)
        if not all(map(_is_count, numbers)) or max(numbers, default=0) >= 1 << 62:
            raise ValueError(f"found sizes {_shown(numbers)}, expected whole numbers from 0")
        num_items, count = storage.num_bytes // width, math.prod(stored.shape)
        steps = zip(stored.shape, stored.stride, strict=True)
        last = stored.offset + sum((size - 1) * stride for size, stride in steps)
        if count and last >= num_items:
            shape = _shown(stored.shape)
            raise ValueError(f"found {num_items} elements, expected {shape} as it says")

    def _call(self, made_by: Any, arguments: tuple) -> Any:
        if not isinstance(made_by, Name):
            return NOTHING
        if made_by == ("collections", "OrderedDict"):
            return self._ordered(arguments)
        if made_by == ("torch", "Size") and len(arguments) == 1:
            return arguments[0]
        if made_by == ("torch._tensor", "_rebuild_from_type_v2") and len(arguments) == 4:
            rebuild, _, given, _ = arguments
            return self._call(rebuild, given) if isinstance(given, tuple) else NOTHING
        kind = _REBUILD.get(made_by.name) if made_by.module == "torch._utils" else None
        if kind == "parameter" and arguments and isinstance(arguments[0], StoredTensor):
            return arguments[0]
        if kind is None or kind == "parameter" or len(arguments) < 4:
            return NOTHING
        return _stored(kind, arguments)

    def _ordered(self, arguments: tuple) -> dict:
        pairs = arguments[0] if arguments and isinstance(arguments[0], list) else []
        self.num_copied += len(pairs)  # one list may be given again and again
        if self.num_copied > MOST_OPCODES:
            raise ValueError(f"its dicts are made of more than {MOST_OPCODES} pairs")
        is_pairs = all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs)
        return {key: value for key, value in pairs if isinstance(key, str)} if is_pairs else {}


def _stored(kind: str, arguments: tuple) -> Any:
    storage, offset, shape, stride = arguments[:4]
    dtype = storage.dtype if isinstance(storage, Storage) else None
    if kind == "tensor_v3":
        named = arguments[6] if len(arguments) > 6 else None
        dtype = _BY_NAME.get(named.name) if isinstance(named, Name) else None
    if dtype is None or not (isinstance(shape, tuple) and isinstance(stride, tuple)):
        return NOTHING
    return StoredTensor(storage, dtype, offset, shape, stride)


def _check_directory(data: mmap.mmap) -> None:
    """Raise ValueError for a list of records that would fill the memory by itself."""
    tail = data[-(1 << 17) :]
    end, large = tail.rfind(b"PK\5\6"), tail.rfind(b"PK\6\6")
    if end < 0 or len(tail) < end + 22:
        raise ValueError("its list of records is missing: is it cut?")
    (size,) = struct.unpack_from("<L", tail, end + 12)
    if large >= 0 and len(tail) >= large + 56:
        size = max(size % 0xFFFFFFFF, struct.unpack_from("<Q", tail, large + 40)[0])
    if size > _MOST_PICKLED // 8:
        raise ValueError(f"its list of records has {size} bytes, more than weights need")


def _prefix(records: dict[str, zipfile.ZipInfo]) -> str:
    found = [name for name in records if name.endswith("data.pkl") and name.count("/") <= 1]
    if len(found) != 1:
        raise ValueError("it is a zip without one data.pkl, as torch.save writes it")
    return found[0].removesuffix("data.pkl")


def _place(data: mmap.mmap, record: zipfile.ZipInfo) -> int:
    """Offset of the bytes of `record`, behind its own header."""
    start = record.header_offset
    if not 0 <= start <= len(data) - 30 or data[start : start + 4] != b"PK\3\4":
        raise ValueError(f"its record {record.filename[:60]!r} is not where it should be")
    name, extra = struct.unpack_from("<HH", data, start + 26)
    return start + 30 + name + extra


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _shown(numbers: tuple) -> str:
    shown = ", ".join(str(number)[:24] for number in numbers[:8])
    return f"({shown}{', …' if len(numbers) > 8 else ''})"
