"""The structure of an image pipeline: the parts of diffusers' folder that adapters are for."""

from __future__ import annotations

import importlib
import importlib.util
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lorakit.core.errors import ModelError, shortlist
from lorakit.formats.content import PARTS

INDEX = "model_index.json"


def is_pipeline(name: str) -> bool:
    """Whether a folder holds a pipeline of diffusers."""
    return (Path(name).expanduser() / INDEX).is_file()


def pipeline_structure(name: str) -> nn.ModuleDict:
    """Denoiser and text encoders by name, without weights, which takes neither memory nor time.

    Raises `ModelError` where diffusers is not there, or the folder has no such parts.
    """
    folder = Path(name).expanduser()
    if importlib.util.find_spec("diffusers") is None:
        raise ModelError(f"{name} is a pipeline of diffusers: pip install 'lorakit[images]'.")
    index = _json(folder / INDEX)
    found = {
        part: _structure(folder / part, *index[part])
        for part in PARTS
        if isinstance(index.get(part), list) and len(index[part]) == 2 and index[part][1]
    }
    if not found:
        raise ModelError(f"{name} has none of the parts {shortlist(PARTS, 9)} in its {INDEX}.")
    return nn.ModuleDict(found)


def _structure(folder: Path, library: Any, kind: Any) -> nn.Module:
    if library not in ("diffusers", "transformers") or not isinstance(kind, str):
        raise ModelError(f"{folder} is a {library}.{kind}, which is no part that is known.")
    cls: Any = getattr(importlib.import_module(library), kind, None)
    if cls is None:
        raise ModelError(f"{folder} is a {kind}, which this release of {library} does not have.")
    config = _json(folder / "config.json")
    try:
        with torch.device("meta"):
            if library == "diffusers":
                return cls.from_config(config)
            return cls(cls.config_class.from_dict(config))
    except (TypeError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"{folder}/config.json is of no {kind} ({error}).") from error


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}.") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path} is no object of JSON. Fetch the model again.")
    return found
