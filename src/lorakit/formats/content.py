"""What stands at a path, read once: an adapter's folder, or one file of tensors."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from lorakit.core.errors import AdapterFileError, PlanError, did_you_mean, shortlist
from lorakit.formats import gguf_file, peft_config
from lorakit.formats.files import read_folder
from lorakit.formats.manifest import MANIFEST
from lorakit.formats.pickled import read_pickle
from lorakit.formats.tensors import check_tensors, read_metadata, read_tensors

PARTS = ("unet", "transformer", "text_encoder", "text_encoder_2", "text_encoder_3")
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".lora")
_SAFE = (".safetensors", ".gguf")


@dataclass(frozen=True)
class Content:
    """The known files of a folder, or the tensors of a single file, with their metadata.

    `source` is all that was read, byte for byte.
    """

    where: str
    files: Mapping[str, bytes] = field(default_factory=dict)
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    source: tuple[bytes, ...] = ()

    def sha256(self) -> str:
        """The hash of all that was read."""
        whole = hashlib.sha256()
        for part in self.source:
            whole.update(part)
        return whole.hexdigest()


@dataclass(frozen=True)
class Options:
    """What some files do not say and their reader must: see `lorakit.convert`.

    With `guess` the alpha is one to look at a file with, if it does not say its own.
    """

    component: str | None = None
    alpha: float | None = None
    enabled: tuple[bool, ...] | None = None
    guess: bool = False

    def __post_init__(self) -> None:
        if self.component is not None and self.component not in PARTS:
            raise PlanError(
                f"component is {self.component!r}; expected one of {', '.join(PARTS)}."
                + did_you_mean(str(self.component), PARTS)
            )
        if self.alpha is not None and not _is_scale(self.alpha):
            raise PlanError(f"alpha is {self.alpha!r}; expected a finite number other than 0.")


def _is_scale(alpha: Any) -> bool:
    number = isinstance(alpha, (int, float)) and not isinstance(alpha, bool)
    try:
        return number and math.isfinite(alpha) and alpha != 0
    except OverflowError:
        return False


def read_content(place: str | os.PathLike, *, pickles: bool = False) -> Content:
    """The adapter's content at a path. Raises `AdapterFileError` where there is none to read.

    Pickled files are read only with `pickles`, through a restricted unpickler.
    """
    path = Path(place).expanduser()
    if path.is_file():
        return _file(path, pickles)
    files, where = read_folder(path)
    if peft_config.CONFIG in files:
        if pickles and "adapter_model.bin" in files and "adapter_model.safetensors" not in files:
            inside = _file(path / "adapter_model.bin", pickles)
            return Content(where, files, inside.tensors, source=inside.source)
        return Content(where, files, source=tuple(files[name] for name in sorted(files)))
    file = _only_file(path, pickles)
    alone = _file(file, pickles)
    if MANIFEST in files:  # what stands beside a file of ours proves it as it does a folder
        files = {MANIFEST: files[MANIFEST], file.name: file.read_bytes()}
        return replace(alone, files=files)
    return alone


def _only_file(folder: Path, pickles: bool) -> Path:
    kinds = (*_SAFE, *(PICKLES if pickles else ()))
    found = sorted(path for path in folder.iterdir() if path.suffix in kinds and path.is_file())
    if len(found) != 1:
        what = (
            f"{len(found)} files of tensors ({shortlist(path.name for path in found)})"
            if found
            else f"no adapter: it lacks {peft_config.CONFIG}, and any file of tensors"
        )
        raise AdapterFileError(f"{folder} holds {what}. Name the adapter's folder or file.")
    return found[0]


def _file(path: Path, pickles: bool) -> Content:
    where = str(path)
    if path.suffix in PICKLES and not pickles:
        raise AdapterFileError(
            f"{where} is a pickle, which is not loaded as it is. `lorakit convert {path} OUT` "
            "reads the tensors out of it and writes an adapter's folder."
        )
    if path.suffix not in (*_SAFE, *PICKLES):
        raise AdapterFileError(
            f"{where} is a file; expected an adapter's folder, or a file that ends in "
            f"{' or '.join(_SAFE)}."
        )
    try:
        data = path.read_bytes()
    except OSError as error:
        raise AdapterFileError(f"{where} cannot be read: {error}.") from error
    if path.suffix == ".safetensors":
        tensors = read_tensors(data, where)
        return Content(where, {}, tensors, read_metadata(data), (data,))
    if path.suffix == ".gguf":
        values, tensors = gguf_file.read(data, where)
        told = {key: str(value) for key, value in values.items()}
        return Content(where, {}, check_tensors(tensors, where), told, (data,))
    return Content(where, {}, check_tensors(read_pickle(data, where), where), {}, (data,))
