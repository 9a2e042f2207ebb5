"""Files in the place of weights that are broken, or made by somebody who means harm.

`WRITERS` write a file at a path, given another path that no reader may ever make.
"""

import io
import json
import os
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch

MAGIC = 0x1950A86A20F9469CFC6C
WEIGHTS = {"weight": torch.arange(6.0).reshape(2, 3)}


class Call:
    """Pickled as a call of `function`."""

    def __init__(self, function, *arguments):
        self.made = function, arguments

    def __reduce__(self):
        return self.made


def words(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text.encode())) + text.encode()


def number(value: int) -> bytes:
    return pickle.dumps(value, 2)[2:-1]


def numbers(values) -> bytes:
    return b"(" + b"".join(map(number, values)) + b"t"


def storage(count: int, key: str = "0", kind: str = "FloatStorage", more: bytes = b"") -> bytes:
    name = b"(" + words("storage") + f"ctorch\n{kind}\n".encode() + words(key) + words("cpu")
    return name + number(count) + more + b"tQ"


def tensor(count, shape, stride, offset=0, rebuild="_rebuild_tensor_v2", **kind) -> bytes:
    start = f"ctorch._utils\n{rebuild}\n(".encode() + storage(count, **kind) + number(offset)
    return start + numbers(shape) + numbers(stride) + b"\x89ccollections\nOrderedDict\n)RtR"


def state(value: bytes, name: str = "weight") -> bytes:
    return b"\x80\x02}" + words(name) + value + b"s."


def zipped(path: Path, pickled: bytes, records=None, order=b"little", **how) -> None:
    with zipfile.ZipFile(path, "w", **how) as archive:
        archive.writestr("a/data.pkl", pickled)
        archive.writestr("a/version", "3\n")
        archive.writestr("a/byteorder", order)
        for name, content in (records or {"0": bytes(16)}).items():
            archive.writestr(f"a/data/{name}", content)


def stream(pickled: bytes, keys=(), data: bytes = b"", little=True) -> bytes:
    info = {"protocol_version": 1001, "little_endian": little, "type_sizes": {}}
    head = b"".join(pickle.dumps(part, 2) for part in (MAGIC, 1001, info))
    return head + pickled + pickle.dumps(list(keys), 2) + data


def of_zip(pickled: bytes, records=None, **how):
    return lambda path, mark: zipped(path, pickled, records, **how)


def of_bytes(content: bytes):
    return lambda path, mark: path.write_bytes(content)


def of_object(make: Callable[[Path], object], zipfile_format=True):
    def write(path: Path, mark: Path) -> None:
        torch.save(make(mark), path, _use_new_zipfile_serialization=zipfile_format)

    return write


def source_patch(path: Path, mark: Path) -> None:
    """torch's own reader of this format writes NAME.patch, where NAME is an attribute set here."""
    named = (
        b"(}" + words("dump_patches") + b"\x88s}" + words("__name__") + words(str(mark)) + b"stb"
    )
    function = b"ctorch._utils\n_rebuild_tensor_v2\n" + named
    module = b"(" + words("module") + function + words("\nnew\n") + words("old") + b"tQ0"
    path.write_bytes(stream(b"\x80\x02" + module + state(b"I1\n")[2:]))


def tar(path: Path, mark: Path) -> None:
    with tarfile.open(path, "w") as archive:
        data = pickle.dumps(Call(os.mkdir, str(mark)))
        entry = tarfile.TarInfo("pickle")
        entry.size = len(data)
        archive.addfile(entry, io.BytesIO(data))


def program(path: Path, mark: Path) -> None:
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), str(path))


def bomb(path: Path, mark: Path) -> None:
    """A gigabyte of zeros in a megabyte."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", state(tensor(1 << 28, (1 << 28,), (1,))))
        archive.writestr("a/version", "3\n")
        with archive.open("a/data/0", "w", force_zip64=True) as record:
            for _ in range(64):
                record.write(bytes(1 << 20))


def twice(path: Path, mark: Path) -> None:
    zipped(path, state(tensor(4, (4,), (1,))))
    with zipfile.ZipFile(path, "a") as archive:
        archive._didModify = True
        entry = zipfile.ZipInfo("a/data/0")
        archive.NameToInfo.pop("a/data/0")
        archive.writestr(entry, bytes(16))


def many_names(path: Path, mark: Path) -> None:
    """One storage of half precision under many names, each of which would become a copy."""
    first = storage(50_000, kind="HalfStorage") + b"q\x01"
    start = b"ctorch._utils\n_rebuild_tensor_v2\n("
    rest = number(0) + numbers((50_000,)) + numbers((1,)) + b"\x89}tR"
    pairs = b"".join(
        words(str(i)) + start + (first if i == 0 else b"h\x01") + rest for i in range(500)
    )
    zipped(path, b"\x80\x02}(" + pairs + b"u.", {"0": bytes(100_000)})


def cut(path: Path, mark: Path) -> None:
    torch.save(WEIGHTS, path)
    path.write_bytes(path.read_bytes()[:-300])


def cut_stream(path: Path, mark: Path) -> None:
    torch.save(WEIGHTS, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:-5])


def loop(path: Path, mark: Path) -> None:
    path.symlink_to(path)


def layers(mark: Path) -> object:
    """A tuple of twice the tuple before, 60 times, as a key: its hash takes for ever."""
    stack = b"(" + words("ha") + b"tq\x00"
    for i in range(60):
        stack += b"0h" + bytes([i]) + b"h" + bytes([i]) + b"\x86q" + bytes([i + 1])
    return stack


def same_hash() -> bytes:
    """A dict of numbers that all hash to 0: each is compared with each."""
    keys = b"".join(number(i * (2**61 - 1)) + b"K\x01" for i in range(1, 30_000))
    return b"\x80\x02}(" + keys + b"u."


def one_list_again() -> bytes:
    """A long list of pairs, of which dict after dict is made."""
    pairs = b"](" + b"".join(words(f"{i}") + b"K\x01\x86" for i in range(20_000)) + b"e"
    again = b"ccollections\nOrderedDict\nh\x00\x85R"
    return b"\x80\x02" + pairs + b"q\x00" + again * 2_000 + b"."


ONE = tensor(4, (4,), (1,))
WRITERS: dict[str, Callable[[Path, Path], object]] = {
    "call_in_place_of_a_tensor": of_object(lambda mark: {"weight": Call(os.mkdir, str(mark))}),
    "call_in_a_stream": of_object(lambda mark: {"weight": Call(os.mkdir, str(mark))}, False),
    "eval": of_object(lambda mark: {"a": Call(eval, f"__import__('os').mkdir({str(mark)!r})")}),
    "nested_pickle": of_object(
        lambda mark: {"a": Call(pickle.loads, pickle.dumps(Call(os.mkdir, str(mark))))}
    ),
    "attribute_of_a_function": of_zip(
        state(b"cbuiltins\ngetattr\n(ctorch._utils\n_rebuild_tensor_v2\n" + words("a") + b"tR")
    ),
    "dotted_name": of_zip(
        state(words("torch._utils") + words("_rebuild_tensor_v2.__globals__.get") + b"\x93")
    ),
    "source_patch": source_patch,
    "tar": tar,
    "program": program,
    "extension_code": of_zip(b"\x80\x02\x82\x01."),
    "buffer": of_zip(b"\x80\x05\x97."),
    "storage_of_another_kind": of_zip(state(tensor(4, (4,), (1,), kind="QUInt8Storage"))),
    "complex_storage": of_zip(state(tensor(4, (4,), (1,), kind="ComplexFloatStorage"))),
    "storage_described_twice": of_zip(
        b"\x80\x02}" + words("a") + ONE + b"s" + words("b") + tensor(2, (2,), (1,)) + b"s."
    ),
    "storage_count_negative": of_zip(state(tensor(-4, (4,), (1,)))),
    "storage_count_absurd": of_zip(state(tensor(2**50, (2**50,), (1,)))),
    "storage_without_a_record": of_zip(state(tensor(1, (1,), (1,), key="../../secret"))),
    "storage_too_short": of_zip(state(tensor(1000, (1000,), (1,)))),
    "storage_is_a_view": of_bytes(stream(state(ONE.replace(b"tQ", b"K\x01K\x02K\x03\x87tQ", 1)))),
    "stream_without_storages": of_bytes(stream(state(ONE.replace(b"tQ", b"NtQ", 1)))),
    "stream_of_a_negative_length": of_bytes(
        stream(state(ONE.replace(b"tQ", b"NtQ", 1)), ["0"], struct.pack("<q", -4) + bytes(16))
    ),
    "stream_cut": cut_stream,
    "stream_big_endian": of_bytes(stream(state(ONE), little=False)),
    "identifier_is_no_storage": of_zip(state(words("0") + b"Q")),
    "offset_outside": of_zip(state(tensor(4, (1,), (1,), offset=10**9))),
    "offset_negative": of_zip(state(tensor(4, (1,), (1,), offset=-3))),
    "size_negative": of_zip(state(tensor(4, (-4,), (1,)))),
    "size_overflows": of_zip(state(tensor(4, (2**40, 2**40), (1, 1)))),
    "stride_negative": of_zip(state(tensor(4, (2,), (-1,)))),
    "stride_zero": of_zip(state(tensor(4, (2**40,), (0,)))),
    "stride_too_long": of_zip(state(tensor(4, (2, 2), (8, 1)))),
    "strides_missing": of_zip(state(tensor(4, (2, 2), (1,)))),
    "many_dimensions": of_zip(state(tensor(4, (1,) * 64, (1,) * 64))),
    "big_endian": of_zip(state(ONE), order=b"big"),
    "compressed": of_zip(state(ONE), compression=zipfile.ZIP_DEFLATED),
    "bomb": bomb,
    "record_twice": twice,
    "many_names": many_names,
    "bytes_that_are_not_there": of_zip(b"\x80\x04\x8e" + struct.pack("<Q", 2**50) + b"x."),
    "long_that_is_not_there": of_zip(b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"\x01."),
    "memo_of_billions": of_zip(b"\x80\x02}r" + struct.pack("<I", 2**32 - 1) + b"0."),
    "deep_lists": of_zip(state(b"]" * 100_000 + b"a" * 99_999)),
    "key_that_hashes_for_ever": of_zip(b"\x80\x02}" + layers(Path()) + b"K\x01s."),
    "keys_of_one_hash": of_zip(same_hash()),
    "one_list_again_and_again": of_zip(one_list_again()),
    "key_is_a_list": of_zip(b"\x80\x02}]K\x01s."),
    "key_is_a_number": of_object(lambda mark: {0: torch.ones(1)}),
    "opcodes_without_arguments": of_zip(b"\x80\x02RRb\x81."),
    "pickle_without_an_end": of_zip(b"\x80\x02}"),
    "sparse": of_object(lambda mark: {"weight": torch.eye(3).to_sparse()}),
    "quantised": of_object(
        lambda mark: {"weight": torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)}
    ),
    "meta": of_object(lambda mark: {"weight": torch.empty(3, device="meta")}),
    "text": of_object(lambda mark: {"weight": "text"}),
    "list": of_object(lambda mark: [torch.ones(1)]),
    "nothing": of_object(lambda mark: {}),
    "zip_of_something_else": lambda path, mark: zipfile.ZipFile(path, "w").writestr("a", "b"),
    "empty": of_bytes(b""),
    "noise": of_bytes(bytes(range(256)) * 20),
    "web_page": of_bytes(b"\n<!DOCTYPE html><html>Log in</html>"),
    "pointer": of_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"),
    "cut": cut,
    "folder": lambda path, mark: path.mkdir(),
    "pipe": lambda path, mark: os.mkfifo(path),
    "link_to_itself": loop,
    "missing": lambda path, mark: None,
}


def safetensors(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(dtype="F32", shape=(1,), place=(0, 4)) -> dict:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(place)}


SAFETENSORS: dict[str, bytes] = {
    "header_of_exabytes": safetensors(b"{}", length=2**60),
    "header_cut": safetensors(b'{"a"', length=400),
    "header_deep": safetensors(b"[" * 100_000),
    "header_is_a_list": safetensors(b"[]"),
    "header_is_no_json": safetensors(b"hello"),
    "no_tensor": safetensors({}),
    "name_twice": safetensors(b'{"a":1,"a":2}'),
    "entry_is_a_number": safetensors({"a": 1}),
    "unknown_dtype": safetensors({"a": entry("X9")}, bytes(4)),
    "shape_overflows": safetensors({"a": entry(shape=(2**32, 2**32))}, bytes(4)),
    "shape_negative": safetensors({"a": entry(shape=(-1,))}, bytes(4)),
    "offsets_outside": safetensors({"a": entry(shape=(100,), place=(0, 400))}, bytes(4)),
    "offsets_overlap": safetensors({"a": entry(), "b": entry()}, bytes(4)),
    "offsets_with_a_hole": safetensors({"a": entry(), "b": entry(place=(8, 12))}, bytes(12)),
    "offsets_backwards": safetensors({"a": entry(place=(4, 0))}, bytes(4)),
    "metadata_of_numbers": safetensors({"__metadata__": {"a": 1}, "a": entry()}, bytes(4)),
    "metadata_is_a_list": safetensors({"__metadata__": [], "a": entry()}, bytes(4)),
    "name_is_half_a_character": safetensors({"\ud800": entry()}, bytes(4)),
    "header_in_utf16": safetensors(json.dumps({"a": entry()}).encode("utf-16"), bytes(4)),
    "more_behind": safetensors({"a": entry()}, bytes(400)),
    "data_cut": safetensors({"a": entry(shape=(100,), place=(0, 400))}, bytes(200)),
    "seven_bytes": bytes(7),
    "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
    "web_page": b"<html>Log in</html>",
    "empty": b"",
}
