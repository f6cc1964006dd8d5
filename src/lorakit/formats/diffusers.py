"""diffusers' `pytorch_lora_weights.safetensors`: all parts of a pipeline, by their own paths.

Keys begin with the part (`unet.`, `transformer.`, `text_encoder.`; none at all in old files for a
U-Net). Behind the module's path stand PEFT's names, those of diffusers, or those of its attention
processors before 2023, also mixed. Alphas are in the metadata, as PEFT's config for each part;
without it alpha is the rank.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

import safetensors.torch
from torch import Tensor

from lorakit.core.errors import AdapterFileError
from lorakit.core.state import AdapterState
from lorakit.formats import peft
from lorakit.formats.components import PARTS, part_of
from lorakit.formats.content import Content, Options
from lorakit.formats.pairs import alpha_numbers, by_module, update_of
from lorakit.formats.peft_config import PeftConfig, parse_config
from lorakit.formats.tensors import read_json

name = "diffusers"
FILE = "pytorch_lora_weights.safetensors"
_METADATA = "lora_adapter_metadata"
_SUFFIXES = {
    ".lora_A.weight": "A", ".lora_B.weight": "B",
    ".lora.down.weight": "A", ".lora.up.weight": "B",
    ".lora_linear_layer.down.weight": "A", ".lora_linear_layer.up.weight": "B",
    "_lora.down.weight": "A", "_lora.up.weight": "B",
    ".lora_magnitude_vector.weight": "magnitude", ".lora_magnitude_vector": "magnitude",
    ".alpha": "alpha",
}  # fmt: skip
# The ends of attention processors' names -> those of the layers, in U-Nets and in CLIP.
_PROCESSOR = {"to_q": "to_q", "to_k": "to_k", "to_v": "to_v", "to_out": "to_out.0"}
_CLIP = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}


def matches(content: Content) -> bool:
    """Whether some tensor has one of the names, and none is PEFT's own."""
    ends = tuple(end for end, kind in _SUFFIXES.items() if kind in "AB")
    ours = [key for key in content.tensors if key.endswith(ends)]
    return bool(ours) and not any(key.startswith("base_model.model.") for key in ours)


def load(content: Content, modules: Collection[str] | None, options: Options) -> AdapterState:
    """The adapter in a file; paths begin with the part of the pipeline that they are in."""
    del modules
    where = content.where
    alpha_numbers(content.tensors, ".alpha", where)
    state = AdapterState({}, origin={"metadata": dict(content.metadata)})
    told = _configs(content)
    for key, parts in by_module(content.tensors, _SUFFIXES).items():
        if "?" in parts:
            raise AdapterFileError(f"{where} has a tensor {key!r}, which no such file has.")
        path = _path(key, options)
        component, inside = part_of(path, options)
        config = told.get(component) or told.get("")
        low = update_of(path, parts, where, alpha=config and config.alpha_of(inside))
        if config is not None and config.rank_of(inside) != low.rank:
            raise AdapterFileError(
                f"{where}: the metadata give {path!r} rank {config.rank_of(inside)}, but its "
                f"tensors have {low.rank}. They are not of one adapter."
            )
        state.low_rank[f"{component}.{inside}"] = low
    _settle(state, told, where)
    return state


def save(
    state: AdapterState, modules: Collection[str] | None, options: Options
) -> dict[str, bytes]:
    """The file, with PEFT's names and a config for each part in the metadata."""
    del modules
    tensors: dict[str, Tensor] = {}
    metadata: dict[str, Any] = {}
    by_part: dict[str, dict[str, Any]] = {}
    for path, low in state.low_rank.items():
        component, inside = part_of(path, options)
        by_part.setdefault(component, {})[inside] = low
    for component, low_rank in by_part.items():
        own = AdapterState(low_rank, method=state.method, rslora=state.rslora)
        tensors.update(peft.named_tensors(own, prefix=f"{component}."))
        config = peft.config_of(own, None)
        metadata.update({f"{component}.{key}": value for key, value in config.items()})
    packed = json.dumps(metadata, indent=2, sort_keys=True)
    return {FILE: safetensors.torch.save(tensors, metadata={"format": "pt", _METADATA: packed})}


def _configs(content: Content) -> dict[str, PeftConfig]:
    """PEFT's config for each part, where the metadata hold them."""
    if _METADATA not in content.metadata:
        return {}
    here = f"{content.where}: {_METADATA}"
    raw: dict[str, dict[str, Any]] = {}
    for key, value in read_json(content.metadata[_METADATA].encode(), here).items():
        component, _, field = key.partition(".")
        if component not in PARTS:  # the file of a single part does not name it
            component, field = "", key
        raw.setdefault(component, {})[field] = value
    return {part: parse_config({"peft_type": "LORA", **own}, here) for part, own in raw.items()}


def _settle(state: AdapterState, told: Mapping[str, PeftConfig], where: str) -> None:
    """What is one for the whole adapter: its method and its way of scaling."""
    for what in ("rslora", "dora"):
        if len({getattr(config, what) for config in told.values()}) > 1:
            raise AdapterFileError(f"{where}: use_{what} differs between the parts.")
    state.rslora = any(config.rslora for config in told.values())
    magnitudes = {low.magnitude is not None for low in state.low_rank.values()}
    if len(magnitudes) > 1:
        raise AdapterFileError(f"{where} has magnitudes for some modules and not for others.")
    state.method = "dora" if magnitudes == {True} else "lora"


def _path(key: str, options: Options) -> str:
    """The module's path, with the part of the pipeline before it."""
    path = key
    above, _, leaf = key.rpartition(".")
    if leaf in _PROCESSOR:
        if above.endswith(".processor"):
            path = f"{above.removesuffix('.processor')}.{_PROCESSOR[leaf]}"
        elif above.endswith(".self_attn"):
            path = f"{above}.{_CLIP[leaf]}"
    return ".".join(part_of(path, options))
