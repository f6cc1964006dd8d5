"""Old `.bin`, `.pt` and `.ckpt` files: tensors out of a pickle, by a machine that knows no more.

A pickle is a program for a stack machine. This one has the instructions by which torch.save writes
tensors by name, and none that could call anything else: a file that holds more is refused at the
first word it does not know. Nothing is imported, and no value is larger than the file.
"""

from __future__ import annotations

import io
import pickletools
import zipfile
import zlib
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lorakit.core.errors import AdapterFileError, shortlist

_WRAPPERS = ("state_dict", "model", "lora")  # keys under which tools put the tensors
_MOST_AXES = 8
_STORAGES = {
    "FloatStorage": torch.float32, "DoubleStorage": torch.float64, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}  # fmt: skip
_CALLS = (
    "collections OrderedDict", "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter"
)  # fmt: skip
_CONSTANTS = ("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BININT", "BININT1", "BININT2",
              "LONG1", "BINFLOAT")  # fmt: skip
_DAMAGE = (
    ArithmeticError, AttributeError, EOFError, LookupError, NotImplementedError, OSError,
    RuntimeError, TypeError, ValueError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def read_pickle(data: bytes, where: str) -> dict[str, Tensor]:
    """The tensors by name; those of a list are named by their place. Raises `AdapterFileError`."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        entries = {entry.filename: entry for entry in archive.infolist()}
    except _DAMAGE as error:
        raise AdapterFileError(
            f"{where} is no file of torch.save since PyTorch 1.6 ({_first(error)}). Save it again "
            "with a newer PyTorch, or fetch it again."
        ) from error
    if sum(entry.file_size for entry in entries.values()) > len(data):
        raise AdapterFileError(
            f"{where} would unpack to more than it is, which torch.save never writes. Fetch it "
            "from another place."
        )
    try:
        held = _Machine(archive, where).run()
    except _DAMAGE as error:
        raise AdapterFileError(
            f"{where} is damaged ({type(error).__name__}: {_first(error)}). Fetch it again."
        ) from error
    return _tensors(held, where)


class _Word(NamedTuple):
    """A name out of the file, of something that torch.save uses."""

    text: str


class _Storage(NamedTuple):
    values: Tensor


_MARK = object()


class _Machine:
    """The stack, the memo, and one method for each kind of instruction."""

    def __init__(self, archive: zipfile.ZipFile, where: str):
        self.archive, self.where = archive, where
        programs = [name for name in archive.namelist() if name.endswith("data.pkl")]
        self.folder = programs[0].removesuffix("data.pkl")
        if f"{self.folder}byteorder" in archive.namelist():
            order = archive.read(f"{self.folder}byteorder")
            if order != b"little":
                raise ValueError("written by a machine of another byte order")
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, _Storage] = {}

    def run(self) -> Any:
        """What the program leaves on the stack."""
        for op, argument, _ in pickletools.genops(self.archive.read(f"{self.folder}data.pkl")):
            if op.name == "STOP":
                return self.stack.pop()
            self._step(op.name, argument)
        raise ValueError("it has no end")

    def _step(self, op: str, argument: Any) -> None:
        stack = self.stack
        if op in _CONSTANTS:
            stack.append(argument)
        elif op in ("PROTO", "FRAME"):
            pass
        elif op in ("NONE", "NEWTRUE", "NEWFALSE"):
            stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[op])
        elif op in ("EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE"):
            stack.append({"EMPTY_DICT": {}, "EMPTY_LIST": [], "EMPTY_TUPLE": ()}[op])
        elif op == "MARK":
            stack.append(_MARK)
        elif op in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self.memo[len(self.memo) if argument is None else argument] = stack[-1]
        elif op in ("BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif op == "TUPLE":
            stack.append(tuple(self._to_mark()))
        elif op in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(op[-1])
            stack[-count:] = [tuple(stack[-count:])]
        else:
            self._build(op, argument)

    def _build(self, op: str, argument: Any) -> None:
        stack = self.stack
        if op == "GLOBAL":
            stack.append(self._word(argument))
        elif op == "STACK_GLOBAL":
            name, module = stack.pop(), stack.pop()
            stack.append(self._word(f"{module} {name}"))
        elif op == "BINPERSID":
            stack.append(self._storage(stack.pop()))
        elif op == "REDUCE":
            given, word = stack.pop(), stack.pop()
            stack.append(self._call(word, given))
        elif op in ("SETITEM", "SETITEMS"):
            items = self._to_mark() if op == "SETITEMS" else [stack.pop(-2), stack.pop()]
            self._fill(stack[-1], items)
        elif op in ("APPEND", "APPENDS"):
            items = self._to_mark() if op == "APPENDS" else [stack.pop()]
            if type(stack[-1]) is not list:
                raise TypeError("it appends to what is no list")
            stack[-1].extend(items)
        elif op == "BUILD" and isinstance(stack[-2], dict):
            stack.pop()  # the versions of modules, beside a state_dict
        else:
            self._refuse(op)

    def _to_mark(self) -> list[Any]:
        place = len(self.stack) - 1 - self.stack[::-1].index(_MARK)
        items = self.stack[place + 1 :]
        del self.stack[place:]
        return items

    def _fill(self, target: Any, items: list[Any]) -> None:
        if type(target) is not dict or len(items) % 2:
            raise TypeError("it sets items of what is no dictionary")
        for key, value in zip(items[::2], items[1::2]):
            if not isinstance(key, str):
                self._refuse(f"a key of type {type(key).__name__}")
            target[key] = value

    def _word(self, text: str) -> _Word:
        module, _, name = text.partition(" ")
        if text not in _CALLS and not (module == "torch" and name in _STORAGES):
            self._refuse(text.replace(" ", "."))
        return _Word(text)

    def _storage(self, about: Any) -> _Storage:
        kind, word, key, _, count = about
        dtype = _STORAGES[word.text.partition(" ")[2]]
        if kind != "storage" or not isinstance(key, str) or not isinstance(count, int):
            raise TypeError("a storage is not described as torch.save does")
        if key not in self.storages:
            data = self.archive.read(f"{self.folder}data/{key}")
            values = torch.frombuffer(bytearray(data), dtype=dtype) if data else torch.empty(0)
            self.storages[key] = _Storage(values.to(dtype))
        found = self.storages[key]
        if found.values.dtype != dtype or found.values.numel() != count:
            raise ValueError("a storage has not the size that is said")
        return found

    def _call(self, word: Any, given: Any) -> Any:
        if not isinstance(word, _Word) or word.text not in _CALLS:
            self._refuse("a call")
        if word.text == "collections OrderedDict":
            return {}
        if word.text.endswith("_rebuild_parameter"):
            return given[0]
        return self._tensor(*given[:4])

    def _tensor(self, storage: Any, offset: Any, size: Any, stride: Any) -> Tensor:
        numbers = (offset, *size, *stride)
        if any(type(number) is not int or number < 0 for number in numbers):
            raise ValueError("a shape holds what is no size")
        if len(size) != len(stride) or len(size) > _MOST_AXES:
            raise ValueError("a shape does not fit its strides")
        values, count = storage.values, 1
        for axis in size:
            count *= axis
        last = offset + sum((axis - 1) * step for axis, step in zip(size, stride))
        if count and (last >= values.numel() or count > values.numel()):
            raise ValueError("a tensor claims more values than its storage holds")
        if not count:
            return torch.empty(size, dtype=values.dtype)
        return torch.as_strided(values, size, stride, offset).clone().contiguous()

    def _refuse(self, what: str) -> None:
        raise AdapterFileError(
            f"{self.where} holds more than tensors by name ({what[:80]}), so it is not read: to "
            "unpickle it could run code. Save its tensors alone, best as safetensors."
        )


def _tensors(held: Any, where: str) -> dict[str, Tensor]:
    for key in _WRAPPERS:
        if isinstance(held, dict) and isinstance(held.get(key), dict):
            held = held[key]
    if isinstance(held, (list, tuple)):
        held = {str(place): value for place, value in enumerate(held)}
    if not isinstance(held, dict):
        raise AdapterFileError(
            f"{where} holds a {type(held).__name__}; expected tensors by name, or a list of them."
        )
    odd = [key for key, value in held.items() if not isinstance(value, Tensor)]
    if odd:
        raise AdapterFileError(
            f"{where} holds more than tensors by name: {shortlist(odd)}. Save its tensors alone, "
            "best as safetensors."
        )
    return held


def _first(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
