"""The folder of methods that PEFT has no config for: `adapter_config.json` says which and how.

`adapter_model.safetensors` holds `<module path> <parameter>` for what the method adds and
`extra <module path> <parameter>` for what is trained in full.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import safetensors.torch
from torch import Tensor, nn

from lorakit.core.errors import AdapterFileError, did_you_mean
from lorakit.core.state import AdapterState
from lorakit.formats.content import Content, Options
from lorakit.formats.files import TENSORS
from lorakit.formats.peft_config import CONFIG
from lorakit.formats.tensors import read_json, read_tensors

name = "own"
_TYPE = "LORAKIT"
_KEYS = {
    "peft_type": str, "method": str, "options": dict, "base_model_name_or_path": (str, type(None)),
    "task_type": (str, type(None)),
}  # fmt: skip
_EXTRA = "extra "


def matches(content: Content) -> bool:
    """Whether a folder's config says that it is one of these."""
    data = content.files.get(CONFIG)
    where = f"{content.where}/{CONFIG}"
    return data is not None and read_json(data, where).get("peft_type") == _TYPE


def load(
    content: Content, modules: Mapping[str, nn.Module] | None, options: Options
) -> AdapterState:
    """The adapter in a folder. Raises `AdapterFileError` for anything else than it should hold."""
    del modules, options
    where = content.where
    config = read_json(content.files[CONFIG], f"{where}/{CONFIG}")
    _check_config(config, where)
    if TENSORS not in content.files:
        raise AdapterFileError(f"{where} has no {TENSORS}: it is not whole. Fetch it again.")
    state = AdapterState(
        {}, method=config["method"], options=config["options"],
        base={"name": config["base_model_name_or_path"], "task": config["task_type"]},
    )  # fmt: skip
    for key, value in read_tensors(content.files[TENSORS], f"{where}/{TENSORS}").items():
        held = state.extras if key.startswith(_EXTRA) else state.parameters
        path, space, parameter = key.removeprefix(_EXTRA).rpartition(" ")
        if not space or not path or not parameter:
            raise AdapterFileError(
                f"{where}/{TENSORS} has {key!r}; expected a module's path, a space and a "
                "parameter's name. Save the adapter again."
            )
        held.setdefault(path, {})[parameter] = value
    if not state.parameters:
        raise AdapterFileError(f"{where} holds an adapter of nothing. Save it again.")
    return state


def save(
    state: AdapterState, modules: Mapping[str, nn.Module] | None, options: Options
) -> dict[str, bytes]:
    """The files of the adapter."""
    del modules, options
    config = {
        "peft_type": _TYPE, "method": state.method, "options": state.options,
        "base_model_name_or_path": state.base.get("name"), "task_type": state.base.get("task"),
    }  # fmt: skip
    tensors: dict[str, Tensor] = {}
    for prefix, held in (("", state.parameters), (_EXTRA, state.extras)):
        for path, values in held.items():
            tensors |= {f"{prefix}{path} {own}": value for own, value in values.items()}
    contiguous = {key: value.contiguous() for key, value in tensors.items()}
    return {
        CONFIG: (json.dumps(config, indent=2, sort_keys=True) + "\n").encode(),
        TENSORS: safetensors.torch.save(contiguous, metadata={"format": "pt"}),
    }


def _check_config(config: dict[str, Any], where: str) -> None:
    odd = next((key for key in config if key not in _KEYS), None)
    if odd is not None:
        raise AdapterFileError(
            f"{where}/{CONFIG} has the key {odd!r}, which it should not.{did_you_mean(odd, _KEYS)} "
            "Save the adapter again."
        )
    bad = next((k for k, kind in _KEYS.items() if not isinstance(config.get(k), kind)), None)
    if bad is not None:
        raise AdapterFileError(
            f"{where}/{CONFIG}: {bad} is {config.get(bad)!r}, which cannot be. Save the adapter "
            "again."
        )
