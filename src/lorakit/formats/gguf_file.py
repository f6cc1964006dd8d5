"""The container GGUF: a header of typed values, a table of tensors, and their aligned data.

Little-endian: magic, version, two counts; values as (name, type, value); tensors as (name, axes
from the last to the first, type, offset); padding; data. After ggml's docs/gguf.md; that offsets
follow each other without a gap is what ggml's src/gguf.cpp demands.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from mmap import mmap
from typing import Any

import torch
from torch import Tensor

from lorakit.core.errors import AdapterFileError, UnsupportedError

MAGIC = b"GGUF"
ALIGNMENT = "general.alignment"
_VERSIONS = (2, 3)  # their layout is the same
_MOST = 2**16  # values, or tensors; an adapter has hundreds
_MOST_ENTRIES = 2**18  # texts in arrays
_MOST_LETTERS = 2**24  # bytes of all names and texts
_NUMBERS = {
    0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"
}  # fmt: skip
_TEXT, _ARRAY = 8, 9
_TYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 30}
_DTYPES = {number: dtype for dtype, number in _TYPES.items()}


class NoAdapterError(UnsupportedError):
    """A GGUF of another type: a model, mostly."""


def write(values: Mapping[str, str | int | float], tensors: Mapping[str, Tensor]) -> bytes:
    """The file; whole numbers as uint32, others as float32, and float64 tensors as float32."""
    parts = [MAGIC, struct.pack("<IQQ", _VERSIONS[-1], len(tensors), len(values))]
    parts += [_text(key) + _value(value) for key, value in values.items()]
    body: list[bytes] = []
    offset = 0
    for key, tensor in tensors.items():
        kept = tensor.detach().to("cpu", tensor.dtype if tensor.dtype in _TYPES else torch.float32)
        data = kept.contiguous().view(torch.uint8).numpy().tobytes()
        axes = struct.pack(f"<I{kept.dim()}Q", kept.dim(), *reversed(kept.shape))
        parts.append(_text(key) + axes + struct.pack("<IQ", _TYPES[kept.dtype], offset))
        body.append(_padded(data))
        offset += len(body[-1])
    return _padded(b"".join(parts)) + b"".join(body)


def read(data: bytes, where: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The values and tensors of an adapter's file. Raises `AdapterFileError` where it is damaged.

    An array is only walked over, and its value is its length.
    """
    cursor, values, table = _head(data, where)
    found: dict[str, Tensor] = {}
    for key, (shape, dtype, raw) in _places(cursor, table, values.get(ALIGNMENT, 32)):
        found[key] = torch.frombuffer(bytearray(raw), dtype=dtype).view(shape)
    return values, found


def read_shapes(
    data: bytes | mmap, where: str
) -> tuple[dict[str, Any], dict[str, tuple[int, ...]]]:
    """The values and the shapes of the tensors; of a mapped file only the head is touched."""
    cursor, values, table = _head(data, where)
    places = _places(cursor, table, values.get(ALIGNMENT, 32))
    return values, {key: shape for key, (shape, *_) in places}


def _head(data: bytes | mmap, where: str) -> tuple[_Cursor, dict[str, Any], dict[str, Any]]:
    cursor = _Cursor(data, where)
    if cursor.take(4) != MAGIC:
        raise AdapterFileError(f"{where} is no GGUF file. Fetch the adapter again.")
    version = cursor.number("I")
    if version not in _VERSIONS:
        raise UnsupportedError(
            f"{where} is GGUF of version {version} (or of another byte order); supported are 2 and "
            "3, little-endian. Convert the adapter with a newer llama.cpp."
        )
    counts = [cursor.number("Q") for _ in range(2)]
    if max(counts) > _MOST:
        raise cursor.damaged(f"it claims {counts[0]} tensors and {counts[1]} values")
    values = cursor.named(counts[1], cursor.typed)
    if "general.type" not in values:
        raise NoAdapterError(_no_adapter(where, "model"))
    return cursor, values, cursor.named(counts[0], cursor.entry)


def _no_adapter(where: str, kind: object) -> str:
    return (
        f"{where} is GGUF of the type {kind!r}; expected an adapter. Name the file that "
        "convert_lora_to_gguf.py made."
    )


def _places(
    cursor: _Cursor, table: dict[str, Any], step: Any
) -> Iterator[tuple[str, tuple[tuple[int, ...], torch.dtype, memoryview]]]:
    """Shape, dtype and bytes of each tensor."""
    if not isinstance(step, int) or not 8 <= step <= 4096 or step & (step - 1):
        raise cursor.damaged(f"its alignment is {step!r}")
    start, end = -(-cursor.place // step) * step, 0
    for key, (shape, kind, offset) in table.items():
        if kind not in _DTYPES:
            raise UnsupportedError(
                f"{cursor.where}: {key!r} is of ggml's type {kind}, which is quantised; supported "
                "are f32, f16 and bf16. Convert the adapter again with --outtype f32."
            )
        if offset != end:
            raise cursor.damaged(f"{key!r} begins at {offset} and not at {end}")
        count, dtype = 1, _DTYPES[kind]
        for axis in shape:
            count *= axis
        cursor.place = start + offset
        raw = cursor.take(count * dtype.itemsize)
        yield key, (shape, dtype, raw)
        end = -(-(offset + len(raw)) // step) * step
    if len(cursor.data) > start + end:
        raise cursor.damaged("there are bytes after the last tensor")


class _Cursor:
    """A place in the file; nothing is taken that the file does not have."""

    def __init__(self, data: bytes | mmap, where: str) -> None:
        self.data, self.where, self.place = memoryview(data), where, 0
        self.texts = self.letters = 0

    def damaged(self, what: str) -> AdapterFileError:
        return AdapterFileError(f"{self.where} is damaged: {what}. Fetch the adapter again.")

    def take(self, count: int) -> memoryview:
        if count > len(self.data) - self.place:
            raise self.damaged(f"it ends before the {count} bytes at {self.place} do")
        self.place += count
        return self.data[self.place - count : self.place]

    def number(self, code: str) -> Any:
        return struct.unpack(f"<{code}", self.take(struct.calcsize(f"<{code}")))[0]

    def text(self) -> str:
        length = self.number("Q")
        held = self.take(length)
        self.letters += length
        if self.letters > _MOST_LETTERS:
            raise self.damaged(f"its texts are of {self.letters} bytes")
        try:
            return bytes(held).decode()
        except UnicodeDecodeError as error:
            raise self.damaged(f"a text before {self.place} is not UTF-8") from error

    def typed(self, key: str) -> Any:
        value = self.value(self.number("I"))
        # Said at once: a model's texts, which may be more than is read here, come behind it.
        if key == "general.type" and value != "adapter":
            raise NoAdapterError(_no_adapter(self.where, value))
        return value

    def value(self, kind: int) -> Any:
        if kind == _TEXT:
            return self.text()
        if kind == _ARRAY:
            return self.array(self.number("I"), self.number("Q"))
        if kind not in _NUMBERS:
            raise self.damaged(f"there is no type {kind} of values")
        return self.number(_NUMBERS[kind])

    def array(self, kind: int, count: int) -> int:
        self.texts += count if kind == _TEXT else 0
        if kind == _TEXT and self.texts <= _MOST_ENTRIES:
            for _ in range(count):
                self.take(self.number("Q"))
        elif kind in _NUMBERS:
            self.take(count * struct.calcsize(f"<{_NUMBERS[kind]}"))
        else:
            raise self.damaged(f"it has an array of {count} values of type {kind}")
        return count

    def entry(self, key: str) -> tuple[tuple[int, ...], int, int]:
        axes = self.number("I")
        if not 1 <= axes <= 4:
            raise self.damaged(f"a tensor has {axes} axes")
        shape = tuple(self.number("Q") for _ in range(axes))[::-1]
        if 0 in shape:
            raise self.damaged("a tensor is empty")
        return shape, self.number("I"), self.number("Q")

    def named(self, count: int, read_one: Any) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for _ in range(count):
            key = self.text()
            if key in found:
                raise self.damaged(f"{key!r} stands twice")
            found[key] = read_one(key)
        return found


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def _value(value: str | int | float) -> bytes:
    if isinstance(value, str):
        return struct.pack("<I", _TEXT) + _text(value)
    return struct.pack("<II", 4, value) if isinstance(value, int) else struct.pack("<If", 6, value)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 32)
