"""Reading bytes that others wrote: JSON and safetensors, with every oddity an error."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NoReturn

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lorakit.core.errors import AdapterFileError, shortlist

_WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
MOST_HEADER = 2**24  # bytes; 50,000 tensors and long notes of their training need less
_DAMAGE = (SafetensorError, ValueError, KeyError, TypeError, AttributeError)


def read_json(data: bytes, where: str) -> dict[str, Any]:
    """The JSON object in the bytes: a key that stands twice or a NaN is damage, not a value."""

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(items)
        if len(found) != len(items):
            keys = [key for key, _ in items]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise AdapterFileError(f"{where} has the key {twice!r} twice. Keep one of the two.")
        return found

    def constant(word: str) -> NoReturn:
        raise AdapterFileError(f"{where} holds {word}, which is no number. Repair the file.")

    try:
        value = json.loads(data.decode(), object_pairs_hook=pairs, parse_constant=constant)
    except (ValueError, RecursionError) as error:
        raise AdapterFileError(
            f"{where} is not valid JSON ({error}). Fetch or save the adapter again."
        ) from error
    if not isinstance(value, dict):
        raise AdapterFileError(
            f"{where} holds a {type(value).__name__}; expected a JSON object. Save it again."
        )
    return value


def read_tensors(data: bytes, where: str) -> dict[str, Tensor]:
    """All tensors of a safetensors file, each one floating-point and finite."""
    try:
        tensors = safetensors.torch.load(data)
    except _DAMAGE as error:
        raise _damaged(data, where, error) from error
    return check_tensors(tensors, where)


def read_shapes(path: Path) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """Shapes of the tensors and texts in a safetensors file's header; no tensor is read.

    That the tensors fill the file is checked, what they hold is not. Raises `AdapterFileError`.
    """
    start = b""
    try:
        with path.open("rb") as file:
            start = file.read(64)
        length = int.from_bytes(start[:8], "little")
        if length > MOST_HEADER:
            raise ValueError(f"its header would be of {length} bytes")
        with safe_open(path, framework="numpy") as opened:
            names = sorted(opened.keys())
            shapes = {key: tuple(opened.get_slice(key).get_shape()) for key in names}
            return shapes, dict(opened.metadata() or {})
    except OSError as error:
        raise AdapterFileError(f"{path} cannot be read: {error}. Fetch it again.") from error
    except _DAMAGE as error:
        raise _damaged(start, str(path), error) from error


def _damaged(data: bytes, where: str, error: Exception) -> AdapterFileError:
    return AdapterFileError(
        f"{where} is {_kind(data) or f'damaged ({error})'}. Fetch the adapter again, or save it "
        "again as safetensors."
    )


def read_metadata(data: bytes) -> dict[str, str]:
    """The texts in the header of a safetensors file that `read_tensors` has read."""
    length = int.from_bytes(data[:8], "little")
    found = json.loads(data[8 : 8 + length]).get("__metadata__") or {}
    return {str(key): str(value) for key, value in found.items()}


def check_tensors(tensors: dict[str, Tensor], where: str) -> dict[str, Tensor]:
    """The tensors in the order of their names, each one floating-point and finite."""
    if not tensors:
        raise AdapterFileError(f"{where} holds no tensors. Fetch or save the adapter again.")
    # Some tools write the alpha of a module as a whole number.
    whole = [k for k, v in tensors.items() if k.endswith(".alpha") and v.dtype in _WHOLE]
    tensors = {**tensors, **{key: tensors[key].float() for key in whole}}
    odd = [f"{key} ({value.dtype})" for key, value in tensors.items() if value.dtype not in FLOATS]
    if odd:
        raise AdapterFileError(
            f"{where} holds tensors that are not float16, bfloat16, float32 or float64: "
            f"{shortlist(odd)}. Save the adapter in one of these."
        )
    broken = [key for key, value in tensors.items() if not is_finite(value)]
    if broken:
        raise AdapterFileError(
            f"{where} holds values that are not finite, in {shortlist(broken)}: the run that made "
            "it diverged, or the file is damaged. Use an earlier checkpoint."
        )
    return dict(sorted(tensors.items()))


def is_finite(value: Tensor) -> bool:
    """Whether every number of the tensor is finite."""
    # No sum with an infinity or a NaN in it is finite, and summing is ten times as fast as looking
    # at each number. It may overflow where all are finite, so that only then each is looked at.
    return math.isfinite(value.sum()) or bool(torch.isfinite(value).all())


def _kind(data: bytes) -> str | None:
    """What a file that is no safetensors file is instead, where its first bytes tell."""
    if data.startswith((b"PK", b"\x80")):
        return "a pickle or zip of torch.save, which can run code"
    if data.startswith(b"version https://git-lfs"):
        return "the pointer of Git LFS and not the file (`git lfs pull` fetches it)"
    return "a web page" if data.lstrip()[:5].lower() in (b"<!doc", b"<html") else None
