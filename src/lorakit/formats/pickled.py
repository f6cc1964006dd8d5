"""Old `.bin`, `.pt` and `.ckpt` files: tensors out of a pickle that may hold nothing else.

torch's restricted unpickler runs no code of the file. What it hands over is checked once more: a
tensor that claims more values than its storage holds, or is no plain tensor, is refused.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from typing import Any

import torch
from torch import Tensor

from lorakit.core.errors import AdapterFileError, shortlist

_MOST_CODE = (
    16 * 2**20
)  # bytes of pickle opcodes; the names and shapes of any adapter need far less
_WRAPPERS = ("state_dict", "model", "lora")  # keys under which tools put the tensors


def read_pickle(data: bytes, where: str) -> dict[str, Tensor]:
    """The tensors by name; those of a list are named by their place. Raises `AdapterFileError`."""
    _check_zip(data, where)
    try:
        held = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise AdapterFileError(
            f"{where} holds more than tensors ({_first(error)}), so it is not read: to unpickle it "
            "could run code. Save its tensors alone, best as safetensors."
        ) from error
    except Exception as error:  # a damaged pickle fails in as many ways as there are opcodes
        raise AdapterFileError(
            f"{where} cannot be unpickled ({type(error).__name__}: {_first(error)}): it is "
            "damaged. Fetch it again."
        ) from error
    return _tensors(held, where)


def _check_zip(data: bytes, where: str) -> None:
    """Refuse what is no zip of torch.save, and one that would unpack to more than it is."""
    try:
        entries = zipfile.ZipFile(io.BytesIO(data)).infolist()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
        raise AdapterFileError(
            f"{where} is no file of torch.save since PyTorch 1.6 ({_first(error)}). Save it again "
            "with a newer PyTorch, or fetch it again."
        ) from error
    code = sum(entry.file_size for entry in entries if entry.filename.endswith(".pkl"))
    if sum(entry.file_size for entry in entries) > len(data) or code > _MOST_CODE:
        raise AdapterFileError(
            f"{where} would unpack to more than it is, which torch.save never writes. Fetch it "
            "from another place."
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
    odd = [str(key) for key, value in held.items() if not isinstance(key, str) or not _plain(value)]
    if odd:
        raise AdapterFileError(
            f"{where} holds more than plain tensors by name: {shortlist(odd)}. Save its tensors "
            "alone, best as safetensors."
        )
    return {key: value.detach().contiguous() for key, value in held.items()}


def _plain(value: Any) -> bool:
    return (
        type(value) in (Tensor, torch.nn.Parameter)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and value.numel() * value.element_size() <= value.untyped_storage().nbytes()
    )


def _first(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
