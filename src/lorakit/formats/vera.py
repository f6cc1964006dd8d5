"""PEFT's folder of a VeRA adapter: the shared A and B once, and two vectors for each layer.

`base_model.vera_A` (rank, widest in) and `base_model.vera_B` (tallest out, rank) are cut to each
layer, and `vera_lambda_d` (rank,), `vera_lambda_b` (out,) stand under its path. All else is as in a
folder of LoRA, so it is read and written as one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from lorakit.core.errors import AdapterFileError, UnsupportedError, did_you_mean, shortlist
from lorakit.core.state import AdapterState
from lorakit.formats import peft
from lorakit.formats.content import Content, Options
from lorakit.formats.files import TENSORS
from lorakit.formats.manifest import read
from lorakit.formats.peft_config import CONFIG
from lorakit.formats.tensors import read_json, read_tensors
from lorakit.layers import MATRICES, geometry_of

name = "vera"
INPUTS = "inputs"  # in a manifest of ours: target -> columns of its A, which the tensors do not say
_PREFIX = "base_model."
_SHARED = {"A": f"{_PREFIX}vera_A", "B": f"{_PREFIX}vera_B"}
_VECTORS = {".vera_lambda_d": 0, ".vera_lambda_b": 1}
# Keys that a folder of LoRA has as well, by the name that they have there.
_SAME = {
    "base_model_name_or_path": "base_model_name_or_path", "inference_mode": "inference_mode",
    "layers_pattern": "layers_pattern", "layers_to_transform": "layers_to_transform",
    "modules_to_save": "modules_to_save", "r": "r", "target_modules": "target_modules",
    "task_type": "task_type", "vera_dropout": "lora_dropout", "fan_in_fan_out": "fan_in_fan_out",
    "auto_mapping": "auto_mapping", "revision": "revision", "peft_version": "peft_version",
}  # fmt: skip
_OWN = ("bias", "d_initial", "init_weights", "peft_type", "projection_prng_key", "runtime_config",
        "save_projection")  # fmt: skip
_BIAS = {"lora_only": "vera_only"}  # ours -> theirs


def matches(content: Content) -> bool:
    """Whether a folder's config says that it is a VeRA's."""
    data = content.files.get(CONFIG)
    return (
        data is not None and read_json(data, f"{content.where}/{CONFIG}").get("peft_type") == "VERA"
    )


def load(
    content: Content, modules: Mapping[str, nn.Module] | None, options: Options
) -> AdapterState:
    """The adapter in a folder. How wide its layers are, the base or our manifest has to say."""
    where = content.where
    config = read_json(content.files[CONFIG], f"{where}/{CONFIG}")
    odd = next((key for key in config if key not in (*_SAME, *_OWN)), None)
    if odd is not None:
        hint = did_you_mean(odd, _SAME)
        raise UnsupportedError(f"{where}/{CONFIG} has the key {odd!r}, which VeRA lacks.{hint}")
    tensors = dict(content.tensors)
    if not tensors:
        if TENSORS not in content.files:
            raise AdapterFileError(f"{where} has no {TENSORS}. Save the adapter as safetensors.")
        tensors = read_tensors(content.files[TENSORS], f"{where}/{TENSORS}")
    factors, vectors = _shared(tensors, where), _vectors(tensors, where)
    known = _inputs(content, modules)
    for path, (_, b) in vectors.items():
        A, B = factors["A"], factors["B"]
        columns = known.get(path)
        if not isinstance(columns, int) or not 0 < columns <= A.shape[1] or len(b) > len(B):
            raise AdapterFileError(
                f"{where}: how wide {path!r} is, a folder of VeRA does not say, or it does not fit "
                "the shared A and B. Pass the base model that the adapter is for."
            )
        tensors[f"{_PREFIX}model.{path}.lora_A.weight"] = A[:, :columns]
        tensors[f"{_PREFIX}model.{path}.lora_B.weight"] = B[: len(b)]
    theirs = {value: key for key, value in _BIAS.items()}
    plain = {ours: config[key] for key, ours in _SAME.items() if key in config}
    bias = str(config.get("bias", "none"))
    plain |= {"peft_type": "LORA", "lora_alpha": config.get("r"), "bias": theirs.get(bias, bias)}
    told = Content(where, {CONFIG: json.dumps(plain).encode()}, tensors)
    state = peft.load(told, modules, options)
    state.method = "vera"
    for path, low in state.low_rank.items():
        d, b = vectors[path]
        if len(d) != low.rank:
            raise AdapterFileError(
                f"{where}: {path!r} has {len(d)} numbers in d; its rank is {low.rank}. Config and "
                "tensors are not of one adapter."
            )
        low.vectors = (d, b)
    return state


def save(
    state: AdapterState, modules: Mapping[str, nn.Module] | None, options: Options
) -> dict[str, bytes]:
    """The folder's files, with the shared A and B, so that no reader has to draw them again."""
    del options
    lows = state.low_rank
    if state.method != "vera" or not lows:
        raise UnsupportedError("This adapter is no VeRA. Save or convert it as peft.")
    A = max((low.A for low in lows.values()), key=lambda factor: factor.shape[1])
    B = max((low.B for low in lows.values()), key=len)
    own = _without_factors(state)
    tensors = {_SHARED["A"]: A.contiguous(), _SHARED["B"]: B.contiguous(), **own}
    for path, low in lows.items():
        one = A.shape[0] == low.rank and torch.equal(low.A, A[:, : low.A.shape[1]])
        if not one or not torch.equal(low.B, B[: len(low.B)]):
            raise UnsupportedError(
                f"{path!r} has other frozen factors than the rest. Convert the adapter to peft."
            )
        assert low.vectors is not None
        for suffix, place in _VECTORS.items():
            tensors[f"{_PREFIX}model.{path}{suffix}"] = low.vectors[place].contiguous()
    whole = peft.config_of(state, modules)
    config: dict[str, Any] = {key: whole[ours] for key, ours in _SAME.items() if ours in whole}
    config |= {
        "bias": _BIAS.get(state.bias, state.bias), "d_initial": 0.1, "init_weights": True,
        "peft_type": "VERA", "projection_prng_key": 0, "save_projection": True,
    }  # fmt: skip
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    data = safetensors.torch.save(tensors, metadata={"format": "pt"})
    return {CONFIG: text.encode(), TENSORS: data}


def _without_factors(state: AdapterState) -> dict[str, Tensor]:
    """Biases and whole parameters, by PEFT's names."""
    named = peft.named_tensors(state, f"{_PREFIX}model.")
    return {key: value for key, value in named.items() if ".lora_" not in key}


def _shared(tensors: dict[str, Tensor], where: str) -> dict[str, Tensor]:
    missing = [key for key in _SHARED.values() if key not in tensors]
    if missing:
        raise UnsupportedError(
            f"{where}/{TENSORS} lacks {missing[0]}: A and B would have to be drawn again as they "
            "were in training. Save it with save_projection=True, as PEFT does by default."
        )
    found = {factor: tensors.pop(key) for factor, key in _SHARED.items()}
    if any(value.dim() != 2 for value in found.values()):
        shapes = [tuple(value.shape) for value in found.values()]
        raise AdapterFileError(f"{where}/{TENSORS}: A and B are {shapes}; expected two matrices.")
    return found


def _vectors(tensors: dict[str, Tensor], where: str) -> dict[str, tuple[Tensor, Tensor]]:
    parts: dict[str, dict[int, Tensor]] = {}
    for key in list(tensors):
        suffix = next((suffix for suffix in _VECTORS if key.endswith(suffix)), None)
        if suffix is not None:
            path = key.removesuffix(suffix).removeprefix(f"{_PREFIX}model.")
            parts.setdefault(path, {})[_VECTORS[suffix]] = tensors.pop(key)
    whole = {path: two for path, two in parts.items() if len(two) == len(_VECTORS)}
    if len(whole) < len(parts) or any(v.dim() != 1 for two in whole.values() for v in two.values()):
        odd = [path for path in parts if path not in whole] or list(parts)
        raise AdapterFileError(
            f"{where}/{TENSORS}: {shortlist(odd)} lacks one of its two vectors, or has matrices in "
            "their place. Fetch or save the adapter again."
        )
    return {path: (two[0], two[1]) for path, two in whole.items()}


def _inputs(content: Content, modules: Mapping[str, nn.Module] | None) -> dict[str, Any]:
    """Columns of each layer's A: of the base's layers, or as our manifest says."""
    if modules is None:
        manifest = read(content.files, content.where) or {}
        told = manifest.get("adapter", {}).get(INPUTS)
        return told if isinstance(told, dict) else {}
    found = {}
    for path, layer in modules.items():
        geometry = geometry_of(layer)
        if geometry is not None and geometry.name in MATRICES:
            found[path] = geometry.size(layer)[0]
    return found


def inputs_of(state: AdapterState) -> dict[str, int]:
    """What a manifest keeps, so that the folder can be read without the base."""
    return {path: low.A.shape[1] for path, low in state.low_rank.items()}
